"""``AnimateAnyonePipeline``: one picture and a sequence of pose pictures become a video.

Layouts: latents ``(batch, channels, frames, height, width)``; frames that come out are
``(frames, height, width, 3)`` uint8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from animate_anyone.errors import InputError
from animate_anyone.first_guess.guess import FirstGuess
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.fast_layers import use_fast_layers
from animate_anyone.models.image_tokens import picture_token
from animate_anyone.models.pipeline_options import ANIMATE_ANYONE, check_options, takes
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.reference_control import CONTROLLED, ReferenceControl
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.progress import Progress
from animate_anyone.sampling.denoising import Hold, denoise
from animate_anyone.sampling.inputs import Pictures, check_inputs
from animate_anyone.sampling.latents import AnimateAnyoneOutput, LatentVideoPipeline, check_finite, stretch
from animate_anyone.sampling.reference import ReferenceCondition, check_given, without_reference_net
from animate_anyone.sampling.scene import SceneLatents
from animate_anyone.sampling.windows import window_weights, windows, wrapping_windows

StepCallback = Callable[["AnimateAnyonePipeline", int, int, dict[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class ClipConditions:
    """What the networks are given of a clip, computed once; it waits where the networks do not compute.

    Attributes:
        reference: the reference's look.
        poses: ``(1, channels, frames, h, w)``, the pose guider's features.
        guess: what the networks change.
        guided: whether guidance asks for an unconditional half.
        scene: the environment and the objects (Animate Anyone 2).
    """

    reference: ReferenceCondition
    poses: Tensor
    guess: FirstGuess
    guided: bool
    scene: SceneLatents | None = None

    def of_frames(self, frames: slice) -> ClipConditions:
        """Of some frames; views."""
        scene = self.scene and self.scene.of_frames(frames)
        return replace(self, poses=self.poses[:, :, frames], guess=self.guess.of_frames(frames), scene=scene)


@dataclass(frozen=True)
class Plan:
    """How a clip is denoised.

    Attributes:
        steps: DDIM steps.
        guidance_scale: 1 turns guidance off.
        windows: lists of frame numbers; with continuation segments, one after the other.
        overlap: frames over which windows fade into each other, where the model's do.
        window_batch: windows computed at once.
    """

    steps: int
    guidance_scale: float
    windows: list[list[int]]
    overlap: int
    window_batch: int


class AnimateAnyonePipeline(LatentVideoPipeline):
    """Animate Anyone (arXiv 2311.17117).

    Args:
        denoising_unet, reference_net, pose_guider, image_encoder, vae: the networks.
        scheduler: the noise schedule that the networks were trained with.
        size: ``(width, height)`` that they were trained at.
        skeleton_style: how the poses that they saw were drawn, a name in ``conditions.draw.STYLES``.
        reference_pose: whether ReferenceNet is given the pose of the reference picture too.
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
        reference_control: the network of ``controlnet`` and ``both``, ``None`` elsewhere.
        options: those above, and those of :class:`~animate_anyone.first_guess.guess.GuessOptions`, which are not the
            paper's; defaults in ``models.pipeline_options``.
    """

    poses_at_once = 1  # encoded
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

    @takes(ANIMATE_ANYONE)
    def __init__(
        self,
        denoising_unet: DenoisingUNet,
        reference_net: ReferenceNet | None,
        pose_guider: PoseGuider,
        image_encoder: CLIPVisionModelWithProjection,
        vae: AutoencoderKL,
        scheduler: DDIMScheduler,
        reference_control: ReferenceControl | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_options(options)
        options = {**ANIMATE_ANYONE, **options}
        path = options["reference_path"]
        check_given(f"reference_path {path}", "reference_net", reference_net, path == "reference_net")
        check_given(f"reference_path {path}", "reference_control", reference_control, path in CONTROLLED)
        self.register_modules(
            denoising_unet=denoising_unet,
            reference_net=reference_net,
            pose_guider=pose_guider,
            image_encoder=image_encoder,
            vae=vae,
            scheduler=scheduler,
            reference_control=reference_control,
        )
        self.register_to_config(**{**options, "size": list(options["size"])})
        for network in filter(None, (denoising_unet, reference_net, vae)):
            use_fast_layers(network)

    @property
    def num_input_channels(self) -> int:
        """Channels that the denoising UNet must take."""
        return self.guess_options.input_channels(self.vae.config["latent_channels"])

    @property
    def guider(self) -> Any:
        """The network that encodes the poses."""
        return self.pose_guider

    def pose_picture_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """At which ``(width, height)`` to draw the poses, and their depth, for a video of ``size``."""
        return self.guider.picture_size(size, self.latent_downscale)

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
            carried: one picture a pose, each of the reference's size, for models with a first guess
                (:mod:`animate_anyone.first_guess.character`).
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
            progress: shows how far denoising is; ``None`` shows diffusers' own bar.
            output_type: ``np`` decodes; ``latent`` leaves that to :meth:`decode`.

        Raises:
            InputError: an input does not fit the model.
        """
        # 1. Check what is cheap to check.
        accepted = self.config, self.latent_downscale, self.pose_picture_size
        size = check_inputs(*accepted, reference, poses, reference_pose, size, window_batch)
        pictures = self.guess_options.check(reference, len(poses), carried)
        steps, guidance_scale, window, overlap = self._settings(num_inference_steps, guidance_scale, window, overlap)
        planned = self.plan(len(poses), steps, guidance_scale, window, overlap, window_stride)
        plan = Plan(steps, guidance_scale, planned, overlap, window_batch)

        # 2. Look at the reference and the poses, once.
        guided = plan.guidance_scale != 1
        look = self._encode_reference(reference, reference_pose, size, guided)
        guess = self._make_guess(look.latent, pictures, size)
        conditions = ClipConditions(look, self._encode_poses(poses, reference_pose, size), guess, guided)

        # 3. Noise for the whole clip; denoise: every window at every step, then their mean, then guidance.
        latents = self._noise(conditions.poses.shape[2:], generator, latents)
        latents = self._denoise(conditions, latents, plan, callback_on_step_end, progress)

        # 4. Decode.
        return self._finish(latents, conditions.guess, output_type, return_dict)

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
        steps, guidance_scale, window, overlap = self._settings(num_inference_steps, guidance_scale, window, overlap)
        most = self.scheduler.config["num_train_timesteps"]
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

    def _settings(self, *given: Any) -> list[Any]:
        """Steps, guidance scale, window and overlap: the model's own where ``None`` is given."""
        names = ("num_inference_steps", "guidance_scale", "window", "overlap")
        return [self.config[name] if value is None else value for name, value in zip(names, given, strict=True)]

    def _denoise(
        self,
        conditions: ClipConditions,
        latents: Tensor,
        plan: Plan,
        callback: StepCallback | None,
        progress: Progress | None,
        hold: Hold | None = None,
    ) -> Tensor:
        """Latents without noise, of what the networks make; raises :class:`InputError` where they are not finite."""
        self.scheduler.set_timesteps(plan.steps, device=latents.device)
        timesteps = self.scheduler.timesteps
        count = len(timesteps)
        bar = self.progress_bar(timesteps) if progress is None else progress.track(timesteps, count, "denoise")
        overlap = plan.overlap if self.config["aggregation"] == "fade" else 0

        def after_step(step: int, t: Tensor, latents: Tensor) -> Tensor:
            check_finite(self.networks, latents, f"step {step + 1} of {count} gave")
            if callback is None:
                return latents
            changed: dict[str, Tensor] = callback(self, step, int(t), {"latents": latents}) or {}
            return changed.get("latents", latents)

        return denoise(
            lambda noisy, t, chunk: self._predict(conditions, noisy, t, chunk),
            latents,
            scheduler=self.scheduler,
            timesteps=bar,
            windows=plan.windows,
            weights=window_weights(len(plan.windows[0]), overlap),
            guidance_scale=plan.guidance_scale,
            window_batch=plan.window_batch,
            after_step=after_step,
            hold=hold,
        )

    def _predict(self, conditions: ClipConditions, latents: Tensor, t: Tensor, chunk: list[list[int]]) -> Tensor:
        # -> (windows, [unconditional, conditional] or [conditional], channels, frames, h, w)
        guided, scene = conditions.guided, conditions.scene
        noisy = torch.cat([latents[:, :, frames] for frames in chunk])
        pose = torch.cat([conditions.poses[:, :, frames] for frames in chunk]).to(noisy.device)
        token = conditions.reference.image_token.repeat(len(chunk), 1, 1)
        if guided:
            noisy, pose = torch.cat([noisy] * 2), torch.cat([pose] * 2)
            token = torch.cat([torch.zeros_like(token), token])
        noisy = self.scheduler.scale_model_input(noisy, t).to(self.denoising_unet.dtype)  # type: ignore[arg-type]
        noisy = conditions.guess.join(noisy, chunk, guided * len(chunk))
        reference = conditions.reference.at_step(noisy, t, token, int(guided))
        noisy, objects = (noisy, None) if scene is None else scene.beside(noisy, chunk)
        out = self.denoising_unet(noisy, t, token, pose, reference, objects)
        return out.unflatten(0, (1 + guided, len(chunk))).transpose(0, 1)

    def _encode_reference(
        self,
        reference: NDArray[np.uint8],
        reference_pose: NDArray[np.uint8] | None,
        size: tuple[int, int],
        guided: bool,
    ) -> ReferenceCondition:
        device = self._execution_device
        token = picture_token(self.image_encoder, reference).to(self.denoising_unet.dtype)
        latent = self._encode([reference], size)[:, :, 0].to(device)
        if self.config["reference_path"] != "reference_net":
            return without_reference_net(latent, token, self.config["reference_path"], self.reference_control)
        pose = None
        if reference_pose is not None:
            pose = self._encode_poses([reference_pose], reference_pose, size)[:, :, 0].to(device)
        features = self.reference_net(latent.to(self.reference_net.dtype), token, pose)
        # The unconditional half sees no reference; all its windows count as one sample.
        keys_values = self.denoising_unet.project_reference(features, num_unconditional=int(guided))
        return ReferenceCondition(latent, token, keys_values)

    def _encode_poses(
        self,
        poses: Pictures,
        reference_pose: NDArray[np.uint8] | None,
        size: tuple[int, int],
        depth: NDArray[np.float32] | None = None,
    ) -> Tensor:
        # Kept on the CPU: a long clip's features may not fit beside the networks. Poses are drawn in order, once; with
        # depth some are encoded together, with the frames around that their features depend on.
        guider, device, count, shape = self.guider, self._execution_device, len(poses), poses[0].shape
        drawn_size, reach = self.pose_picture_size(size), 0 if depth is None else guider.reach

        def pictures(some: Iterable[NDArray[np.uint8]]) -> Tensor:
            drawn = torch.from_numpy(np.stack([stretch(pose, drawn_size) for pose in some])).to(device)
            return drawn.permute(3, 0, 1, 2)[None].to(guider.dtype) / 255

        def encoded(frames: range) -> Tensor:
            given: tuple[Tensor, ...] = (guider.beside(pictures(held.values()), own),)
            if depth is not None:
                near = torch.from_numpy(np.ascontiguousarray(depth[frames.start : frames.stop]))
                given = (*given, near.to(device, guider.dtype)[None, None])
            return guider(*given)

        own = None if reference_pose is None else pictures([reference_pose])
        coming, held, features = iter(poses), dict[int, NDArray[np.uint8]](), list[Tensor]()
        for start in range(0, count, self.poses_at_once):
            stop = min(start + self.poses_at_once, count)
            frames = range(max(start - reach, 0), min(stop + reach, count))
            held = {number: held[number] if number in held else next(coming) for number in frames}
            for number, pose in held.items():
                if pose.shape != shape:
                    raise InputError(f"poses[{number}] has shape {pose.shape}, poses[0] {shape}; draw all at one size")
            features.append(encoded(frames)[:, :, start - frames.start : stop - frames.start].cpu())
        return torch.cat(features, 2)
