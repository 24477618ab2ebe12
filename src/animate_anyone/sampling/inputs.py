"""What a call of the pipeline is given, held against what its model can take, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.errors import InputError

Pictures = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]


def check_inputs(
    config: Mapping[str, Any],
    downscale: int,
    pose_picture_size: Callable[[tuple[int, int]], tuple[int, int]],
    reference: NDArray[np.uint8],
    poses: Pictures,
    reference_pose: NDArray[np.uint8] | None,
    size: tuple[int, int] | None,
) -> tuple[int, int]:
    """The ``(width, height)`` of the video that these are for.

    Args:
        config: the model's options.
        downscale: pixels per latent cell, per side.
        pose_picture_size: of a video's ``(width, height)`` that of its pose pictures.
        reference, poses, reference_pose, size: as in a call of the pipeline.

    Raises:
        InputError: something is no picture, or of another size, or missing, or more than the model knows.
    """

    def is_picture(array: Any) -> bool:
        return isinstance(array, np.ndarray) and array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3

    if not is_picture(reference):
        raise InputError("reference must be a uint8 array (height, width, 3)")
    height, width = reference.shape[:2]
    free = config["stretch"]
    wanted = size or (tuple(config["size"]) if free else (width, height))
    if any(side % downscale or side < downscale for side in wanted):
        what = "reference" if size is None and not free else "size"
        raise InputError(f"{what} is {wanted[0]}x{wanted[1]}; both must be multiples of {downscale}")
    if not free and wanted != (width, height):
        raise InputError(f"reference is {width}x{height}; for a video of {wanted[0]}x{wanted[1]} give it at that size")
    width, height = wanted
    if len(poses) == 0:
        raise InputError("there are no poses; give at least one pose picture")
    expected = pose_picture_size((width, height))
    for name, picture in (("poses[0]", poses[0]), ("reference_pose", reference_pose)):
        fits = is_picture(picture) and (free or picture.shape[1::-1] == expected)  # type: ignore[union-attr]
        if picture is not None and not fits:
            got = f"{picture.shape[1]}x{picture.shape[0]}" if is_picture(picture) else "no uint8 picture"
            raise InputError(f"{name} is {got}; for a video of {width}x{height} draw it at {expected[0]}x{expected[1]}")
    if config["reference_pose"] and reference_pose is None:
        raise InputError("this model needs reference_pose, the pose picture of the reference")
    if not config["reference_pose"] and reference_pose is not None:
        raise InputError("this model was trained without reference_pose; leave it out")
    return width, height
