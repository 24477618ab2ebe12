"""What the stages that train a denoising UNet share: networks, noise, the reference, the loss, the resulting model."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from animate_anyone.errors import InputError
from animate_anyone.first_guess.guess import FirstGuess, GuessOptions
from animate_anyone.interop.motion_start import start_from_animatediff
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.image_tokens import image_tokens
from animate_anyone.models.noise_schedule import check_schedule
from animate_anyone.models.pipeline_options import ANIMATE_ANYONE, WITHOUT_TOKENS, check_options
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.pose_modulation import PoseModulation
from animate_anyone.models.reference_attention import ReferenceFeatures
from animate_anyone.models.reference_concatenation import ConcatenatedReference, SeenReference
from animate_anyone.models.reference_control import ReferenceControl
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.models.reference_resnet import ReferenceResNet
from animate_anyone.progress import SILENT, Progress
from animate_anyone.sampling.latents import initial_noise
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.system import processes
from animate_anyone.training.batch import Batch
from animate_anyone.training.clip_cache import ClipArrays
from animate_anyone.training.config import Recipe
from animate_anyone.training.denoising_networks import build_networks
from animate_anyone.training.frozen import freeze
from animate_anyone.training.lora import add_adapters, check_start, merged
from animate_anyone.training.min_snr import check_min_snr, min_snr_weights
from animate_anyone.training.objective import noised_target, offset_noise, part_of_step, weighted_square
from animate_anyone.training.stage import Stage, to_pixels
from animate_anyone.training.starting_folder import build_scheduler, init_folder, load_published, pipeline_options
from animate_anyone.training.timestep_bands import band_losses
from animate_anyone.training.wanted import Wanted

_LOG = logging.getLogger(__name__)

Network = TypeVar("Network", bound="torch.nn.Module | None")


@dataclass(frozen=True, kw_only=True, eq=False)
class DenoisingBatch(Batch):
    """``b`` clips, each a reference and ``k`` target frames. ``H, W``: a frame's sides; ``h, w``: a pose picture's.

    Attributes:
        reference: ``(b, H, W, 3)`` uint8.
        reference_pose: the reference's pose drawn, ``(b, h, w, 3)`` uint8.
        poses: the targets' poses drawn, ``(b, k, h, w, 3)`` uint8.
        masks: the targets' person, ``(b, k, H, W)`` bool.
        carried: the reference carried into the targets' poses, ``(b, k, H, W, 3)`` uint8; ``None`` where the model
            goes without.
    """

    reference: Tensor
    reference_pose: Tensor
    poses: Tensor
    masks: Tensor
    carried: Tensor | None = None


DenoisingT = TypeVar("DenoisingT", bound=DenoisingBatch)


class DenoisingStage(Stage[DenoisingT]):
    """Denoising UNet, Pose Guider and what looks at the reference.

    Starts from ``recipe.init``: a whole model folder; or one with ``vae``, ``image_encoder`` and Stable Diffusion's
    ``unet``; or with the first two alone, the rest built from ``recipe.networks``.
    """

    denoising_unet: DenoisingUNet
    pose_guider: PoseGuider | PoseModulation

    def __init__(self, recipe: Recipe, progress: Progress = SILENT) -> None:
        super().__init__(recipe)
        init = init_folder(recipe)
        check_start(recipe, init)
        self.vae = load_published(AutoencoderKL, init / "vae")
        self.image_encoder = load_published(CLIPVisionModelWithProjection, init / "image_encoder")
        self.options = pipeline_options(recipe, init)
        self.check_options()
        self.reference_net: ReferenceNet | None = None  # one of these, or none: see `path`
        self.reference_control: ReferenceControl | None = None
        self.reference_resnet: ReferenceResNet | None = None
        self._build(init)
        self.scheduler = build_scheduler(recipe, init)
        check_schedule(self.scheduler, "recipe: networks.scheduler")
        check_min_snr(recipe.objective.min_snr_gamma, self.scheduler)
        self.set_trainable()
        if recipe.frozen is not None:
            freeze(self, recipe.frozen)
        if recipe.lora is not None:
            add_adapters(self, recipe.lora)
        if recipe.gradient_checkpointing:
            for network in (self.denoising_unet, self.reference_net, self.reference_control):
                if network is not None:
                    network.enable_gradient_checkpointing()
        self._check_pose_pictures()
        self.make_clips(progress)

    def check_options(self) -> None:
        """See at the start that the model can be saved at the end; raises :class:`InputError`."""
        try:
            check_options(self.options)
        except InputError as error:
            raise InputError(f"recipe: networks.pipeline: {error}") from None

    def _build(self, init: Path) -> None:
        latents = self.vae.config["latent_channels"]
        wanted = self.guessing.input_channels(latents)
        for name, network in build_networks(self.recipe, init, self.path, latents, wanted, self.factor).items():
            setattr(self, name, network)

    def take_motion(self) -> None:
        """Give the denoising UNet temporal layers where it has none, and see that they take the clips.

        They start from ``recipe.init_motion`` or, without it, at zero effect.
        """
        start = self.recipe.init_motion
        if self.denoising_unet.config["use_motion_module"]:
            if start is not None:
                raise InputError(
                    f"recipe: init_motion is {start!r}, and {self.recipe.init} has temporal layers already; leave "
                    "init_motion out, or give init=FOLDER without them"
                )
        elif start is not None:
            self.denoising_unet, lines = start_from_animatediff(self.denoising_unet, Path(start))
            for line in lines if processes.rank() == 0 else ():
                _LOG.warning(line)
        else:
            self.denoising_unet = self.denoising_unet.with_motion()
        longest = self.denoising_unet.config["motion_max_seq_length"]
        if self.targets > longest:
            given = self.recipe.data.frames_per_clip  # frames before the clip are among them
            most = longest + given - self.targets
            raise InputError(f"recipe: data.frames_per_clip is {given}; the temporal layers take {most}")

    @property
    def path(self) -> str:
        """How the reference's looks get in, see ``AnimateAnyonePipeline``."""
        return str(self.options.get("reference_path", "reference_net"))

    @property
    def guessing(self) -> GuessOptions:
        """What the model is given of a first guess."""
        return GuessOptions.of(self.options)

    def first_guess(self, reference: Tensor, batch: DenoisingT) -> FirstGuess:
        """The guess at each clip; ``reference`` are its latents ``(b, c, h, w)``."""
        if not self.guessing.reference_latents:
            return FirstGuess()
        if batch.carried is None:
            return FirstGuess(reference[:, :, None].expand(-1, -1, self.targets, -1, -1))
        return FirstGuess(self.encode(batch.carried).transpose(1, 2))

    def drops_guess(self, rng: np.random.Generator) -> bool:
        """Whether a clip's reference is given as it is, not warped; drawn where it matters."""
        return self.guessing.carried_reference and rng.random() < self.recipe.objective.carry_dropout

    def draws_errors(self, rng: np.random.Generator) -> int:
        """The seed of the errors of a reference's silhouette; drawn where it matters."""
        return int(rng.integers(2**32)) if self.guessing.carried_reference else 0

    def set_trainable(self) -> None:
        """All but the VAE, the image encoder and the weights of ReferenceNet or ResNet on which no feature depends."""
        self.vae.requires_grad_(False)
        self.image_encoder.requires_grad_(False)
        for parameter in self.reference_resnet.unread() if self.reference_resnet is not None else ():
            parameter.requires_grad_(False)
        if self.reference_net is None:
            return
        # The last feature is the input of the last self-attention: what comes after it gets no gradient.
        blocks = list(self.reference_net.up_blocks)
        reading = max(i for i, block in enumerate(blocks) if hasattr(block, "attentions"))
        for block in blocks[reading + 1 :]:
            block.requires_grad_(False)
        for upsampler in blocks[reading].upsamplers or ():  # type: ignore[union-attr]
            upsampler.requires_grad_(False)
        last = blocks[reading].attentions[-1]  # type: ignore[union-attr]
        last.proj_out.requires_grad_(False)
        block = last.transformer_blocks[0]
        for part in (block.attn1, block.attn2, block.norm2, block.norm3, block.ff):
            part.requires_grad_(False)

    @property
    def in_a_row(self) -> bool:
        """Whether clips are trained, with temporal layers, or single frames, each a sample of its own."""
        return False

    @property
    def targets(self) -> int:
        """Frames of a clip that are predicted from one reference: all of them, or so many single ones."""
        return self.recipe.data.frames_per_clip if self.in_a_row else self.recipe.objective.targets_per_reference

    @property
    def wanted(self) -> Wanted:
        return Wanted(
            targets=self.targets,
            in_a_row=self.in_a_row,
            step=self.factor * 2 ** (len(self.denoising_unet.config["block_out_channels"]) - 1),
            masks=self.weighted or self.guessing.carried_reference,
        )

    def frames_of(self, clip: ClipArrays, rng: np.random.Generator) -> NDArray[np.int64]:
        """Places in a clip's arrays as :meth:`choose_frames` has them; videos come with their frames chosen already."""
        drawn = self.choose_frames(rng)
        return np.arange(len(drawn)) if "numbers" in clip else drawn

    def choose_frames(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The reference's frame, then the targets': any and then all in order, or all different."""
        available = self.recipe.data.frames_per_clip
        if self.recipe.data.reference == "elsewhere":  # it lies behind the clip's own frames
            targets = np.arange(available) if self.in_a_row else rng.choice(available, self.targets, replace=False)
            return np.concatenate([[available], targets])
        if self.in_a_row:
            return np.concatenate([rng.integers(available, size=1), np.arange(available)])
        return rng.choice(available, 1 + self.targets, replace=False)

    def noise(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """For latents ``(b, k, c, h, w)``, on the generator's device; frames in a row share it as the model samples."""
        shared = self.in_a_row and self.guessing.shared_noise
        return initial_noise(shape, 1, shared=shared, generator=generator, device=generator.device)

    def timesteps(self, b: int, k: int, generator: torch.Generator) -> Tensor:
        """``(b, k)``: one for all frames of a clip in a row, else one for every frame.

        Of density ``t ** objective.timestep_power``; 0 is uniform, as in the paper.
        """
        count = self.scheduler.config["num_train_timesteps"]
        uniform = torch.rand((b, 1 if self.in_a_row else k), generator=generator, dtype=torch.float64)
        drawn = (uniform ** (1 / (1 + self.recipe.objective.timestep_power)) * count).long().clamp(max=count - 1)
        return drawn.expand(b, k)

    def as_clips(self, frames: Tensor) -> Tensor:
        """``(b, k, c, h, w)`` as the networks take it: ``(b, c, k, h, w)``, or ``(b * k, c, 1, h, w)`` one by one."""
        return frames.transpose(1, 2) if self.in_a_row else frames.flatten(0, 1)[:, :, None]

    # Letters: b clips, k target frames, c latent channels, h, w latent grid; n and f as `as_clips`.
    def noised(self, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """``(noisy, wanted, timesteps)`` for targets ``(b, k, c, h, w)``: two as these, and ``(b, k)``."""
        b, k = target.shape[:2]
        noise = part_of_step(lambda n, g: self.noise(torch.Size((n, *target.shape[1:])), g), b, generator).to(target)
        timesteps = part_of_step(lambda n, g: self.timesteps(n, k, g), b, generator).to(target.device)
        noise = offset_noise(noise, self.recipe.objective.noise_offset, self.in_a_row, generator)
        noisy, wanted = noised_target(
            self.scheduler, target.flatten(0, 1), noise.flatten(0, 1), timesteps.flatten(0, 1)
        )
        return noisy.unflatten(0, (b, k)), wanted.unflatten(0, (b, k)), timesteps

    def token(self, batch: DenoisingT, dropped: int) -> Tensor:
        """The reference's image tokens ``(b, n, C)``, zero for the first ``dropped`` clips and where not used."""
        kind = self.options.get("image_tokens", ANIMATE_ANYONE["image_tokens"])
        token = image_tokens(self.image_encoder, to_pixels(batch.reference), kind)
        if self.path in WITHOUT_TOKENS:
            token = torch.zeros_like(token)
        return torch.cat([torch.zeros_like(token[:dropped]), token[dropped:]])

    def guide(self, pictures: Tensor, own: Tensor, depth: Tensor | None = None) -> Tensor:
        """Pose features ``(n, C, f, h, w)`` of pictures ``(n, 3, f, H, W)`` and depth ``(n, 1, f, H, W)`` in [0, 1].

        ``own``: the reference's pose picture, ``(n, 3, 1, H, W)``.
        """
        beside = self.pose_guider.beside(pictures, own)
        if isinstance(self.pose_guider, PoseModulation):
            return cast(Tensor, self.pose_guider(beside, depth))
        return cast(Tensor, self.pose_guider(beside))

    def reference_features(self, reference: Tensor, token: Tensor, own: Tensor, first: int = 0) -> ReferenceFeatures:
        """ReferenceNet's features of latents ``(b, c, h, w)`` from clip ``first`` on; ``own``: as in :meth:`guide`."""
        assert self.reference_net is not None
        pose = self.guide(own, own)[first:, :, 0] if self.options.get("reference_pose", False) else None
        return cast(ReferenceFeatures, self.reference_net(reference[first:], token[first:], pose))

    def read_reference(
        self, reference: Tensor, token: Tensor, own: Tensor, first: int
    ) -> tuple[SeenReference, list[Tensor]]:
        """What spatial attention sees of the reference, and the features it is made of; clips before ``first`` do
        without.
        """
        features = self.reference_features(reference, token, own, first)
        seen = self.denoising_unet.project_reference(features, first)
        concatenated = list(seen.layers.values()) if isinstance(seen, ConcatenatedReference) else []
        return seen, [*features.values(), *concatenated]

    def predict(
        self,
        video: Tensor,
        timesteps: Tensor,
        token: Tensor,
        pose: Tensor,
        reference: object,
        objects: Any = None,
        network: DenoisingUNet | None = None,
    ) -> Tensor:
        """What the denoising UNet, or ``network``, makes of ``video`` ``(n, c, f, h, w)``: ``(b, k, c, h, w)``."""
        out = (network or self.denoising_unet)(
            video,
            timesteps[:, 0] if self.in_a_row else timesteps.flatten(),
            token.repeat_interleave(len(video) // len(token), 0),
            pose,
            reference,  # type: ignore[arg-type]
            objects,
        )
        return out.transpose(1, 2).flatten(0, 1).unflatten(0, timesteps.shape)

    def loss(
        self, batch: DenoisingT, prediction: Tensor, wanted: Tensor, timesteps: Tensor, unread: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The loss; ``unread``: what nothing was made of, whose weights need a gradient of zero and not none."""
        factor = min_snr_weights(self.scheduler, timesteps, self.recipe.objective.min_snr_gamma)
        error = weighted_square(prediction, wanted, self.weights(batch), batch.mean_weight, factor)
        loss = error.mean()
        if unread:
            loss = loss + 0.0 * sum(value.float().mean() for value in unread)
        return {"loss": loss, **band_losses(error, timesteps, self.scheduler.config["num_train_timesteps"])}

    def counted(self, batch: DenoisingT) -> Tensor:
        """Where errors count by ``objective.person_weight``: ``(b, k, H, W)`` bool."""
        return batch.masks

    def weights(self, batch: DenoisingT) -> Tensor:
        """What an error counts, ``(b, k, 1, h, w)``: 1, more where :meth:`counted`, by its share of a cell."""
        mask = self.counted(batch).float()
        cells = (mask.shape[-2] // self.factor, mask.shape[-1] // self.factor)
        return 1 + (self.recipe.objective.person_weight - 1) * F.adaptive_avg_pool2d(mask, cells)[:, :, None]

    @property
    def factor(self) -> int:
        """Pixels per latent cell, per side."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """``(b, f, H, W, 3)`` uint8, from any device, to scaled latents ``(b, f, c, h, w)``: the mean, no noise."""
        latents = self.vae.encode(to_pixels(frames.to(self.vae.device)).flatten(0, 1)).latent_dist.mean
        return (latents.float() * self.vae.config["scaling_factor"]).unflatten(0, frames.shape[:2])

    def save(self, folder: Path) -> None:
        with merged(self):
            self.pipeline().save_pretrained(folder, max_shard_size=self.recipe.max_shard_size)

    def pipeline(self) -> AnimateAnyonePipeline:
        """The model to be saved."""
        raise NotImplementedError

    def trained_pipeline(self) -> AnimateAnyonePipeline:
        """The model with the very networks that are trained, in float32; its schedule is a copy."""
        as_it_is = copy.copy(self)
        as_it_is.recipe = replace(self.recipe, save_dtype="float32")
        as_it_is.scheduler = copy.deepcopy(self.scheduler)
        return as_it_is.pipeline()

    def common_parts(self) -> dict[str, Any]:
        """What :meth:`pipeline` is made of, whichever of the two papers' it is."""
        return {
            "denoising_unet": self.as_saved(self.denoising_unet),
            "reference_net": self.as_saved(self.reference_net),
            "image_encoder": self.as_saved(self.image_encoder),
            "vae": self.as_saved(self.vae),
            "scheduler": self.scheduler,
            "size": [self.recipe.data.size] * 2,
            "skeleton_style": self.recipe.data.skeleton_style,
            **self.options,
        }

    def as_saved(self, network: Network) -> Network:
        """A network in the type of numbers in which it is saved; its weights stay as they are."""
        if network is None or self.recipe.save_dtype == "float32":
            return network
        return copy.deepcopy(network).to(dtype=getattr(torch, self.recipe.save_dtype))

    def _check_pose_pictures(self) -> None:
        side = self.recipe.data.size
        want = self.pose_guider.picture_size((side, side), self.factor)[0]
        if want != self.recipe.data.pose_size:
            raise InputError(
                f"recipe: data.pose_scale is {self.recipe.data.pose_scale}; this Pose Guider needs {want / side:g}"
            )
