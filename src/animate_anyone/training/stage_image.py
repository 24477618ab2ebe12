"""Stage one (Animate Anyone, section 3.3): single frames, no temporal layer. ReferenceNet, Pose Guider and
denoising UNet are trained; the reference is another frame of the same clip.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from animate_anyone.errors import InputError
from animate_anyone.first_guess.guess import join_guess
from animate_anyone.first_guess.limb_warp import warp_limbs
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.image_tokens import image_tokens
from animate_anyone.models.pipeline_options import ANIMATE_ANYONE, check_options
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.reference_attention import ReferenceKeysValues
from animate_anyone.models.reference_control import CONTROLLED, ReferenceControl, ReferenceResiduals
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.models.weight_files import read_settings
from animate_anyone.progress import SILENT, Progress
from animate_anyone.sampling.initial_noise import initial_noise
from animate_anyone.sampling.loading import load_network
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.training.autoencoder import to_pixels
from animate_anyone.training.clips import StudioClips, digest, pose_of, stream
from animate_anyone.training.config import Recipe
from animate_anyone.training.initial import start_at_identity
from animate_anyone.training.loading import Batch
from animate_anyone.training.loop import Stage
from animate_anyone.training.objective import noised_target, number_dropped, part_of_step, weighted_mean_square

# What travels with a model and is not the recipe's data.
_OPTIONS = ANIMATE_ANYONE.keys() - {"size", "skeleton_style"}


class ImageStage(Stage):
    """ReferenceNet, Pose Guider and denoising UNet on single frames.

    Starts from ``recipe.init``: a whole model folder; or one with ``vae``, ``image_encoder`` and
    Stable Diffusion's ``unet``; or with the first two alone, the rest built from ``recipe.networks``.
    """

    def __init__(self, recipe: Recipe, progress: Progress = SILENT) -> None:
        super().__init__()
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        init = init_folder(recipe)
        self.vae = load_network(AutoencoderKL, init / "vae")
        self.image_encoder = load_network(CLIPVisionModelWithProjection, init / "image_encoder")
        self.options = pipeline_options(recipe, init)
        check_pipeline_options(self.options)
        # One of these, or none: see `path`.
        self.reference_net: ReferenceNet | None = None
        self.reference_control: ReferenceControl | None = None
        self._build(init)
        self.scheduler = build_scheduler(recipe, init)
        self.set_trainable()
        self._check_pose_pictures()
        self.clips = StudioClips(recipe.data, recipe.seed, progress)
        if recipe.data.cache is not None and recipe.data.keep_latents:  # encoded where they are trained on
            self.vae.to(self.clips.device)
        self.clips.derive("latents", digest(self.vae), self._encode_clip, progress)

    def _build(self, init: Path) -> None:
        networks = self.recipe.networks
        if (init / "denoising_unet").exists():
            self.denoising_unet = load_network(DenoisingUNet, init / "denoising_unet")
            if self.path == "reference_net":
                self.reference_net = load_network(ReferenceNet, init / "reference_net")
            if self.path in CONTROLLED:
                self.reference_control = load_network(ReferenceControl, init / "reference_control")
            self.pose_guider = load_network(PoseGuider, init / "pose_guider")
            channels = self.denoising_unet.config["in_channels"]
            if channels != self.input_channels:
                raise InputError(f"{init}: its denoising UNet takes {channels} channels, not {self.input_channels}")
            return
        if (init / "unet").exists():
            unet = load_network(UNet2DConditionModel, init / "unet")
        else:
            unet = networks.build("unet", UNet2DConditionModel)
            start_at_identity(unet)
            torch.nn.init.zeros_(unet.conv_out.weight)
        got, want = unet.config["in_channels"], self.vae.config["latent_channels"]
        if got != want:
            raise InputError(f"recipe: networks.unet.in_channels is {got}; the VAE in {init} makes {want} channels")
        options = {"use_motion_module": False, "in_channels": self.input_channels}
        self.denoising_unet = networks.build(
            "motion", lambda **settings: DenoisingUNet.from_unet2d(unet, **options, **settings)
        )
        if self.path == "reference_net":
            self.reference_net = ReferenceNet.from_unet2d(unet)
        if self.path in CONTROLLED:
            self.reference_control = ReferenceControl.from_unet2d(unet)
        self.pose_guider = networks.build(
            "pose_guider", lambda **settings: PoseGuider(unet.config["block_out_channels"][0], **settings)
        )

    @property
    def path(self) -> str:
        """How the reference's looks get in, see ``AnimateAnyonePipeline``."""
        return str(self.options.get("reference_path", "reference_net"))

    @property
    def input_channels(self) -> int:
        """Of the denoising UNet: the noisy latents and, where the model is so, the reference's beside them."""
        return (1 + bool(self.options.get("reference_latents"))) * self.vae.config["latent_channels"]

    def set_trainable(self) -> None:
        """All but the VAE and the image encoder; what of ReferenceNet nobody reads is left alone."""
        self.vae.requires_grad_(False)
        self.image_encoder.requires_grad_(False)
        if self.reference_net is None:
            return
        # Past its last normalisation ReferenceNet's values are not read: those weights get no gradient.
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
    def targets(self) -> int:
        """Frames of a clip that are predicted from one reference."""
        return self.recipe.objective.targets_per_reference

    def batch(self, step: int, part: int, parts: int) -> Batch:
        count = self.recipe.batch // self.recipe.accumulate
        rng = stream(self.recipe.seed, 5, step, 0)
        for _ in range(part * count):  # what the clips of the parts before draw: how a step is cut changes nothing
            self.choose_frames(rng, self.recipe.data.frames_per_clip)
            self.drops_carried(rng)
        rows: dict[str, list[NDArray]] = {}
        for clip in self.clips.clips(self.clips.numbers(step, part, parts, count)):
            frames = self.choose_frames(rng, len(clip["frames"]))
            as_it_is = self.drops_carried(rng)
            picked = {
                "reference": clip["frames"][frames[0]],
                "reference_pose": clip["poses"][frames[0]],
                "poses": clip["poses"][frames[1:]],
                "masks": clip["masks"][frames[1:]],
            }
            if self.options.get("carried_reference"):
                picked["carried"] = self.carry(clip, frames, as_it_is)
            if "latents" in clip:
                picked["latents"] = clip["latents"][frames]
            else:
                picked["frames"] = clip["frames"][frames]
            for name, value in picked.items():
                rows.setdefault(name, []).append(value)
        return {name: torch.from_numpy(np.stack(values)) for name, values in rows.items()}

    def drops_carried(self, rng: np.random.Generator) -> bool:
        """Whether a clip's reference is given as it is, not carried; drawn where it matters."""
        return bool(self.options.get("carried_reference")) and rng.random() < self.recipe.objective.carry_dropout

    def carry(self, clip: dict[str, NDArray], frames: NDArray[np.int64], as_it_is: bool) -> NDArray:
        """The reference carried into the targets' poses, or as it is, as where a pose is not known."""
        reference = clip["frames"][frames[0]]
        if as_it_is:
            return np.repeat(reference[None], len(frames) - 1, 0)
        pose = pose_of(clip["joints"][frames], self.recipe.data.size)
        return warp_limbs(reference, pose[:1], pose[1:])

    def choose_frames(self, rng: np.random.Generator, available: int) -> NDArray[np.int64]:
        """The reference's frame, then the targets'."""
        return rng.choice(available, 1 + self.targets, replace=False)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        # Letters: b clips, k target frames, c latent channels, h, w latent grid.
        latents = self.encode(batch["frames"]) if "frames" in batch else batch["latents"].float()
        reference, target = latents[:, 0], latents[:, 1:]  # (b, c, h, w), (b, k, c, h, w)
        relative = self.options.get("reference_latents", False)
        origin = self.encode(batch["carried"]) if "carried" in batch else reference[:, None].expand_as(target)
        if relative:
            target = target - origin
        b, k = target.shape[:2]
        dropped = number_dropped(b, self.recipe.objective.condition_dropout, generator)

        # 1. Noise; each frame is a sample of its own in this stage.
        noise = part_of_step(lambda n, g: self.noise(torch.Size((n, *target.shape[1:])), g), b, generator).to(target)
        timesteps = part_of_step(lambda n, g: self.timesteps(n, k, g), b, generator).to(target.device)  # (b, k)
        noisy, wanted = noised_target(
            self.scheduler, target.flatten(0, 1), noise.flatten(0, 1), timesteps.flatten(0, 1)
        )

        # 2. Conditions; the first `dropped` clips do without reference and image token. Where that is all of them,
        # what looks at the reference sees one all the same: data-parallel training needs a gradient of zero, not none.
        token = image_tokens(self.image_encoder, to_pixels(batch["reference"]))
        if self.path == "controlnet":
            token = torch.zeros_like(token)
        token = torch.cat([torch.zeros_like(token[:dropped]), token[dropped:]])
        first = min(dropped, b - 1)
        guider, own = self.pose_guider, pose_input(batch["reference_pose"][:, None])
        pose = guider(guider.beside(pose_input(batch["poses"]), own))  # (b, C, k, h, w)
        reference_pose = None
        if self.options.get("reference_pose", False):
            reference_pose = guider(guider.beside(own, own))[first:, :, 0]
        seen: ReferenceKeysValues | ReferenceResiduals | None = None
        made: list[Tensor] = []
        if self.reference_net is not None:
            features = self.reference_net(reference[first:], token[first:], reference_pose)
            made = list(features.values())
            seen = self.denoising_unet.project_reference(features, first)
        elif self.reference_control is not None:
            rows, tokens = noisy[:, :, None], token.repeat_interleave(k, 0)
            residuals = self.reference_control(rows, timesteps.flatten(), tokens, reference[first:], first)
            made, seen = [*residuals.down, residuals.middle], residuals

        # 3. Predict.
        noisy = noisy.unflatten(0, (b, k)).transpose(1, 2)  # (b, c, k, h, w)
        if relative:
            noisy = join_guess(noisy, origin[dropped:].transpose(1, 2), dropped)
        prediction = self.predict(noisy.transpose(1, 2), timesteps, token, pose, seen if dropped < b else None)
        weight = self.weights(batch, (target.shape[-2], target.shape[-1]))
        loss = weighted_mean_square(prediction, wanted.unflatten(0, (b, k)), weight, batch.get("mean_weight"))
        if dropped == b:
            loss = loss + 0.0 * sum(value.float().mean() for value in made)
        return {"loss": loss}

    @property
    def shares_noise(self) -> bool:
        """Whether the ``k`` frames of a target begin with the same noise; here each is a sample of its own."""
        return False

    @property
    def weighted(self) -> bool:  # type: ignore[override]
        """Whether errors on some latents count more than on others."""
        return self.recipe.objective.person_weight != 1

    def mean_weight(self, batch: Batch) -> Tensor:
        """The mean of :meth:`weights`."""
        height, width = batch["masks"].shape[-2:]
        return self.weights(batch, (height // self.factor, width // self.factor)).mean()

    def weights(self, batch: Batch, cells: tuple[int, int]) -> Tensor:
        """What an error counts, ``(b, k, 1, h, w)``: 1, more on the person, by its share of a cell."""
        mask = F.adaptive_avg_pool2d(batch["masks"].float(), cells)[:, :, None]
        return 1 + (self.recipe.objective.person_weight - 1) * mask

    @property
    def factor(self) -> int:
        """Pixels per latent cell, per side."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    def noise(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """For latents ``(b, k, c, h, w)``, on the generator's device; shared where the model samples so."""
        return initial_noise(shape, 1, shared=self.shares_noise, generator=generator, device=generator.device)

    def timesteps(self, b: int, k: int, generator: torch.Generator) -> Tensor:
        """One for every frame: ``(b, k)``."""
        return self.draw_timesteps((b, k), generator)

    def draw_timesteps(self, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Of density ``t ** objective.timestep_power``; 0 is uniform, as in the paper."""
        count = self.scheduler.config["num_train_timesteps"]
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
        return (uniform ** (1 / (1 + self.recipe.objective.timestep_power)) * count).long().clamp(max=count - 1)

    def predict(self, noisy: Tensor, timesteps: Tensor, token: Tensor, pose: Tensor, reference: object) -> Tensor:
        """The denoising UNet on single frames: ``(b, k, c, h, w)`` in and out (``c`` in is ``input_channels``)."""
        b, k = noisy.shape[:2]
        out = self.denoising_unet(
            noisy.flatten(0, 1)[:, :, None],
            timesteps.flatten(),
            token.repeat_interleave(k, 0),
            pose.transpose(1, 2).flatten(0, 1)[:, :, None],
            reference,  # type: ignore[arg-type]
        )
        return out[:, :, 0].unflatten(0, (b, k))

    def save(self, folder: Path) -> None:
        networks: list[Any] = [self.denoising_unet, self.reference_net, self.pose_guider, self.image_encoder, self.vae]
        networks.append(self.reference_control)
        if self.recipe.save_dtype != "float32":
            dtype = getattr(torch, self.recipe.save_dtype)
            networks = [network and copy.deepcopy(network).to(dtype=dtype) for network in networks]
        unet, reference_net, guider, encoder, vae, control = networks
        pipeline = AnimateAnyonePipeline(
            unet,
            reference_net,
            guider,
            encoder,
            vae,
            self.scheduler,
            size=(self.recipe.data.size, self.recipe.data.size),
            skeleton_style=self.recipe.data.skeleton_style,
            reference_control=control,
            **self.options,
        )
        pipeline.save_pretrained(folder, max_shard_size=self.recipe.max_shard_size)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """``(b, f, H, W, 3)`` uint8, from any device, to scaled latents ``(b, f, c, h, w)``: the mean, no noise."""
        latents = self.vae.encode(to_pixels(frames.to(self.vae.device)).flatten(0, 1)).latent_dist.mean
        return (latents.float() * self.vae.config["scaling_factor"]).unflatten(0, frames.shape[:2])

    def _encode_clip(self, frames: NDArray) -> NDArray:
        return self.encode(torch.from_numpy(frames.copy())[None])[0].half().cpu().numpy()

    def _check_pose_pictures(self) -> None:
        side = self.recipe.data.size
        want = self.pose_guider.picture_size((side, side), 2 ** (len(self.vae.config["block_out_channels"]) - 1))[0]
        if want != self.recipe.data.pose_size:
            raise InputError(
                f"recipe: data.pose_scale is {self.recipe.data.pose_scale}; this Pose Guider needs {want / side:g}"
            )


def pose_input(pictures: Tensor) -> Tensor:
    # (b, k, H, W, 3) uint8 -> (b, 3, k, H, W) in [0, 1]
    return pictures.permute(0, 4, 1, 2, 3).float() / 255


def init_folder(recipe: Recipe) -> Path:
    if recipe.init is None:
        raise InputError(f"recipe: stage {recipe.stage} needs init, a model folder with vae/ and image_encoder/")
    init = Path(recipe.init)
    for part in ("vae", "image_encoder"):
        if not (init / part).is_dir():
            raise InputError(f"{init}: has no {part}/; train the recipe before this one, or give init=FOLDER")
    return init


def build_scheduler(recipe: Recipe, init: Path) -> DDIMScheduler:
    # A Stable Diffusion folder brings a schedule too, and it is not this method's: the recipe comes first.
    if not recipe.networks.scheduler and (init / "scheduler").exists():
        return DDIMScheduler.from_pretrained(init / "scheduler")
    return recipe.networks.build("scheduler", DDIMScheduler)


def pipeline_options(recipe: Recipe, init: Path) -> dict[str, Any]:
    """What travels with the model: as in ``init``, where that is a whole model, changed as the recipe says.

    Raises:
        InputError: the recipe has an option that is not known, or is not its to say.
    """
    changes = recipe.networks.pipeline
    for name in changes.keys() - _OPTIONS:
        where = f"data.{name}" if name in ANIMATE_ANYONE else f"one of {', '.join(sorted(_OPTIONS))}"
        raise InputError(f"recipe: networks.pipeline.{name} is not known; give {where}")
    index, options = init / "model_index.json", {}
    if (init / "denoising_unet").is_dir() and index.is_file():
        known = read_settings(index)
        options = {k: known[k] for k in _OPTIONS if k in known}
    return options | changes


def check_pipeline_options(options: dict[str, Any]) -> None:
    """See at the start that the model can be saved at the end. Raises :class:`InputError` where it cannot."""
    try:
        check_options(options)
    except InputError as error:
        raise InputError(f"recipe: networks.pipeline: {error}") from None
