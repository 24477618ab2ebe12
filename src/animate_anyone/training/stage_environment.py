"""Animate Anyone 2 (section 3): the character in the environment of a video, with the objects of that video.

All networks but the VAE and the image encoder are trained, on single frames or on clips in a row, to rebuild clips
from what they were split into (``scene_split``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.conditions.environment import latent_mask
from animate_anyone.errors import InputError
from animate_anyone.first_guess.character import figure_of
from animate_anyone.first_guess.collage import Collage, objects_over_environment
from animate_anyone.models.denoising_unet import DenoisingUNet, join_environment
from animate_anyone.models.object_guider import ObjectGuider
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.pose_modulation import PoseModulation
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.models.shipped import INDEX
from animate_anyone.models.weight_files import read_settings
from animate_anyone.sampling.loading import load_network
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.structures import Subject
from animate_anyone.training.clip_cache import ClipArrays
from animate_anyone.training.config import Environment
from animate_anyone.training.frames_before import draws_given, fields_before, joined, see_before, take_frames_before
from animate_anyone.training.objective import number_dropped
from animate_anyone.training.scene_split import character_reference, pass_over, split_scene
from animate_anyone.training.stage import pose_input
from animate_anyone.training.stage_denoising import DenoisingBatch, DenoisingStage
from animate_anyone.training.wanted import Wanted


@dataclass(frozen=True, kw_only=True, eq=False)
class EnvironmentBatch(DenoisingBatch):
    """Scenes split into what the networks are given, see ``scene_split``. ``h', w'``: the latent grid.

    Attributes:
        frames: the targets, ``(b, k, H, W, 3)`` uint8.
        environment: as ``frames``, the region of the character emptied.
        region_cells: the latent cells that this region touches, ``(b, k, h', w')`` bool.
        objects: as ``frames``, emptied outside the objects.
        object_masks: where objects are, ``(b, k, H, W)`` bool.
        object_cells: the latent cells that they touch, ``(b, k, h', w')`` bool.
        depth: structured depth of the targets' limbs in [0, 1], ``(b, k, h, w)`` float32.
        before, poses_before, depth_before: ``m`` whole frames before the targets, their poses and depth, as those;
            ``None`` where the recipe has none.
        given_before: clips that are trained with them, ``(b,)`` bool.
    """

    frames: Tensor
    environment: Tensor
    region_cells: Tensor
    objects: Tensor
    object_masks: Tensor
    object_cells: Tensor
    depth: Tensor
    before: Tensor | None = None
    poses_before: Tensor | None = None
    depth_before: Tensor | None = None
    given_before: Tensor | None = None


class EnvironmentStage(DenoisingStage[EnvironmentBatch]):
    """Denoising UNet, ReferenceNet, pose modulation and object guider.

    Starts from ``recipe.init``: whatever the image stage starts from, a model of Animate Anyone, or one of this stage.
    ``data.consecutive`` trains clips in a row, with temporal layers; else frames are trained one by one, without.
    """

    STREAM, record = 6, EnvironmentBatch
    object_guider: ObjectGuider | None

    @property
    def settings(self) -> Environment:
        """The recipe's ``environment``."""
        assert self.recipe.environment is not None
        return self.recipe.environment

    def check_options(self) -> None:
        if self.guessing.reference_latents != self.guessing.carried_reference:
            raise InputError(
                "recipe: networks.pipeline.reference_latents and carried_reference go together in stage environment, "
                "where the reference is carried into the environment; give both or neither"
            )
        if self.path != "reference_net":
            raise InputError(
                f"recipe: networks.pipeline.reference_path is {self.path!r}; stage environment needs reference_net"
            )
        if self.settings.object_latents == "changes" and not self.guessing.carried_reference:
            raise InputError(
                "recipe: environment.object_latents: changes are those of a first guess; give "
                "networks.pipeline.carried_reference=true and reference_latents=true, or object_latents=alone"
            )
        # A model of Animate Anyone may stretch pictures of any size to the video's; those of this method do not.
        if self.options.pop("stretch", False) and self.recipe.networks.pipeline.get("stretch"):
            raise InputError("recipe: networks.pipeline.stretch is true; stage environment goes without")
        super().check_options()

    def _build(self, init: Path) -> None:
        self.object_guider = None
        unet_config = init / "denoising_unet" / "config.json"
        if unet_config.is_file() and read_settings(unet_config).get("environment_channels"):
            self._load(init)
        else:
            super()._build(init)
            self._widen()
        if self.in_a_row:
            self.take_motion()
            self.denoising_unet = take_frames_before(self.denoising_unet, self.num_before, init)
        elif self.denoising_unet.config["use_motion_module"]:
            raise InputError(
                f"recipe: data.consecutive is false, and {init} has temporal layers, which single frames cannot train;"
                " give data.consecutive=true"
            )

    def _widen(self) -> None:
        """From Animate Anyone's networks to those of this method, which at first do much the same."""
        settings = self.settings
        self.denoising_unet = self.denoising_unet.with_environment(
            object_blending=settings.object_blending,
            blending_place=settings.blending_place,
            reference_blocks=settings.reference_blocks,
            blending_levels=settings.blending_levels,
        )
        self._new_object_guider()
        if settings.pose_modulation:
            assert isinstance(self.pose_guider, PoseGuider)
            try:
                self.pose_guider = PoseModulation.from_pose_guider(self.pose_guider, **settings.modulation)
            except (TypeError, ValueError) as error:
                raise InputError(f"recipe: environment.modulation: {' '.join(str(error).split())}") from error

    def _new_object_guider(self) -> None:
        widths = tuple(self.denoising_unet.object_widths())
        self.object_guider = (
            ObjectGuider(self.denoising_unet.config["out_channels"], widths, self.settings.object_latents == "changes")
            if widths
            else None
        )

    def _load(self, init: Path) -> None:
        """The networks of a model of this method, which must be what the recipe says."""
        settings, unet = self.settings, load_network(DenoisingUNet, init / "denoising_unet")
        if settings.new_objects:
            unet = unet.with_objects(settings.object_blending, settings.blending_place, settings.blending_levels)
        saved = {name: unet.config[name] for name in ("reference_blocks", "object_blending")}
        if settings.object_blending != "none":
            saved |= {name: unet.config[name] for name in ("blending_place", "blending_levels")}
            if (init / INDEX).is_file() and not settings.new_objects:
                saved["object_latents"] = read_settings(init / INDEX).get("object_latents", "alone")
        saved["pose_modulation"] = (init / "pose_modulation").is_dir()
        for name, found in saved.items():
            wanted = getattr(settings, name)
            if found != wanted:
                raise InputError(f"recipe: environment.{name} is {wanted!r}; in {init} it is {found!r}; give that")
        self.denoising_unet = unet
        self.reference_net = load_network(ReferenceNet, init / "reference_net")
        if settings.pose_modulation:
            self.pose_guider = load_network(PoseModulation, init / "pose_modulation")
        else:
            self.pose_guider = load_network(PoseGuider, init / "pose_guider")
        if settings.new_objects:
            self._new_object_guider()
        elif settings.object_blending != "none":
            self.object_guider = load_network(ObjectGuider, init / "object_guider")

    @property
    def in_a_row(self) -> bool:
        """Whether clips are trained, with temporal layers, or single frames."""
        return self.recipe.data.consecutive

    @property
    def num_before(self) -> int:
        """Frames before each clip that temporal layers are given, m."""
        return self.settings.temporal_reference.frames

    @property
    def targets(self) -> int:
        """As elsewhere; of frames in a row those after the first :attr:`num_before`."""
        return super().targets - self.num_before

    @property
    def wanted(self) -> Wanted:
        return replace(
            super().wanted,
            targets=self.targets + self.num_before,
            masks=True,
            scene=True,
            depth=self.settings.pose_modulation,
        )

    def skip(self, rng: np.random.Generator) -> None:
        self.choose_frames(rng)
        pass_over(rng, self.settings)
        self.drops_guess(rng)
        self.guess_holds_objects(rng)
        draws_given(self.settings.temporal_reference, rng)

    def row(self, clip: ClipArrays, rng: np.random.Generator, step: int) -> dict[str, NDArray]:
        frames = self.frames_of(clip, rng)
        whole, first = split_scene(clip, frames[1:], rng, self.settings, self.recipe.data), self.num_before
        split = whole.part(slice(first, None))
        character = character_reference(clip, int(frames[0]), rng, self.recipe.data)
        as_split = ("frames", "environment", "masks", "objects", "object_masks", "poses", "depth")
        picked = {name: getattr(split, name) for name in as_split} | {
            "region_cells": latent_mask(split.region, self.factor),
            "object_cells": latent_mask(split.object_masks, self.factor),
            "reference": character.picture,
            "reference_pose": character.drawn,
        }
        if self.guessing.carried_reference:
            subject = Subject(character.picture, character.pose, character.silhouette)
            figure = None if self.drops_guess(rng) else figure_of(subject, split.pose)
            objects = (split.objects, split.object_masks) if self.guess_holds_objects(rng) else ()
            picked["carried"] = np.stack(list(Collage(figure, split.pose, split.environment, split.region, *objects)))
        if self.settings.object_latents == "changes":
            parts = split.objects, split.object_masks, split.environment, split.region
            picked["objects"] = np.stack([objects_over_environment(*frame) for frame in zip(*parts, strict=True)])
        given = draws_given(self.settings.temporal_reference, rng)
        if first:
            picked |= fields_before(whole.part(slice(first)), given)
        return picked

    def guess_holds_objects(self, rng: np.random.Generator) -> bool:
        """Whether a clip's objects are laid into the collage; drawn where there is one and objects are used."""
        if not self.guessing.carried_reference or self.object_guider is None:
            return False
        return bool(rng.random() < self.settings.guess_objects)

    def forward(self, batch: EnvironmentBatch, generator: torch.Generator) -> dict[str, Tensor]:
        # Letters: b clips, k target frames, c latent channels, h, w latent grid; n and f are b and k in a row, else
        # b * k and 1: single frames are clips of their own.
        target, environment = self.encode(batch.frames), self.encode(batch.environment)  # (b, k, c, h, w)
        reference = self.encode(batch.reference[:, None])[:, 0]  # (b, c, h, w)
        guess = self.first_guess(reference, batch)
        target = guess.changes(target.transpose(1, 2)).transpose(1, 2)
        b = len(target)
        dropped = number_dropped(b, self.recipe.objective.condition_dropout, generator)

        # 1. Noise.
        noisy, wanted, timesteps = self.noised(target, generator)
        # As in the image stage, samples without a reference see none here.
        video = self.as_clips(guess.join_samples(noisy.transpose(1, 2), dropped).transpose(1, 2))
        video = join_environment(video, self.as_clips(environment), self.as_clips(batch.region_cells[:, :, None]))

        # 2. Conditions; the first `dropped` clips do without reference and image token, as in the image stage.
        token = self.token(batch, dropped)
        first = min(dropped, b - 1)
        own = pose_input(batch.reference_pose[:, None])
        seen, made = self.read_reference(reference, token, own, first)
        drawn, depth = joined(batch.poses_before, batch.poses), joined(batch.depth_before, batch.depth)
        pictures = self.as_clips(pose_input(drawn).transpose(1, 2))
        own = own.repeat_interleave(len(pictures) // b, 0)
        pose = self.guide(pictures, own, self.as_clips(depth[:, :, None]))
        earlier, pose = pose.tensor_split((self.num_before,), 2)
        before = None
        if batch.before is not None:
            noise = self.settings.temporal_reference.noise
            given = batch.given_before, self.token(batch, 0), earlier, noise, generator
            before = see_before(self, batch.before, *given)
        objects = None
        if self.object_guider is not None:
            shown = self.encode_objects(batch.objects, batch.object_cells)
            if self.settings.object_latents == "changes":
                shown = guess.changes(shown.transpose(1, 2)).transpose(1, 2) * batch.object_cells[:, :, None]
            objects = self.object_guider(self.as_clips(shown))

        # 3. Predict.
        network: Any = self.denoising_unet
        network = partial(network, temporal_reference=before)
        prediction = self.predict(video, timesteps, token, pose, seen if dropped < b else None, objects, network)
        return self.loss(batch, prediction, wanted, timesteps, made if dropped == b else [])

    def counted(self, batch: EnvironmentBatch) -> Tensor:
        """The person and the objects."""
        return batch.masks | batch.object_masks

    @property
    def weighted(self) -> bool:
        return super().weighted or self.settings.object_weight != 0

    def weights(self, batch: EnvironmentBatch) -> Tensor:
        """As of :meth:`counted`; and by ``environment.object_weight`` more on objects, by their share of a cell."""
        weights = super().weights(batch)
        if self.settings.object_weight:
            share = F.avg_pool2d(batch.object_masks.float(), self.factor)
            weights = weights + self.settings.object_weight * share[:, :, None]
        return weights

    @torch.no_grad()
    def encode_objects(self, objects: Tensor, cells: Tensor) -> Tensor:
        """Latents of object frames ``(b, k, H, W, 3)`` uint8, zero in cells ``(b, k, h, w)`` without one."""
        rows, columns = cells.flatten(2).any(2).nonzero(as_tuple=True)  # frames with an object, of (b, k)
        shape = (*cells.shape[:2], self.vae.config["latent_channels"], *cells.shape[2:])
        latents = objects.new_zeros(shape, dtype=torch.float32)
        if len(rows):
            latents[rows, columns] = self.encode(objects[rows, columns][None])[0]
        return latents * cells[:, :, None]

    def pipeline(self) -> AnimateAnyone2Pipeline:
        depth, guider = self.settings.pose_modulation, self.as_saved(self.pose_guider)
        return AnimateAnyone2Pipeline(
            **{"pose_modulation" if depth else "pose_guider": guider},
            object_guider=self.as_saved(self.object_guider),
            formulation=self.settings.formulation,
            uses_objects=self.object_guider is not None,
            uses_depth=depth,
            object_latents=self.settings.object_latents,
            **self.common_parts(),
        )
