"""``AnimateAnyone2Pipeline``: the character in the video's own environment, holding the same objects.

Layouts as in :mod:`animate_anyone.sampling.pipeline`; masks are ``(frames, height, width)`` bool.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from diffusers import DDIMScheduler
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.conditions.environment import FORMULATIONS, latent_mask
from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import parameters_of
from animate_anyone.models.object_guider import ObjectFeatures, ObjectGuider
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.pose_modulation import PoseModulation
from animate_anyone.progress import Progress
from animate_anyone.sampling.denoising import Hold, denoise
from animate_anyone.sampling.finite import check_finite
from animate_anyone.sampling.inputs import Pictures, check_carried, check_inputs
from animate_anyone.sampling.pipeline import AnimateAnyoneOutput, AnimateAnyonePipeline, StepCallback
from animate_anyone.sampling.scene import SceneLatents, check_scene

CHUNK = 8
"""Frames whose poses are encoded at once, beside those in reach of them."""


class AnimateAnyone2Pipeline(AnimateAnyonePipeline):
    """Animate Anyone 2 (arXiv 2502.06145).

    Args (those beyond ``AnimateAnyonePipeline``'s; all by name):
        pose_guider: ``None`` where ``uses_depth``: pose modulation takes its place.
        pose_modulation, object_guider: the networks; ``None`` where the model goes without.
        formulation: how the region of the character was made of its mask, a name in
            ``conditions.environment.FORMULATIONS``.
        uses_objects: whether there is an ``object_guider``.
        uses_depth: whether there is a ``pose_modulation``, told structured depth beside the poses.
    """

    model_cpu_offload_seq = (
        "image_encoder->pose_guider->reference_net->pose_modulation->object_guider->denoising_unet->vae"
    )
    _optional_components: ClassVar[list[str]] = [
        *AnimateAnyonePipeline._optional_components,
        "pose_guider",
        "pose_modulation",
        "object_guider",
    ]

    pose_modulation: PoseModulation | None
    object_guider: ObjectGuider | None

    @parameters_of(AnimateAnyonePipeline)
    def __init__(
        self,
        *,
        pose_guider: PoseGuider | None = None,
        pose_modulation: PoseModulation | None = None,
        object_guider: ObjectGuider | None = None,
        formulation: str = "shape_agnostic",
        uses_objects: bool = True,
        uses_depth: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(pose_guider=pose_guider, **options)  # type: ignore[arg-type]
        if formulation not in FORMULATIONS:
            raise InputError(f"formulation {formulation!r} is not known; give {' or '.join(FORMULATIONS)}")
        for name, network, setting, needed in (
            ("object_guider", object_guider, f"uses_objects {uses_objects}", uses_objects),
            ("pose_modulation", pose_modulation, f"uses_depth {uses_depth}", uses_depth),
            ("pose_guider", pose_guider, f"uses_depth {uses_depth}", not uses_depth),
        ):
            if (network is not None) != needed:
                raise InputError(f"{setting}: {name} must {'' if needed else 'not '}be given")
        for name, only in (("stretch", False), ("reference_path", "reference_net")):
            if self.config[name] != only:
                raise InputError(f"{name} is {self.config[name]!r}; Animate Anyone 2 goes with {only!r} alone")
        self.register_modules(pose_modulation=pose_modulation, object_guider=object_guider)
        self.register_to_config(formulation=formulation, uses_objects=uses_objects, uses_depth=uses_depth)

    @property
    def num_input_channels(self) -> int:
        """Channels that the denoising UNet must take: those of the environment and the mask are the last."""
        return super().num_input_channels + self.num_environment_channels

    @property
    def num_environment_channels(self) -> int:
        """Channels of the environment's latents and the mask."""
        return self.vae.config["latent_channels"] + 1

    @property
    def guider(self) -> PoseGuider | PoseModulation:
        """The network that encodes the poses."""
        return self.pose_guider if self.pose_modulation is None else self.pose_modulation

    def pose_picture_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """At which ``(width, height)`` to draw the poses, and their depth, for a video of ``size``."""
        return self.guider.picture_size(size, self.latent_downscale)

    @torch.no_grad()
    def __call__(  # type: ignore[override]
        self,
        reference: NDArray[np.uint8],
        poses: Pictures,
        *,
        environment: Pictures,
        mask: NDArray[np.bool_],
        objects: Pictures | None = None,
        object_mask: NDArray[np.bool_] | None = None,
        depth: NDArray[np.float32] | None = None,
        reference_pose: NDArray[np.uint8] | None = None,
        carried: Pictures | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        window: int | None = None,
        overlap: int | None = None,
        window_batch: int = 1,
        continuation: int = 0,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        callback_on_step_end: StepCallback | None = None,
        output_type: Literal["np", "latent"] = "np",
        return_dict: bool = True,
        progress: Progress | None = None,
    ) -> AnimateAnyoneOutput | tuple[Any]:
        """Put the character into the environment.

        Under guidance the unconditional half sees poses, environment and objects, and not the reference, as in
        Animate Anyone: guidance makes the character more like the reference and leaves the scene alone.

        Args (the others as in ``AnimateAnyonePipeline``):
            environment: as many frames as ``poses``, each ``(height, width, 3)`` uint8 of the reference's size, the
                region of the mask emptied (``conditions.environment.empty``).
            mask: ``(frames, height, width)`` bool, true where the character is to be made
                (``conditions.environment.formulate``).
            objects: as ``environment``, frames that are emptied outside ``object_mask``; ``None``: there are none.
            object_mask: as ``mask``, true on the objects.
            depth: structured depth, ``(frames, h, w)`` in [0, 1] (``conditions.limb_depth``), of the pose pictures'
                size; needed where the model's ``uses_depth`` is set, refused where it is not.
            continuation: 0: a long clip is made by temporal aggregation, in windows that overlap. Else, as the
                paper: segments of ``window`` frames are made one after the other, and the first ``continuation``
                frames of each (or more, where the clip's end asks for it) are the last of those before: at every
                step they are put in, noised as far as the step wants. ``overlap`` is then not used.

        Raises:
            InputError: an input does not fit the model.
        """
        guidance_scale = self.config["guidance_scale"] if guidance_scale is None else guidance_scale
        overlap = self.config["overlap"] if overlap is None else overlap

        # 1. Check what is cheap to check.
        size = check_inputs(self, reference, poses, reference_pose, None, window_batch)
        check_carried(self, reference, poses, carried)
        check_scene(self, size, len(poses), environment, mask, objects, object_mask, depth)
        steps = self.config["num_inference_steps"] if num_inference_steps is None else num_inference_steps
        schedule = self.plan(len(poses), steps, guidance_scale, window, overlap, continuation=continuation)
        guided = guidance_scale != 1
        device = self._execution_device

        # 2. Look at the reference, the poses and the scene, once.
        latent, token, keys_values = self._encode_reference(reference, reference_pose, size, guided, device)
        origin = self._origin(latent, carried, size)
        told = self._encode_poses(poses, reference_pose, size, depth)
        scene = self._encode_scene(environment, mask, objects, object_mask, size)

        # 3. Noise for the whole clip.
        shape = (1, self.vae.config["latent_channels"], len(poses), *told.shape[-2:])
        latents = self._noise(shape, generator, latents)

        # 4. Denoise: all windows together, or one segment after the other.
        whole = [list(range(len(poses)))]
        done, result = 0, torch.empty_like(latents)
        for segment in schedule if continuation else whole:
            frames = slice(segment[0], segment[-1] + 1)  # a view: nothing of the clip is held twice
            noise = latents[:, :, frames]
            before = slice(frames.start, done)
            made = denoise(
                self,
                partial(
                    self._predict,
                    pose_features=told[:, :, frames],
                    latent=latent,
                    origin=origin if origin.shape[2] == 1 else origin[:, :, frames],
                    image_token=token,
                    keys_values=keys_values,
                    guided=guided,
                    scene=scene.of_frames(frames),
                ),
                noise,
                [list(range(len(segment)))] if continuation else schedule,
                steps=steps,
                overlap=0 if continuation else overlap,
                guidance_scale=guidance_scale,
                window_batch=window_batch,
                hold=holding(self.scheduler, result[:, :, before], noise) if done else None,
                callback=callback_on_step_end,
                progress=progress,
            )
            result[:, :, done : frames.stop] = made[:, :, done - frames.start :]
            done = frames.stop
        if self.config["reference_latents"]:
            result = result + origin.to(result)
            check_finite(self, result, "the latents hold")

        # 5. Decode.
        made_frames = result if output_type == "latent" else np.stack(list(self.decode(result, carried)))
        self.maybe_free_model_hooks()
        return AnimateAnyoneOutput(frames=made_frames) if return_dict else (made_frames,)

    def plan(
        self,
        num_frames: int,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        window: int | None = None,
        overlap: int | None = None,
        window_stride: int = 1,
        continuation: int = 0,
    ) -> list[list[int]]:
        """As ``AnimateAnyonePipeline.plan``; with ``continuation`` the windows are the segments, in order."""
        if continuation:
            longest = self.config["window"] if window is None else window
            if not 0 < continuation < longest:
                raise InputError(f"continuation is {continuation}; give 0, or less than the window of {longest} frames")
            steps = self.config["num_inference_steps"] if num_inference_steps is None else num_inference_steps
            if steps == 1:  # the frames that are put in are noise alone then
                raise InputError("continuation has nothing to go on from in 1 step; give 2 steps or more")
            if self.config["aggregation"] != "fade":
                raise InputError("this model's windows wrap round; continuation goes with windows that fade alone")
            overlap = continuation
        return super().plan(num_frames, num_inference_steps, guidance_scale, window, overlap, window_stride)

    def _encode_poses(
        self,
        poses: Pictures,
        reference_pose: NDArray[np.uint8] | None,
        size: tuple[int, int],
        depth: NDArray[np.float32] | None = None,
    ) -> Tensor:
        # Kept on the CPU, as in Animate Anyone. A chunk is encoded with the frames that have a say in it.
        guider, device, count = self.guider, self._execution_device, len(poses)
        reach = 0 if depth is None else guider.reach  # type: ignore[union-attr]

        def pictures(some: Pictures) -> Tensor:
            drawn = torch.from_numpy(np.stack(list(some))).to(device)
            return drawn.permute(3, 0, 1, 2)[None].to(guider.dtype) / 255

        own = None if reference_pose is None else pictures([reference_pose])

        def chunk(start: int) -> Tensor:
            stop = min(start + CHUNK, count)
            first, last = max(start - reach, 0), min(stop + reach, count)
            some = list(poses[first:last])
            for number, pose in enumerate(some, first):
                if pose.shape != poses[0].shape:
                    raise InputError(
                        f"poses[{number}] has shape {pose.shape}, poses[0] {poses[0].shape}; draw all at one size"
                    )
            given: tuple[Tensor, ...] = (guider.beside(pictures(some), own),)
            if depth is not None:
                near = torch.from_numpy(np.ascontiguousarray(depth[first:last])).to(device, guider.dtype)
                given = (*given, near[None, None])
            return guider(*given)[:, :, start - first : stop - first].cpu()

        return torch.cat([chunk(start) for start in range(0, count, CHUNK)], 2)

    def _encode_scene(
        self,
        environment: Pictures,
        mask: NDArray[np.bool_],
        objects: Pictures | None,
        object_mask: NDArray[np.bool_] | None,
        size: tuple[int, int],
    ) -> SceneLatents:
        latents = self._encode_all(environment, size)
        cells = torch.from_numpy(latent_mask(mask, self.latent_downscale)).float()[None, None]
        if objects is None or object_mask is None or not object_mask.any():
            return SceneLatents(latents, cells)
        assert self.object_guider is not None
        guider, device = self.object_guider, self._execution_device
        where = torch.from_numpy(latent_mask(object_mask, self.latent_downscale))
        found: list[ObjectFeatures] = []
        for number, here in enumerate(where):
            # Zeros where no object is, and in frames without one nothing else.
            latent = self._encode(objects[number], size) * here if here.any() else torch.zeros_like(latents[:, :, :1])
            features = guider(latent.to(device, guider.dtype))
            found.append(ObjectFeatures(tuple(level.cpu() for level in features.levels), features.present.cpu()))
        levels = tuple(torch.cat(level, 2) for level in zip(*(f.levels for f in found), strict=True))
        return SceneLatents(latents, cells, ObjectFeatures(levels, torch.cat([f.present for f in found], 1)))


def holding(scheduler: DDIMScheduler, known: Tensor, noise: Tensor) -> Hold:
    """Put frames that are made already in at the head of a segment, noised as far as each step wants.

    Args:
        known: ``(1, channels, frames, h, w)``, without noise.
        noise: of the whole segment; its first frames are taken.
    """
    count = known.shape[2]

    def hold(latents: Tensor, t: Tensor) -> Tensor:
        noised = scheduler.add_noise(known, noise[:, :, :count], t.view(1))  # type: ignore[arg-type]
        return torch.cat([noised, latents[:, :, count:]], 2)

    return hold
