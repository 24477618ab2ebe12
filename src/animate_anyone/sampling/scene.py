"""What the networks see of a scene (Animate Anyone 2), encoded once for the whole clip, window by window handed out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import join_environment
from animate_anyone.models.object_guider import ObjectFeatures
from animate_anyone.sampling.inputs import Pictures

if TYPE_CHECKING:
    from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline


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
        objects = self.objects
        if objects is not None:
            some = frames if isinstance(frames, slice) else torch.tensor(frames, device=objects.present.device)
            objects = objects.of_frames(some)
        return SceneLatents(self.environment[:, :, frames], self.mask[:, :, frames], objects)

    def beside(self, noisy: Tensor, windows: list[list[int]]) -> tuple[Tensor, ObjectFeatures | None]:
        """The environment and mask behind noisy latents, and the objects beside them.

        Args:
            noisy: ``(samples, channels, frames, h, w)``: the windows once, or, under guidance, twice: unconditional
                first. Both halves see the same scene: it says where and with what, not who.
            windows: the frames of each.
        """
        parts = [self.of_frames(frames) for frames in windows] * (len(noisy) // len(windows))
        environment, mask = (
            torch.cat([getattr(part, name) for part in parts]).to(noisy) for name in ("environment", "mask")
        )
        joined = join_environment(noisy, environment, mask)
        if self.objects is None:
            return joined, None
        objects = ObjectFeatures.of_samples([part.objects for part in parts if part.objects is not None])
        levels = tuple(level.to(noisy) for level in objects.levels)
        return joined, ObjectFeatures(levels, objects.present.to(noisy.device))


def check_scene(
    pipeline: AnimateAnyone2Pipeline,
    size: tuple[int, int],
    num_frames: int,
    environment: Pictures,
    mask: NDArray[np.bool_],
    objects: Pictures | None,
    object_mask: NDArray[np.bool_] | None,
    depth: NDArray[np.float32] | None,
) -> None:
    """Hold the parts of a scene against each other and the model; arguments as in a call of the pipeline.

    Raises:
        InputError: one is missing, or is more than the model knows, or of another type, length or size.
    """
    width, height = size
    if (objects is None) != (object_mask is None):
        raise InputError("objects and object_mask go together; give both, or neither where there are no objects")
    if objects is not None and not pipeline.config["uses_objects"]:
        raise InputError("this model was trained without objects; leave objects and object_mask out")
    if depth is None and pipeline.config["uses_depth"]:
        raise InputError("this model needs depth, structured depth of the poses (conditions.limb_depth)")
    if depth is not None and not pipeline.config["uses_depth"]:
        raise InputError("this model was trained without structured depth; leave depth out")
    for name, pictures in (("environment", environment), ("objects", objects)):
        if pictures is None:
            continue
        if len(pictures) != num_frames:
            raise InputError(f"{name} has {len(pictures)} frames and there are {num_frames} poses; give one for each")
        _check_array(f"{name}[0]", pictures[0], (height, width, 3), np.uint8)
    drawn = pipeline.pose_picture_size(size)
    for name, array, want, kind in (
        ("mask", mask, (num_frames, height, width), np.bool_),
        ("object_mask", object_mask, (num_frames, height, width), np.bool_),
        ("depth", depth, (num_frames, drawn[1], drawn[0]), np.float32),
    ):
        if array is not None:
            _check_array(name, array, want, kind)
    if depth is not None and not (depth.min() >= 0 and depth.max() <= 1):  # so written, NaN is refused too
        raise InputError(f"depth has values from {depth.min():g} to {depth.max():g}; give 0 to 1")


def _check_array(name: str, array: NDArray, shape: tuple[int, ...], kind: type) -> None:
    if array.shape != shape or array.dtype != kind:
        raise InputError(f"{name} is {array.dtype} {array.shape}; it must be {np.dtype(kind)} {shape}")
