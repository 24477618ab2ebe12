"""What the networks see of a scene (Animate Anyone 2), encoded once for the whole clip, window by window handed out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import join_environment
from animate_anyone.models.object_guider import ObjectFeatures
from animate_anyone.sampling.inputs import Pictures
from animate_anyone.structures import Masks
from animate_anyone.system.frame_sequence import FrameSequence


@dataclass(frozen=True)
class SceneLatents:
    """A scene on the latent grid. It may wait on the CPU: what a window needs is moved to where that is.

    Attributes:
        environment: ``(1, channels, frames, h, w)``, scaled latents of frames without the person.
        mask: ``(1, 1, frames, h, w)``: 1 where the character is to be made, else 0.
        objects: the object guider's features of those frames; ``None`` where nothing is blended in.
    """

    environment: Tensor
    mask: Tensor
    objects: ObjectFeatures | None = None

    def of_frames(self, frames: list[int] | slice) -> SceneLatents:
        """The scene of some frames, as a window (their numbers) or a segment (a slice, not copied) needs it."""
        objects = self.objects and self.objects.of_frames(frames)
        return SceneLatents(self.environment[:, :, frames], self.mask[:, :, frames], objects)

    def beside(self, noisy: Tensor, windows: list[list[int]]) -> tuple[Tensor, ObjectFeatures | None]:
        """The environment and mask behind noisy latents, and the objects beside them.

        Args:
            noisy: ``(samples, channels, frames, h, w)``: the windows once, or, under guidance, twice: unconditional
                first. Both halves see the same scene: it says where and with what, not who.
            windows: the frames of each.
        """
        parts = [self.of_frames(frames) for frames in windows] * (len(noisy) // len(windows))
        environment = torch.cat([part.environment for part in parts]).to(noisy)
        mask = torch.cat([part.mask for part in parts]).to(noisy)
        joined = join_environment(noisy, environment, mask)
        if self.objects is None:
            return joined, None
        objects = ObjectFeatures.of_samples([part.objects for part in parts if part.objects is not None])
        levels = tuple(level.to(noisy) for level in objects.levels)
        return joined, ObjectFeatures(levels, objects.present.to(noisy.device))


@dataclass(frozen=True)
class SceneInputs:
    """What Animate Anyone 2 is given of a source video beside the poses.

    Attributes:
        environment: as many frames as poses, each ``(height, width, 3)`` uint8 of the reference's size, the region of
            the mask emptied (``conditions.environment.empty``).
        mask: ``(frames, height, width)`` bool, true where the character is to be made
            (``conditions.environment.formulate``).
        objects: as ``environment``, frames that are emptied outside ``object_mask``; ``None``: there are none.
        object_mask: as ``mask``, true on the objects.
        depth: structured depth, ``(frames, h, w)`` in [0, 1] (``conditions.limb_depth``), of the pose pictures' size;
            needed where the model's ``uses_depth`` is set, refused where it is not.
    """

    environment: Pictures
    mask: Masks
    objects: Pictures | None = None
    object_mask: Masks | None = None
    depth: NDArray[np.float32] | FrameSequence[np.float32] | None = None

    def check(
        self, num_frames: int, size: tuple[int, int], drawn: tuple[int, int], uses_objects: bool, uses_depth: bool
    ) -> None:
        """Hold the parts against each other and a model.

        Args:
            num_frames: as many as poses.
            size: ``(width, height)`` of the video.
            drawn: that of the pose pictures.
            uses_objects, uses_depth: options of the model.

        Raises:
            InputError: one is missing, or is more than the model knows, or of another type, length or size.
        """
        width, height = size
        if (self.objects is None) != (self.object_mask is None):
            raise InputError("objects and object_mask go together; give both, or neither where there are no objects")
        if self.objects is not None and not uses_objects:
            raise InputError("this model was trained without objects; leave objects and object_mask out")
        if self.depth is None and uses_depth:
            raise InputError("this model needs depth, structured depth of the poses (conditions.limb_depth)")
        if self.depth is not None and not uses_depth:
            raise InputError("this model was trained without structured depth; leave depth out")
        for name, pictures in (("environment", self.environment), ("objects", self.objects)):
            if pictures is None:
                continue
            if len(pictures) != num_frames:
                raise InputError(
                    f"{name} has {len(pictures)} frames and there are {num_frames} poses; give one for each"
                )
            _check_array(f"{name}[0]", pictures[0], (height, width, 3), np.uint8)
        for name, array, want, kind in (
            ("mask", self.mask, (num_frames, height, width), np.bool_),
            ("object_mask", self.object_mask, (num_frames, height, width), np.bool_),
            ("depth", self.depth, (num_frames, drawn[1], drawn[0]), np.float32),
        ):
            if array is not None:
                _check_array(name, array, want, kind)
        depth = self.depth
        if depth is not None and not (depth.min() >= 0 and depth.max() <= 1):  # so written, NaN is refused too
            raise InputError(f"depth has values from {depth.min():g} to {depth.max():g}; give 0 to 1")


def _check_array(name: str, array: NDArray | FrameSequence, shape: tuple[int, ...], kind: type) -> None:
    if array.shape != shape or array.dtype != kind:
        raise InputError(f"{name} is {array.dtype} {array.shape}; it must be {np.dtype(kind)} {shape}")
