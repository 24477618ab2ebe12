"""``AnimateAnyonePipeline``: one picture and a sequence of pose pictures become a video.

Layouts: latents ``(batch, channels, frames, height, width)``; frames that come out are
``(frames, height, width, 3)`` uint8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.diffusers_files import diffusers_files
from animate_anyone.models.image_tokens import picture_token
from animate_anyone.models.pipeline_options import ANIMATE_ANYONE, WITH_REFERENCE_NET, check_options, takes
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.reference_control import ReferenceControl
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.models.reference_resnet import ReferenceResNet
from animate_anyone.progress import Progress
from animate_anyone.sampling.arrival import receive_pipeline
from animate_anyone.sampling.clip_conditions import ClipConditions
from animate_anyone.sampling.denoising import Half
from animate_anyone.sampling.frame_features import FrameFeatures
from animate_anyone.sampling.inputs import Pictures, check_inputs
from animate_anyone.sampling.latents import PLAIN, AnimateAnyoneOutput, Finish, pixels, stretch
from animate_anyone.sampling.reference import ReferenceCondition, check_looks, check_pooled, without_reference_net
from animate_anyone.sampling.scene import Planes, SceneInputs, check_depth
from animate_anyone.sampling.speed import EXACT, Speed
from animate_anyone.sampling.windowed import Clip, Kept, StepCallback, WindowedPipeline


class AnimateAnyonePipeline(WindowedPipeline):
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
        reference_path: how the reference's looks get in. ``reference_net``: the method. The others are what the paper
            compares with it, see ``models.pipeline_options``, each with its network, ``reference_control`` or
            ``reference_resnet``, or without.
        image_tokens: ``pooled`` or ``patches``, see ``models.image_tokens``.
        options: those above, and those of :class:`~animate_anyone.first_guess.guess.GuessOptions`, which are not the
            paper's; defaults in ``models.pipeline_options``.
    """

    poses_at_once = 1  # encoded
    model_cpu_offload_seq = (
        "image_encoder->pose_guider->reference_net->reference_resnet->reference_control->denoising_unet->vae"
    )
    _callback_tensor_inputs = ("latents",)
    _optional_components: ClassVar[list[str]] = ["reference_net", "reference_control", "reference_resnet"]

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
        reference_resnet: ReferenceResNet | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_options(options)
        options = {**ANIMATE_ANYONE, **options}
        check_looks(options["reference_path"], reference_net, reference_control, reference_resnet)
        self.register_modules(
            denoising_unet=denoising_unet,
            reference_net=reference_net,
            pose_guider=pose_guider,
            image_encoder=image_encoder,
            vae=vae,
            scheduler=scheduler,
            reference_control=reference_control,
            reference_resnet=reference_resnet,
        )
        self.register_to_config(**{**options, "size": list(options["size"])})

    def register_to_config(self, **settings: Any) -> None:
        """As diffusers'; its last act in ``from_pretrained`` is to register the folder, when all networks have come."""
        super().register_to_config(**settings)
        if "_name_or_path" in settings:
            receive_pipeline(self)

    def save_pretrained(self, save_directory: str | PathLike[str], *safe: bool, **options: Any) -> None:
        """As diffusers'; the folder holds what diffusers alone loads it with (``models.diffusers_files``)."""
        files = diffusers_files({**self.config, "_class_name": type(self).__name__}, options.get("repo_id"))
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():  # first, since diffusers may upload the folder
            (Path(save_directory) / name).write_text(content, encoding="utf-8")
        super().save_pretrained(save_directory, *safe, **options)

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
        speed: Speed = EXACT,
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
            speed: trade-offs, what is left out; nothing by default.
            output_type: ``np`` decodes; ``latent`` leaves that to :meth:`decode`.

        Raises:
            InputError: an input does not fit the model.
        """
        clip = self._begin(
            reference,
            poses,
            reference_pose=reference_pose,
            carried=carried,
            size=size,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            window=window,
            overlap=overlap,
            window_stride=window_stride,
            window_batch=window_batch,
            generator=generator,
            latents=latents,
            callback_on_step_end=callback_on_step_end,
            progress=progress,
            speed=speed,
        )
        return self._finish(clip, output_type, return_dict)

    def stream(
        self,
        reference: NDArray[np.uint8],
        poses: Pictures,
        *,
        kept: Kept | None = None,
        finish: Finish = PLAIN.finish,
        **options: Any,
    ) -> Iterator[NDArray[np.uint8]]:
        """The frames of a call, ``(height, width, 3)`` uint8 each, every one as soon as it is finished.

        What is held does not grow with the clip. The frames are those of a call, bit for bit.

        Args:
            kept: keeps how far the clip is; where it has a state, frames come from that on.
            finish: a frame's number and the frame in, what is handed out in its place out.
            options: those of a call, but for ``callback_on_step_end``, ``output_type`` and ``return_dict``. Models
                whose windows wrap round finish no frame before all. And ``ranks``, the processes that make the clip
                together, each of which makes the same call: windows and frames are shared out, and the first hands out
                all frames, the others none.

        Raises:
            InputError: an input does not fit the model; before the first frame is asked for.
        """
        return self._frames(self._begin(reference, poses, **options), kept, finish)

    def encode(
        self,
        reference: NDArray[np.uint8],
        poses: Pictures,
        *,
        reference_pose: NDArray[np.uint8] | None = None,
        carried: Pictures | None = None,
        size: tuple[int, int] | None = None,
        speed: Speed = EXACT,
    ) -> ClipConditions:
        """What the networks are given of a clip, for :meth:`denoise`; arguments as in a call.

        Raises:
            InputError: an input does not fit the model.
        """
        size, pictures = self._check(reference, poses, None, reference_pose, carried, size)
        return self._look(reference, poses, None, reference_pose, pictures, size, speed)

    def check_speed(self, speed: Speed) -> None:
        if speed.features and (self.reference_control is not None or len(self.denoising_unet.up_blocks) < 2):
            why = "it has one level" if self.reference_control is None else "its reference goes into every block"
            raise InputError(f"speed 'features' is nothing for this model: {why}; leave that word out")
        check_pooled(self.config["reference_path"], speed.reference)

    @torch.no_grad()
    def _begin(
        self,
        reference: NDArray[np.uint8],
        poses: Pictures,
        scene: SceneInputs | None = None,
        *,
        reference_pose: NDArray[np.uint8] | None = None,
        carried: Pictures | None = None,
        size: tuple[int, int] | None = None,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        callback_on_step_end: StepCallback | None = None,
        progress: Progress | None = None,
        speed: Speed = EXACT,
        **settings: Any,
    ) -> Clip:
        """A clip that is about to be denoised; arguments as in a call."""
        # 1. Check what is cheap to check.
        size, pictures = self._check(reference, poses, scene, reference_pose, carried, size)
        plan = self._plan(len(poses), speed=speed, **settings)

        # 2. Look at the reference, once; at the poses when a window needs them.
        conditions = self._look(reference, poses, scene, reference_pose, pictures, size, speed)

        # 3. Noise for the whole clip; denoise: every window at every step, then their mean, then guidance.
        return self._clip(conditions, plan, generator, latents, callback_on_step_end, progress)

    def _check(
        self,
        reference: NDArray[np.uint8],
        poses: Pictures,
        scene: SceneInputs | None,
        reference_pose: NDArray[np.uint8] | None,
        carried: Pictures | None,
        size: tuple[int, int] | None,
    ) -> tuple[tuple[int, int], Pictures | None]:
        """``(width, height)`` of the video, and the pictures of the first guess."""
        accepted = self.config, self.latent_downscale, self.pose_picture_size
        size = check_inputs(*accepted, reference, poses, reference_pose, size)
        return size, self.guess_options.check(reference, len(poses), carried)

    @torch.no_grad()
    def _look(
        self,
        reference: NDArray[np.uint8],
        poses: Pictures,
        scene: SceneInputs | None,
        reference_pose: NDArray[np.uint8] | None,
        pictures: Pictures | None,
        size: tuple[int, int],
        speed: Speed,
    ) -> ClipConditions:
        """What the networks are given; the inputs have been checked."""
        look = self._encode_reference(reference, reference_pose, size, speed)
        guess = self._clip_guess(look.latent, pictures, size)
        depth = None if scene is None else scene.depth
        return ClipConditions(look, self._pose_features(poses, reference_pose, size, depth), guess)

    def _predict(
        self, conditions: ClipConditions, noisy: Tensor, t: Tensor, chunk: list[list[int]], half: Half | None = None
    ) -> Tensor:
        # (windows, channels, frames, h, w) -> (windows, [unconditional, conditional] or one of them, ...)
        length, count, both = len(chunk[0]), len(chunk), conditions.guided and half is None
        num_unconditional = count * (both or half == "unconditional")
        given = conditions.of([frame for frames in chunk for frame in frames])
        placed = [list(range(first, first + length)) for first in range(0, count * length, length)]
        pose = torch.cat([given.poses[:, :, frames] for frames in placed]).to(noisy.device)
        token = conditions.reference.image_token.repeat(count, 1, 1)
        if both:
            noisy, pose, token = torch.cat([noisy] * 2), torch.cat([pose] * 2), torch.cat([token] * 2)
        token[:num_unconditional] = 0
        noisy = self.scheduler.scale_model_input(noisy, t).to(self.denoising_unet.dtype)  # type: ignore[arg-type]
        noisy = given.guess.join(noisy, placed, num_unconditional)
        # The unconditional half sees no reference; all its windows count as one sample.
        reference = conditions.reference.at_step(noisy, t, token, int(both), half)
        noisy, objects = (noisy, None) if given.scene is None else given.scene.beside(noisy, placed)
        del given  # copies of it are where the networks compute
        out = self.denoising_unet(noisy, t, token, pose, reference, objects, conditions.before)
        return out.unflatten(0, (1 + both, count)).transpose(0, 1)

    def _encode_reference(
        self,
        reference: NDArray[np.uint8],
        reference_pose: NDArray[np.uint8] | None,
        size: tuple[int, int],
        speed: Speed,
    ) -> ReferenceCondition:
        device, path = self._execution_device, self.config["reference_path"]
        token = picture_token(self.image_encoder, reference, self.config["image_tokens"]).to(self.denoising_unet.dtype)
        latent = self._encode([reference], size)[:, :, 0].to(device)
        if path not in (*WITH_REFERENCE_NET, "resnet"):
            return without_reference_net(latent, token, path, self.reference_control)
        pose = None
        if reference_pose is not None:
            pose = self._pose_features([reference_pose], reference_pose, size).of([0])[0][:, :, 0].to(device)
        if self.reference_resnet is None:
            features = self.reference_net(latent.to(self.reference_net.dtype), token, pose)
        else:
            features = self.reference_resnet(pixels(stretch(reference, size), device))
        height, width = latent.shape[-2:]
        features = speed.seen(features, (height, width))
        return ReferenceCondition(latent, token, self.denoising_unet.project_reference(features))

    def _pose_features(
        self,
        poses: Pictures,
        reference_pose: NDArray[np.uint8] | None,
        size: tuple[int, int],
        depth: Planes | None = None,
    ) -> FrameFeatures:
        """The pose guider's features; with depth those of frames near by are encoded with each block."""
        guider, device, count, shape = self.guider, self._execution_device, len(poses), poses[0].shape
        drawn_size, reach = self.pose_picture_size(size), 0 if depth is None else guider.reach
        held: dict[int, NDArray[np.uint8]] = {}  # drawings that the next block needs too

        def pictures(some: Iterable[NDArray[np.uint8]]) -> Tensor:
            drawn = torch.from_numpy(np.stack([stretch(pose, drawn_size) for pose in some])).to(device)
            return drawn.permute(3, 0, 1, 2)[None].to(guider.dtype) / 255

        beside = guider.config["conditioning_channels"] > 3  # the reference's pose joins each
        own = pictures([reference_pose]) if beside and reference_pose is not None else None

        @torch.no_grad()
        def make(block: range) -> tuple[Tensor]:
            frames = range(max(block.start - reach, 0), min(block.stop + reach, count))
            drawn = {number: held[number] if number in held else poses[number] for number in frames}
            for number, pose in drawn.items():
                if pose.shape != shape:
                    raise InputError(f"poses[{number}] has shape {pose.shape}, poses[0] {shape}; draw all at one size")
            given: tuple[Tensor, ...] = (guider.beside(pictures(drawn.values()), own),)
            if depth is not None:
                near = np.stack([depth[number] for number in frames])
                check_depth(near)
                given = (*given, torch.from_numpy(near).to(device, guider.dtype)[None, None])
            held.clear()
            held.update({number: drawn[number] for number in frames[max(0, len(frames) - 2 * reach) :] if reach})
            return (guider(*given)[:, :, block.start - frames.start : block.stop - frames.start],)

        return FrameFeatures(count, self.poses_at_once, make)
