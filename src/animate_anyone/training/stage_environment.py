"""Animate Anyone 2 (section 3): the character in the environment of a video, with the objects of that video.

All networks but the VAE and the image encoder are trained, on single frames or on clips in a row, to rebuild clips
from what they were split into (``scene_split``).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from animate_anyone.conditions.environment import latent_mask
from animate_anyone.errors import InputError
from animate_anyone.first_guess.collage import collage
from animate_anyone.first_guess.guess import join_guess
from animate_anyone.models.denoising_unet import DenoisingUNet, join_environment
from animate_anyone.models.finest_attention import attends_finest
from animate_anyone.models.image_tokens import image_tokens
from animate_anyone.models.object_guider import ObjectGuider
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.pose_modulation import PoseModulation
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.models.weight_files import read_settings
from animate_anyone.progress import SILENT, Progress
from animate_anyone.sampling.loading import load_network
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.training.autoencoder import to_pixels
from animate_anyone.training.clips import stream
from animate_anyone.training.config import Recipe
from animate_anyone.training.loading import Batch
from animate_anyone.training.loop import Stage
from animate_anyone.training.objective import noised_target, number_dropped, part_of_step, weighted_mean_square
from animate_anyone.training.scene_clips import SceneClips
from animate_anyone.training.scene_split import Drawing, character_reference, pass_over, split_scene
from animate_anyone.training.stage_image import (
    ImageStage,
    build_scheduler,
    check_pipeline_options,
    init_folder,
    pipeline_options,
    pose_input,
)


class EnvironmentStage(ImageStage):
    """Denoising UNet, ReferenceNet, pose modulation and object guider.

    Starts from ``recipe.init``: whatever the image stage starts from, a model of Animate Anyone, or one of this stage.
    ``data.consecutive`` trains clips in a row, with temporal layers; else frames are trained one by one, without.
    """

    def __init__(self, recipe: Recipe, progress: Progress = SILENT) -> None:
        Stage.__init__(self)  # the image stage's clips are others
        assert recipe.environment is not None
        self.recipe, self.settings = recipe, recipe.environment
        torch.manual_seed(recipe.seed)
        init = init_folder(recipe)
        self.vae = load_network(AutoencoderKL, init / "vae")
        self.image_encoder = load_network(CLIPVisionModelWithProjection, init / "image_encoder")
        self.options = pipeline_options(recipe, init)
        self._check_options()
        self.reference_net, self.reference_control = None, None
        self.object_guider: ObjectGuider | None = None
        self._build(init)
        self.scheduler = build_scheduler(recipe, init)
        self.set_trainable()
        self._check_pose_pictures()
        side = recipe.data.pose_size
        self.drawing = Drawing((side, side), recipe.data.skeleton_style)
        self.clips = SceneClips(recipe.data, recipe.seed, progress)

    def _check_options(self) -> None:
        if bool(self.options.get("reference_latents")) != bool(self.options.get("carried_reference")):
            raise InputError(
                "recipe: networks.pipeline.reference_latents and carried_reference go together in stage environment, "
                "where the reference is carried into the environment; give both or neither"
            )
        if self.path != "reference_net":
            raise InputError(
                f"recipe: networks.pipeline.reference_path is {self.path!r}; stage environment needs reference_net"
            )
        # A model of Animate Anyone may stretch pictures of any size to the video's; those of this method do not.
        if self.options.pop("stretch", False) and self.recipe.networks.pipeline.get("stretch"):
            raise InputError("recipe: networks.pipeline.stretch is true; stage environment goes without")
        check_pipeline_options(self.options)

    def _build(self, init: Path) -> None:
        unet_config = init / "denoising_unet" / "config.json"
        if unet_config.is_file() and read_settings(unet_config).get("environment_channels"):
            self._load(init)
        else:
            super()._build(init)
            self._widen()
        unet, longest = self.denoising_unet, self.denoising_unet.config["motion_max_seq_length"]
        if self.in_a_row and not unet.config["use_motion_module"]:
            self.denoising_unet = unet.with_motion()
        elif not self.in_a_row and unet.config["use_motion_module"]:
            raise InputError(
                f"recipe: data.consecutive is false, and {init} has temporal layers, which single frames cannot train;"
                " give data.consecutive=true"
            )
        if self.in_a_row and self.targets > longest:
            raise InputError(f"recipe: data.frames_per_clip is {self.targets}; the temporal layers take {longest}")

    def _widen(self) -> None:
        """From Animate Anyone's networks to those of this method, which at first do much the same."""
        settings = self.settings
        self.denoising_unet = self.denoising_unet.with_environment(
            object_blending=settings.object_blending,
            blending_weights=settings.blending_weights,
            blending_place=settings.blending_place,
            reference_blocks=settings.reference_blocks,
            finest_attention=settings.finest_attention,
        )
        if settings.finest_attention:
            assert self.reference_net is not None
            self.reference_net = self.reference_net.with_finest_attention()
        config = self.denoising_unet.config
        if settings.object_blending != "none":
            self.object_guider = ObjectGuider(config["out_channels"], tuple(config["block_out_channels"]))
        if settings.pose_modulation:
            try:
                self.pose_guider = PoseModulation.from_pose_guider(self.pose_guider, **settings.modulation)  # type: ignore[assignment]
            except (TypeError, ValueError) as error:
                raise InputError(f"recipe: environment.modulation: {' '.join(str(error).split())}") from error

    def _load(self, init: Path) -> None:
        """The networks of a model of this method, which must be what the recipe says."""
        settings, unet = self.settings, load_network(DenoisingUNet, init / "denoising_unet")
        told = {name: unet.config[name] for name in ("reference_blocks", "object_blending", "blending_weights")}
        if settings.object_blending != "none":
            told["blending_place"] = unet.config["blending_place"]
        told["pose_modulation"] = (init / "pose_modulation").is_dir()
        # Networks that attend there on the way down had it from the start; then both settings say the same.
        if not unet.config["down_block_types"][0].startswith("CrossAttn"):
            told["finest_attention"] = attends_finest(unet.config["up_block_types"])
        elif not attends_finest(unet.config["up_block_types"]):
            told["finest_attention"] = False
        for name, found in told.items():
            wanted = getattr(settings, name)
            if found != wanted:
                raise InputError(f"recipe: environment.{name} is {wanted!r}; in {init} it is {found!r}; give that")
        self.denoising_unet = unet
        self.reference_net = load_network(ReferenceNet, init / "reference_net")
        if settings.pose_modulation:
            self.pose_guider = load_network(PoseModulation, init / "pose_modulation")  # type: ignore[assignment]
        else:
            self.pose_guider = load_network(PoseGuider, init / "pose_guider")
        if settings.object_blending != "none":
            self.object_guider = load_network(ObjectGuider, init / "object_guider")

    @property
    def in_a_row(self) -> bool:
        """Whether clips are trained, with temporal layers, or single frames."""
        return self.recipe.data.consecutive

    @property
    def targets(self) -> int:
        """Frames of a clip that are predicted from one reference."""
        return self.recipe.data.frames_per_clip if self.in_a_row else super().targets

    @property
    def weighted(self) -> bool:  # type: ignore[override]
        """Whether errors on some latents count more than on others."""
        return super().weighted or self.recipe.objective.object_weight != 1

    def choose_frames(self, rng: np.random.Generator, available: int) -> NDArray[np.int64]:
        """The reference's frame, then the targets': all in order, or others than the reference's."""
        if self.in_a_row:
            return np.concatenate([rng.integers(available, size=1), np.arange(available)])
        return super().choose_frames(rng, available)

    @property
    def shares_noise(self) -> bool:
        """In a row, as the model samples; single frames are clips of their own."""
        return self.in_a_row and bool(self.options.get("shared_noise"))

    def timesteps(self, b: int, k: int, generator: torch.Generator) -> Tensor:
        """``(b, k)``: one for all frames of a clip in a row, else one for every frame."""
        if self.in_a_row:
            return self.draw_timesteps((b, 1), generator).expand(b, k)
        return self.draw_timesteps((b, k), generator)

    def batch(self, step: int, part: int, parts: int) -> Batch:
        count = self.recipe.batch // self.recipe.accumulate
        rng = stream(self.recipe.seed, 6, step, 0)
        for _ in range(part * count):  # what the clips of the parts before draw: how a step is cut changes nothing
            self.choose_frames(rng, self.recipe.data.frames_per_clip)
            pass_over(rng, self.settings)
            self._draw_collage(rng)
        rows: dict[str, list[NDArray]] = {}
        for clip in self.clips.clips(self.clips.numbers(step, part, parts, count)):
            frames = self.choose_frames(rng, len(clip["frames"]))
            picked = split_scene(clip, frames[1:], rng, self.settings, self.drawing)
            character = character_reference(clip, int(frames[0]), rng, self.drawing)
            region, held = picked["region"].astype(bool), picked["object_masks"].astype(bool)
            wanted = picked.pop("pose")
            if self.options.get("carried_reference"):
                carries, told = self._draw_collage(rng)
                objects = (picked["objects"], held) if told else ()
                own = character.pose if carries else None
                looks = (character.picture, own, wanted, picked["environment"], region, character.silhouette)
                picked["carried"] = collage(*looks, *objects)
            picked |= {"reference": character.picture, "reference_pose": character.drawn}
            picked |= {"region": latent_mask(region, self.factor), "object_cells": latent_mask(held, self.factor)}
            for name, value in picked.items():
                rows.setdefault(name, []).append(value)
        return {name: torch.from_numpy(np.stack(values)) for name, values in rows.items()}

    def _draw_collage(self, rng: np.random.Generator) -> tuple[bool, bool]:
        """Whether a clip's reference is carried, and whether objects are laid on; drawn where there is a collage."""
        if not self.options.get("carried_reference"):
            return False, False
        objective = self.recipe.objective
        carries = rng.random() >= objective.carry_dropout
        return carries, self.object_guider is not None and rng.random() >= objective.object_dropout

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        # Letters: b clips, k target frames, c latent channels, h, w latent grid; n and f are b and k in a row, else
        # b * k and 1: single frames are clips of their own.
        target, environment = self.encode(batch["frames"]), self.encode(batch["environment"])  # (b, k, c, h, w)
        reference = self.encode(batch["reference"][:, None])[:, 0]  # (b, c, h, w)
        origin = self.encode(batch["carried"]) if "carried" in batch else None
        if origin is not None:
            target = target - origin
        b, k = target.shape[:2]
        dropped = number_dropped(b, self.recipe.objective.condition_dropout, generator)

        # 1. Noise.
        noise = part_of_step(lambda n, g: self.noise(torch.Size((n, *target.shape[1:])), g), b, generator).to(target)
        timesteps = part_of_step(lambda n, g: self.timesteps(n, k, g), b, generator).to(target.device)  # (b, k)
        noisy, wanted = noised_target(
            self.scheduler, target.flatten(0, 1), noise.flatten(0, 1), timesteps.flatten(0, 1)
        )
        video = self._clips(noisy.unflatten(0, (b, k)))
        if origin is not None:  # as in the image stage, samples without a reference see none here
            seen_origin = torch.cat([torch.zeros_like(origin[:dropped]), origin[dropped:]])
            video = join_guess(video, self._clips(seen_origin))
        video = join_environment(video, self._clips(environment), self._clips(batch["region"][:, :, None]))

        # 2. Conditions; the first `dropped` clips do without reference and image token, as in the image stage.
        token = image_tokens(self.image_encoder, to_pixels(batch["reference"]))
        token = torch.cat([torch.zeros_like(token[:dropped]), token[dropped:]])
        first = min(dropped, b - 1)
        own = pose_input(batch["reference_pose"][:, None])
        reference_pose = None
        if self.options.get("reference_pose", False):
            reference_pose = self.guide(own, own)[first:, :, 0]
        assert self.reference_net is not None
        features = self.reference_net(reference[first:], token[first:], reference_pose)
        seen = self.denoising_unet.project_reference(features, first)
        pictures = self._clips(pose_input(batch["poses"]).transpose(1, 2))
        rows = len(pictures) // b
        pose = self.guide(pictures, own.repeat_interleave(rows, 0), self._clips(batch["depth"][:, :, None]))
        objects = None
        if self.object_guider is not None:
            objects = self.object_guider(self._clips(self.encode_objects(batch["objects"], batch["object_cells"])))

        # 3. Predict.
        prediction = self.denoising_unet(
            video,
            timesteps[:, 0] if self.in_a_row else timesteps.flatten(),
            token.repeat_interleave(rows, 0),
            pose,
            seen if dropped < b else None,
            objects,
        )
        prediction = prediction.transpose(1, 2).flatten(0, 1).unflatten(0, (b, k))
        weight = self.weights(batch, (target.shape[-2], target.shape[-1]))
        loss = weighted_mean_square(prediction, wanted.unflatten(0, (b, k)), weight, batch.get("mean_weight"))
        if dropped == b:  # a gradient of zero, not none
            loss = loss + 0.0 * sum(value.float().mean() for value in features.values())
        return {"loss": loss}

    def weights(self, batch: Batch, cells: tuple[int, int]) -> Tensor:
        """What an error counts, ``(b, k, 1, h, w)``: 1, more on the person and on objects, by their share of a cell."""
        objective, objects = self.recipe.objective, batch["object_masks"]
        kept = F.adaptive_avg_pool2d((batch["masks"] | objects).float(), cells)
        weight = 1 + (objective.person_weight - 1) * kept
        if objective.object_weight != 1:
            more = objective.person_weight * (objective.object_weight - 1)
            weight = weight + more * F.adaptive_avg_pool2d(objects.float(), cells)
        return weight[:, :, None]

    def guide(self, pictures: Tensor, own: Tensor, depth: Tensor | None = None) -> Tensor:
        """Pose features ``(n, C, f, h, w)`` of pictures ``(n, 3, f, H, W)`` and depth ``(n, 1, f, H, W)`` in [0, 1]."""
        beside = self.pose_guider.beside(pictures, own)
        if isinstance(self.pose_guider, PoseModulation):
            return cast(Tensor, self.pose_guider(beside, depth))
        return cast(Tensor, self.pose_guider(beside))

    @torch.no_grad()
    def encode_objects(self, objects: Tensor, cells: Tensor) -> Tensor:
        """Latents of object frames ``(b, k, H, W, 3)`` uint8, zero in cells ``(b, k, h, w)`` without one."""
        present = cells.flatten(2).any(2)  # (b, k)
        shape = (*cells.shape[:2], self.vae.config["latent_channels"], *cells.shape[2:])
        latents = torch.zeros(shape, device=objects.device)
        if present.any():
            latents[present] = self.encode(objects[present][None])[0]
        return latents * cells[:, :, None]

    def _clips(self, frames: Tensor) -> Tensor:
        """``(b, k, c, h, w)`` as the networks take it: ``(b, c, k, h, w)``, or ``(b * k, c, 1, h, w)`` one by one."""
        return frames.transpose(1, 2) if self.in_a_row else frames.flatten(0, 1)[:, :, None]

    def save(self, folder: Path) -> None:
        networks: list[Any] = [self.denoising_unet, self.reference_net, self.pose_guider, self.object_guider]
        networks += [self.image_encoder, self.vae]
        if self.recipe.save_dtype != "float32":
            dtype = getattr(torch, self.recipe.save_dtype)
            networks = [network and copy.deepcopy(network).to(dtype=dtype) for network in networks]
        unet, reference_net, guider, object_guider, encoder, vae = networks
        depth = self.settings.pose_modulation
        pipeline = AnimateAnyone2Pipeline(
            denoising_unet=unet,
            reference_net=reference_net,
            pose_guider=None if depth else guider,
            pose_modulation=guider if depth else None,
            object_guider=object_guider,
            image_encoder=encoder,
            vae=vae,
            scheduler=self.scheduler,
            size=[self.recipe.data.size] * 2,
            skeleton_style=self.recipe.data.skeleton_style,
            formulation=self.settings.formulation,
            uses_objects=object_guider is not None,
            uses_depth=depth,
            **self.options,
        )
        pipeline.save_pretrained(folder, max_shard_size=self.recipe.max_shard_size)
