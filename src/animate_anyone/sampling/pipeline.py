"""``AnimateAnyonePipeline``: one picture and a sequence of pose pictures become a video.

Layouts: latents ``(batch, channels, frames, height, width)``; frames that come out are
``(frames, height, width, 3)`` uint8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline
from diffusers.utils import BaseOutput
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet, join_reference
from animate_anyone.models.image_tokens import picture_token
from animate_anyone.models.pipeline_options import ANIMATE_ANYONE, check_options
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.reference_attention import ReferenceKeysValues
from animate_anyone.models.reference_control import CONTROLLED, ReferenceControl
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.progress import Progress
from animate_anyone.sampling.autoencoding import at_once, encode
from animate_anyone.sampling.decoding import decode_frames
from animate_anyone.sampling.denoising import denoise
from animate_anyone.sampling.finite import check_finite
from animate_anyone.sampling.initial_noise import initial_noise
from animate_anyone.sampling.inputs import Pictures, check_carried, check_inputs
from animate_anyone.sampling.scene import SceneLatents
from animate_anyone.sampling.stretching import stretch
from animate_anyone.sampling.windows import windows, wrapping_windows

StepCallback = Callable[["AnimateAnyonePipeline", int, int, dict[str, Tensor]], dict[str, Tensor]]


@dataclass
class AnimateAnyoneOutput(BaseOutput):
    """What the pipeline returns.

    Attributes:
        frames: ``(frames, height, width, 3)`` uint8, or latents for ``output_type="latent"``.
    """

    frames: NDArray[np.uint8] | Tensor


class AnimateAnyonePipeline(DiffusionPipeline):
    """Animate Anyone (arXiv 2311.17117).

    Args:
        denoising_unet, reference_net, pose_guider, image_encoder, vae: the networks.
        scheduler: the noise schedule that the networks were trained with.
        size: ``(width, height)`` that they were trained at.
        skeleton_style: how the poses that they saw were drawn, a name in ``conditions.draw.STYLES``.
        reference_pose: whether ReferenceNet is given the pose of the reference picture too.
        reference_latents: whether the reference's latents join the noise on the channels and are the origin
            of those that are denoised: the networks make what differs from the reference, and what stays
            in its place need not be found by attention. (Not in the paper; for small models.)
        carried_reference: with ``reference_latents``, those are not the reference's but, for every frame, those of
            the reference carried into its pose, limb by limb (``conditions.carry``; not in the paper).
        num_inference_steps: default number of DDIM steps (paper: 20).
        guidance_scale: default weight of classifier-free guidance; 1 turns it off.
        window, overlap: default windows of temporal aggregation, frames.
        aggregation: ``fade``: windows end with the clip and fade into each other; ``wrap``: the last window
            runs on at the clip's beginning and overlaps count alike, as the published open checkpoints
            are sampled.
        stretch: pictures of any size are taken and stretched to the video's, their aspect not kept, as the
            published open checkpoints are given theirs; the image encoder sees the picture as it came.
        reference_path: how the reference's looks get in. ``reference_net``: the method. The others are those that
            the paper compares with it (table 3): ``clip``: the image token alone; ``controlnet``: ``reference_control``
            and no image token; ``both``. They have no ``reference_net``.
        shared_noise: all frames begin with the same noise, so that what shows of it stands still. (Not in the paper;
            for models of one or few steps.)
        keep_detail: with ``carried_reference``: what the autoencoder loses of the carried reference is put back
            where little was changed (``sampling.decoding``; not in the paper).
        reference_control: the network of ``controlnet`` and ``both``, ``None`` elsewhere.
    """

    model_cpu_offload_seq = "image_encoder->pose_guider->reference_net->reference_control->denoising_unet->vae"
    _callback_tensor_inputs = ("latents",)
    _optional_components: ClassVar[list[str]] = ["reference_net", "reference_control"]

    denoising_unet: DenoisingUNet
    reference_net: ReferenceNet
    pose_guider: PoseGuider
    image_encoder: CLIPVisionModelWithProjection
    vae: AutoencoderKL
    scheduler: DDIMScheduler
    reference_control: ReferenceControl | None
    _known: tuple[Pictures, Tensor] | None = None  # carried pictures and their latents, from a call to its decoding

    def __init__(
        self,
        denoising_unet: DenoisingUNet,
        reference_net: ReferenceNet | None,
        pose_guider: PoseGuider,
        image_encoder: CLIPVisionModelWithProjection,
        vae: AutoencoderKL,
        scheduler: DDIMScheduler,
        size: list[int] | tuple[int, ...] = (768, 768),  # diffusers reads this annotation; it does not know Sequence
        skeleton_style: str = "dwpose",
        reference_pose: bool = False,
        reference_latents: bool = False,
        carried_reference: bool = False,
        num_inference_steps: int = 20,
        guidance_scale: float = 3.5,
        window: int = 24,
        overlap: int = 4,
        aggregation: str = "fade",
        stretch: bool = False,
        reference_path: str = "reference_net",
        shared_noise: bool = False,
        keep_detail: bool = False,
        reference_control: ReferenceControl | None = None,
    ) -> None:
        given = dict(locals())
        super().__init__()
        options = {name: given[name] for name in ANIMATE_ANYONE}
        check_options(options)
        for name, network, needed in (
            ("reference_net", reference_net, reference_path == "reference_net"),
            ("reference_control", reference_control, reference_path in CONTROLLED),
        ):
            if (network is not None) != needed:
                raise InputError(f"reference_path {reference_path}: {name} must {'' if needed else 'not '}be given")
        self.register_modules(
            denoising_unet=denoising_unet,
            reference_net=reference_net,
            pose_guider=pose_guider,
            image_encoder=image_encoder,
            vae=vae,
            scheduler=scheduler,
            reference_control=reference_control,
        )
        self.register_to_config(**{**options, "size": list(size)})

    @property
    def latent_downscale(self) -> int:
        """Pixels per latent cell, per side."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def num_input_channels(self) -> int:
        """Channels that the denoising UNet must take."""
        return (1 + self.config["reference_latents"]) * self.vae.config["latent_channels"]

    def pose_picture_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """At which ``(width, height)`` to draw the poses for a video of ``size``."""
        return self.pose_guider.picture_size(size, self.latent_downscale)

    @torch.no_grad()
    def __call__(
        self,
        reference: NDArray[np.uint8],
        poses: Pictures,
        *,
        reference_pose: NDArray[np.uint8] | None = None,
        carried: Pictures | None = None,
        size: tuple[int, int] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        window: int | None = None,
        overlap: int | None = None,
        window_stride: int = 1,
        window_batch: int = 1,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        callback_on_step_end: StepCallback | None = None,
        output_type: Literal["np", "latent"] = "np",
        return_dict: bool = True,
        progress: Progress | None = None,
    ) -> AnimateAnyoneOutput | tuple[Any]:
        """Animate.

        Args:
            reference: ``(height, width, 3)`` uint8, the character, at the size of the video.
            poses: as many pose pictures as there shall be frames, each ``(h, w, 3)`` uint8 with
                ``(w, h) = self.pose_picture_size((width, height))``; may be drawn lazily.
            reference_pose: the pose picture of ``reference``, same size; needed where the model's
                ``reference_pose`` is set, refused where it is not.
            carried: the reference carried into each pose (``conditions.carry``), as many pictures as ``poses``,
                each of the reference's size; needed where the model's ``carried_reference`` is set.
            size: ``(width, height)`` of the video; ``None`` takes the reference's, or, where the model
                stretches pictures, the size that it was trained at.
            num_inference_steps: DDIM steps; ``None`` takes the model's default.
            guidance_scale: weight of classifier-free guidance; ``None`` takes the model's default.
            window, overlap: frames denoised together and shared with the next window.
            window_stride: models that wrap windows: adds windows of every second frame (2), fourth (3), ...
            window_batch: windows computed at once; changes speed and memory only.
            generator: for the initial noise, drawn for the whole clip at once, or once where it is shared.
            latents: initial noise instead.
            callback_on_step_end: called as ``callback(pipeline, step, timestep, {"latents": ...})``; may
                return other latents.
            progress: told how far denoising is; ``None`` shows diffusers' own bar.
            output_type: ``np`` decodes; ``latent`` leaves that to :meth:`decode`.

        Raises:
            InputError: an input does not fit the model.
        """
        guidance_scale = self.config["guidance_scale"] if guidance_scale is None else guidance_scale
        overlap = self.config["overlap"] if overlap is None else overlap

        # 1. Check what is cheap to check.
        size = check_inputs(self, reference, poses, reference_pose, size, window_batch)
        check_carried(self, reference, poses, carried)
        steps = self.config["num_inference_steps"] if num_inference_steps is None else num_inference_steps
        schedule = self.plan(len(poses), steps, guidance_scale, window, overlap, window_stride)
        guided = guidance_scale != 1
        device = self._execution_device

        # 2. Look at the reference, once.
        latent, image_token, keys_values = self._encode_reference(reference, reference_pose, size, guided, device)
        origin = self._origin(latent, carried, size)

        # 3. Encode the poses.
        pose_features = self._encode_poses(poses, reference_pose, size)

        # 4. Noise for the whole clip.
        shape = (1, self.vae.config["latent_channels"], len(poses), *pose_features.shape[-2:])
        latents = self._noise(shape, generator, latents)

        # 5. Denoise: every window at every step, then their mean, then guidance.
        def predict(noisy: Tensor, t: Tensor, chunk: list[list[int]]) -> Tensor:
            return self._predict(noisy, t, chunk, pose_features, latent, origin, image_token, keys_values, guided)

        latents = denoise(
            self,
            predict,
            latents,
            schedule,
            steps=steps,
            overlap=overlap,
            guidance_scale=guidance_scale,
            window_batch=window_batch,
            callback=callback_on_step_end,
            progress=progress,
        )
        if self.config["reference_latents"]:
            latents = latents + origin.to(latents)
            check_finite(self, latents, "the latents hold")

        # 6. Decode.
        result = latents if output_type == "latent" else np.stack(list(self.decode(latents, carried)))
        self.maybe_free_model_hooks()
        return AnimateAnyoneOutput(frames=result) if return_dict else (result,)

    def plan(
        self,
        num_frames: int,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        window: int | None = None,
        overlap: int | None = None,
        window_stride: int = 1,
    ) -> list[list[int]]:
        """Find out, before anything long, whether this model can work so; arguments as in a call.

        Returns:
            The windows, each a list of frame numbers.

        Raises:
            InputError: a setting is out of range for this model.
        """
        guidance_scale = self.config["guidance_scale"] if guidance_scale is None else guidance_scale
        window = self.config["window"] if window is None else window
        overlap = self.config["overlap"] if overlap is None else overlap
        most = self.scheduler.config["num_train_timesteps"]
        steps = self.config["num_inference_steps"] if num_inference_steps is None else num_inference_steps
        if not 1 <= steps <= most:
            raise InputError(f"{steps} denoising steps: give 1 to {most}")
        if not math.isfinite(guidance_scale):
            raise InputError(f"guidance {guidance_scale}: give a finite number; 1 turns guidance off")
        if self.config["aggregation"] == "wrap":
            schedule = wrapping_windows(num_frames, window, overlap, window_stride)
        elif window_stride == 1:
            schedule = windows(num_frames, window, overlap)
        else:
            raise InputError(f"window stride {window_stride}: this model's windows fade; it goes with wrap alone")
        longest = self.denoising_unet.config["motion_max_seq_length"]
        if self.denoising_unet.config["use_motion_module"] and len(schedule[0]) > longest:
            raise InputError(f"window is {window}; the temporal layers of this model take at most {longest} frames")
        return schedule

    @torch.no_grad()
    def decode(self, latents: Tensor, carried: Pictures | None = None) -> Iterator[NDArray[np.uint8]]:
        """The frames ``(height, width, 3)`` of ``(1, channels, frames, h, w)`` latents; ``carried`` as in the call."""
        known, self._known = self._known, None
        if not self.config["keep_detail"] or carried is None:
            yield from decode_frames(self.vae, latents)
            return
        same = known is not None and known[0] is carried and known[1].shape == latents.shape
        yield from decode_frames(self.vae, latents, carried, known[1] if known is not None and same else None)

    def _noise(self, shape: tuple[int, ...], generator: torch.Generator | None, latents: Tensor | None) -> Tensor:
        device = self._execution_device
        if latents is None:
            latents = initial_noise(shape, 2, shared=self.config["shared_noise"], generator=generator, device=device)
        elif tuple(latents.shape) != shape:
            raise InputError(f"latents have shape {tuple(latents.shape)}; they must be {shape}")
        return latents.to(device, torch.float32) * self.scheduler.init_noise_sigma

    def _predict(
        self,
        latents: Tensor,
        t: Tensor,
        chunk: list[list[int]],
        pose_features: Tensor,
        latent: Tensor,
        origin: Tensor,
        image_token: Tensor,
        keys_values: ReferenceKeysValues | None,
        guided: bool,
        scene: SceneLatents | None = None,
    ) -> Tensor:
        # -> (windows, [unconditional, conditional] or [conditional], channels, frames, h, w)
        noisy = torch.cat([latents[:, :, frames] for frames in chunk])
        pose = torch.cat([pose_features[:, :, frames] for frames in chunk]).to(noisy.device)
        token = image_token.repeat(len(chunk), 1, 1)
        if guided:
            noisy, pose = torch.cat([noisy] * 2), torch.cat([pose] * 2)
            token = torch.cat([torch.zeros_like(token), token])
        noisy = self.scheduler.scale_model_input(noisy, t).to(self.denoising_unet.dtype)  # type: ignore[arg-type]
        if self.config["reference_latents"]:
            still = origin.shape[2] == 1
            beside = torch.cat([origin if still else origin[:, :, frames] for frames in chunk])
            noisy = join_reference(noisy, beside.to(noisy.device), guided * len(chunk))
        control = self.reference_control
        seen = keys_values if control is None else control(noisy, t, token, latent, int(guided))
        noisy, objects = (noisy, None) if scene is None else scene.beside(noisy, chunk)
        out = self.denoising_unet(noisy, t, token, pose, seen, objects)
        return out.unflatten(0, (1 + guided, len(chunk))).transpose(0, 1)

    def _encode_reference(
        self,
        reference: NDArray[np.uint8],
        reference_pose: NDArray[np.uint8] | None,
        size: tuple[int, int],
        guided: bool,
        device: torch.device,
    ) -> tuple[Tensor, Tensor, ReferenceKeysValues | None]:
        # -> latent (1, c, h, w), image token, keys and values of ReferenceNet's features
        token = picture_token(self.image_encoder, reference).to(self.denoising_unet.dtype)
        latent = self._encode(reference, size)[:, :, 0].to(device)
        if self.config["reference_path"] != "reference_net":
            return latent, torch.zeros_like(token) if self.config["reference_path"] == "controlnet" else token, None
        pose = (
            None
            if reference_pose is None
            else self._encode_poses([reference_pose], reference_pose, size)[:, :, 0].to(device)
        )
        features = self.reference_net(latent.to(self.reference_net.dtype), token, pose)
        # The unconditional half sees no reference; all its windows count as one sample.
        return latent, token, self.denoising_unet.project_reference(features, num_unconditional=int(guided))

    def _origin(self, latent: Tensor, carried: Pictures | None, size: tuple[int, int]) -> Tensor:
        """Of which latents those that are denoised are changes, ``(1, c, 1 or frames, h, w)``."""
        if carried is None:
            return latent[:, :, None]
        means = self._encode_means(carried, size)
        if self.config["keep_detail"]:  # decoding wants them again
            self._known = (carried, means)
        return means * self.vae.config["scaling_factor"]

    def _encode(self, picture: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
        """Latents ``(1, c, 1, h, w)`` of a picture, scaled, on the CPU."""
        return self._encode_all([picture], size)

    def _encode_all(self, pictures: Pictures, size: tuple[int, int]) -> Tensor:
        """Latents ``(1, c, frames, h, w)`` of a clip, scaled; they are kept on the CPU, see :meth:`_encode_poses`."""
        return self._encode_means(pictures, size) * self.vae.config["scaling_factor"]

    def _encode_means(self, pictures: Pictures, size: tuple[int, int]) -> Tensor:
        # As `_encode_all`, not scaled.
        count, means, device = at_once(*size), list[Tensor](), self._execution_device
        for first in range(0, len(pictures), count):
            some = np.stack([stretch(pictures[i], size) for i in range(first, min(first + count, len(pictures)))])
            pixels = torch.from_numpy(some).to(device).permute(0, 3, 1, 2).contiguous()
            means.append(encode(self.vae, pixels.float() / 127.5 - 1).cpu())
        return torch.cat(means).transpose(0, 1)[None].contiguous()

    def _encode_poses(self, poses: Pictures, reference_pose: NDArray[np.uint8] | None, size: tuple[int, int]) -> Tensor:
        # Kept on the CPU: a long clip's features may not fit beside the networks.
        guider, device = self.pose_guider, self._execution_device

        def picture(pose: NDArray[np.uint8]) -> Tensor:
            drawn = torch.from_numpy(stretch(pose, self.pose_picture_size(size))).to(device)
            return drawn.permute(2, 0, 1)[None, :, None].to(guider.dtype) / 255

        own = None if reference_pose is None else picture(reference_pose)
        features: list[Tensor] = []
        shape = poses[0].shape
        for number, pose in enumerate(poses):
            if pose.shape != shape:
                raise InputError(f"poses[{number}] has shape {pose.shape}, poses[0] {shape}; draw all at one size")
            features.append(guider(guider.beside(picture(pose), own)).cpu())
        return torch.cat(features, 2)
