"""``AnimateAnyone2Pipeline``: the character in the video's own environment, holding the same objects.

Layouts as in :mod:`animate_anyone.sampling.pipeline`; masks are ``(frames, height, width)`` bool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.conditions.environment import FORMULATIONS, latent_mask
from animate_anyone.errors import InputError
from animate_anyone.first_guess.collage import objects_over_environment
from animate_anyone.models.autoencoding import at_once
from animate_anyone.models.object_guider import ObjectGuider
from animate_anyone.models.pipeline_options import takes
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.pose_modulation import PoseModulation
from animate_anyone.progress import Progress
from animate_anyone.sampling.clip_conditions import ClipConditions, ClipGuess
from animate_anyone.sampling.continuation import (
    check_continuation,
    decoded_together,
    frames_before,
    holding,
    see_frames,
    segments,
)
from animate_anyone.sampling.denoising import State
from animate_anyone.sampling.frame_features import FrameFeatures
from animate_anyone.sampling.inputs import Pictures
from animate_anyone.sampling.latents import PLAIN, AnimateAnyoneOutput, Finish
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.reference import check_given
from animate_anyone.sampling.scene import ClipScene, Planes, SceneInputs
from animate_anyone.sampling.speed import EXACT, Speed
from animate_anyone.sampling.windowed import Finished, Kept, Plan, StepCallback

OBJECT_LATENTS = ("alone", "changes")


class AnimateAnyone2Pipeline(AnimateAnyonePipeline):
    """Animate Anyone 2 (arXiv 2502.06145).

    Args (those beyond ``AnimateAnyonePipeline``'s; all by name):
        pose_guider: ``None`` where ``uses_depth``: pose modulation takes its place.
        pose_modulation, object_guider: the networks; ``None`` where the model goes without.
        formulation: how the region of the character was made of its mask, a name in
            ``conditions.environment.FORMULATIONS``.
        uses_objects: whether there is an ``object_guider``.
        uses_depth: whether there is a ``pose_modulation``, given structured depth beside the poses.
        object_latents: what the object guider is given: latents of the objects ``alone``, as the paper has it; or the
            ``changes`` that they make to the first guess (ours).
    """

    poses_at_once = 8
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

    @takes(AnimateAnyonePipeline)
    def __init__(
        self,
        *,
        pose_guider: PoseGuider | None = None,
        pose_modulation: PoseModulation | None = None,
        object_guider: ObjectGuider | None = None,
        formulation: str = "shape_agnostic",
        uses_objects: bool = True,
        uses_depth: bool = True,
        object_latents: str = "alone",
        **options: Any,
    ) -> None:
        super().__init__(pose_guider=pose_guider, **options)  # type: ignore[arg-type]
        if formulation not in FORMULATIONS:
            raise InputError(f"formulation {formulation!r} is not known; give {' or '.join(FORMULATIONS)}")
        check_given(f"uses_objects {uses_objects}", "object_guider", object_guider, uses_objects)
        check_given(f"uses_depth {uses_depth}", "pose_modulation", pose_modulation, uses_depth)
        check_given(f"uses_depth {uses_depth}", "pose_guider", pose_guider, not uses_depth)
        for name, only in (("stretch", False), ("reference_path", "reference_net")):
            if self.config[name] != only:
                raise InputError(f"{name} is {self.config[name]!r}; Animate Anyone 2 goes with {only!r} alone")
        self.register_modules(pose_modulation=pose_modulation, object_guider=object_guider)
        if object_latents not in OBJECT_LATENTS:
            raise InputError(f"object_latents {object_latents!r} is not known; give {' or '.join(OBJECT_LATENTS)}")
        if object_latents == "changes" and not self.config["carried_reference"]:
            raise InputError("object_latents changes are those of a first guess; set carried_reference too")
        self.register_to_config(
            formulation=formulation,
            uses_objects=uses_objects,
            uses_depth=uses_depth,
            object_latents=object_latents,
        )

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

    @torch.no_grad()
    def __call__(  # type: ignore[override]
        self,
        reference: NDArray[np.uint8],
        poses: Pictures,
        scene: SceneInputs,
        *,
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
        speed: Speed = EXACT,
    ) -> AnimateAnyoneOutput | tuple[Any]:
        """Put the character into the environment.

        Under guidance the unconditional half sees poses, environment and objects, and not the reference, as in
        Animate Anyone: guidance makes the character more like the reference and leaves the scene alone.

        Args (the others as in ``AnimateAnyonePipeline``):
            scene: the environment, the region to fill, the objects and the structured depth.
            continuation: 0: a long clip is made by temporal aggregation, in windows that overlap. Else, as the
                paper: segments of ``window`` frames are made one after the other, each going on from the last
                ``continuation`` frames made; ``overlap`` is then not used. Models that were trained for it
                (``temporal_reference_frames``) are shown these frames and share none, in any number of steps. With
                others they are the first of the segment too (or more, where the clip's end asks for it), and are
                overwritten at every step, noised as far as it wants.

        Raises:
            InputError: an input does not fit the model.
        """
        clip = self._begin(
            reference,
            poses,
            scene,
            reference_pose=reference_pose,
            carried=carried,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            window=window,
            overlap=overlap,
            window_batch=window_batch,
            continuation=continuation,
            generator=generator,
            latents=latents,
            callback_on_step_end=callback_on_step_end,
            progress=progress,
            speed=speed,
        )
        return self._finish(clip, output_type, return_dict)

    def stream(  # type: ignore[override]
        self,
        reference: NDArray[np.uint8],
        poses: Pictures,
        scene: SceneInputs,
        *,
        kept: Kept | None = None,
        finish: Finish = PLAIN.finish,
        **options: Any,
    ) -> Iterator[NDArray[np.uint8]]:
        """As ``AnimateAnyonePipeline.stream``."""
        return self._frames(self._begin(reference, poses, scene, **options), kept, finish)

    def encode(  # type: ignore[override]
        self,
        reference: NDArray[np.uint8],
        poses: Pictures,
        scene: SceneInputs,
        *,
        reference_pose: NDArray[np.uint8] | None = None,
        carried: Pictures | None = None,
        speed: Speed = EXACT,
    ) -> ClipConditions:
        """As ``AnimateAnyonePipeline.encode``."""
        size, pictures = self._check(reference, poses, scene, reference_pose, carried, None)
        return self._look(reference, poses, scene, reference_pose, pictures, size, speed)

    def _check(
        self,
        reference: NDArray[np.uint8],
        poses: Pictures,
        scene: SceneInputs | None,
        reference_pose: NDArray[np.uint8] | None,
        carried: Pictures | None,
        size: tuple[int, int] | None,
    ) -> tuple[tuple[int, int], Pictures | None]:
        size, pictures = super()._check(reference, poses, scene, reference_pose, carried, size)
        assert scene is not None
        uses = self.config["uses_objects"], self.config["uses_depth"]
        scene.check(len(poses), size, self.pose_picture_size(size), *uses)
        return size, pictures

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
        conditions = super()._look(reference, poses, scene, reference_pose, pictures, size, speed)
        assert scene is not None
        return replace(conditions, scene=self._clip_scene(scene, size, conditions.guess))

    def _denoise(
        self,
        conditions: ClipConditions,
        noise: Tensor,
        plan: Plan,
        callback: StepCallback | None,
        progress: Progress | None,
        state: State | None,
    ) -> Iterator[Finished]:
        """All windows together, or one segment after the other."""
        how = super()._denoise
        if plan.continuation:
            how = self._denoise_shown if frames_before(self.denoising_unet) else self._denoise_segments
        return how(conditions, noise, plan, callback, progress, state)

    def _decoded_together(self, conditions: ClipConditions, plan: Plan) -> int | None:
        if not plan.continuation or not frames_before(self.denoising_unet):
            return None
        return decoded_together(len(plan.windows[0]), at_once(*self._frame_size(conditions.grid)))

    @torch.no_grad()
    def _denoise_shown(
        self,
        conditions: ClipConditions,
        noise: Tensor,
        plan: Plan,
        callback: StepCallback | None,
        progress: Progress | None,
        state: State | None,
    ) -> Iterator[Finished]:
        """As :meth:`_denoise`, the windows of the plan one after the other, each shown the last frames made before."""
        number, made = 0, noise[:, :, :0]  # segments that are made; the last latents of whole frames
        if state is not None:
            number, made = int(state["segments"]), state["made"].to(noise.device)
        token, count = conditions.reference.image_token, frames_before(self.denoising_unet)

        def poses_of(last: int) -> Tensor | None:
            frames = range(last + 1 - made.shape[2], last + 1)
            return conditions.poses.of(frames)[0] if self.config["reference_pose"] else None

        poses = poses_of(plan.windows[number - 1][-1]) if number else None
        with self._shown(replace(plan, window_batch=1), progress, conditions) as shown:
            for segment in plan.windows[number:]:
                seen = see_frames(self.denoising_unet, self.reference_net, made, token, poses) if number else None
                given = replace(conditions, before=seen)
                one = replace(plan, windows=[segment], overlap=0, window_batch=1)
                own = noise[:, :, segment[0] : segment[-1] + 1]
                ((_, latents),) = self._denoising(given, own, one, [[segment]], shown, callback).run()
                made = torch.cat([made, conditions.guess.of(segment).restore(latents)], 2)[:, :, -count:]
                number, poses = number + 1, poses_of(segment[-1])  # which are let go when the frames are handed out
                reached = {"segments": torch.tensor(number), "made": made.cpu().contiguous()}
                yield Finished(segment[0], latents, reached.copy)

    @torch.no_grad()
    def _denoise_segments(
        self,
        conditions: ClipConditions,
        noise: Tensor,
        plan: Plan,
        callback: StepCallback | None,
        progress: Progress | None,
        state: State | None,
    ) -> Iterator[Finished]:
        """As :meth:`_denoise`, the windows of the plan one after the other, their first frames overwritten."""
        number, made = 0, noise[:, :, :0]  # segments that are made, and the last of them
        if state is not None:
            number, made = int(state["segments"]), state["made"].to(noise.device)
        before = plan.windows[number - 1] if number else [0]
        with self._shown(replace(plan, window_batch=1), progress, conditions) as shown:
            for segment in plan.windows[number:]:
                own = noise[:, :, segment[0] : segment[-1] + 1]
                done = before[-1] + 1 if number else 0
                hold = holding(self.scheduler, made[:, :, segment[0] - before[0] :], own) if done else None
                one = replace(plan, windows=[segment], overlap=0, window_batch=1)
                ((_, made),) = self._denoising(conditions, own, one, [[segment]], shown, callback, hold).run()
                number, before = number + 1, segment
                reached = {"segments": torch.tensor(number), "made": made.cpu().contiguous()}
                yield Finished(done, made[:, :, done - segment[0] :], reached.copy)

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
            steps, _, longest, _ = self._settings(num_inference_steps, None, window, None)
            check_continuation(self.denoising_unet, self.config, continuation, steps, longest)
            overlap = continuation
        shown = continuation and frames_before(self.denoising_unet)
        given = num_inference_steps, guidance_scale, window, 0 if shown else overlap
        planned = super().plan(num_frames, *given, window_stride)
        return segments(num_frames, len(planned[0])) if shown else planned

    def _clip_scene(self, scene: SceneInputs, size: tuple[int, int], guess: ClipGuess) -> ClipScene:
        """The scene of a clip, of which no frame is encoded yet."""
        count, downscale = len(scene.environment), self.latent_downscale

        def cells(planes: Planes, frame: int) -> NDArray[np.bool_]:
            return latent_mask(planes[frame][None], downscale)

        def mask(frames: range) -> tuple[Tensor]:
            return (torch.from_numpy(np.concatenate([cells(scene.mask, n) for n in frames])).float()[None, None],)

        environment = self._features(scene.environment, size, self.vae.config["scaling_factor"])
        masks = FrameFeatures(count, 1, mask)
        shown, where = scene.objects, scene.object_mask
        if shown is None or where is None or not any(where[frame].any() for frame in range(count)):
            return ClipScene(environment, masks)
        assert self.object_guider is not None
        guider, device = self.object_guider, self._execution_device

        def encode(number: int) -> Tensor:
            if self.config["object_latents"] == "alone":
                return self._encode([shown[number]], size)
            parts = shown[number], where[number], scene.environment[number], scene.mask[number]
            over = objects_over_environment(*(np.asarray(part) for part in parts))
            return guess.of([number]).changes(self._encode([over], size))

        @torch.no_grad()
        def objects(frames: range) -> tuple[Tensor, ...]:
            (number,) = frames
            here = torch.from_numpy(cells(where, number))[0]
            if here.any():  # zeros where no object is, and in frames without one nothing else
                latents = encode(number) * here
            else:
                latents = torch.zeros(1, self.vae.config["latent_channels"], 1, *here.shape, dtype=self.vae.dtype)
            features = guider(latents.to(device, guider.dtype))
            return (*features.levels, features.present[:, None])

        return ClipScene(environment, masks, FrameFeatures(count, 1, objects))
