"""What a call of the pipeline is given, held against what its model can take, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.errors import InputError

if TYPE_CHECKING:
    from animate_anyone.sampling.pipeline import AnimateAnyonePipeline

Pictures = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]


def check_inputs(
    pipeline: AnimateAnyonePipeline,
    reference: NDArray[np.uint8],
    poses: Pictures,
    reference_pose: NDArray[np.uint8] | None,
    size: tuple[int, int] | None,
    window_batch: int,
) -> tuple[int, int]:
    """The ``(width, height)`` of the video that these are for; arguments as in a call of the pipeline.

    Raises:
        InputError: something is no picture, or of another size, or missing, or more than the model knows.
    """

    def is_picture(array: Any) -> bool:
        return isinstance(array, np.ndarray) and array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3

    if not is_picture(reference):
        raise InputError("reference must be a uint8 array (height, width, 3)")
    height, width = reference.shape[:2]
    free = pipeline.config["stretch"]
    wanted = size or (tuple(pipeline.config["size"]) if free else (width, height))
    if any(side % pipeline.latent_downscale or side < pipeline.latent_downscale for side in wanted):
        what = "reference" if size is None and not free else "size"
        raise InputError(f"{what} is {wanted[0]}x{wanted[1]}; both must be multiples of {pipeline.latent_downscale}")
    if not free and wanted != (width, height):
        raise InputError(f"reference is {width}x{height}; for a video of {wanted[0]}x{wanted[1]} give it at that size")
    width, height = wanted
    if len(poses) == 0:
        raise InputError("there are no poses; give at least one pose picture")
    expected = pipeline.pose_picture_size((width, height))
    for name, picture in (("poses[0]", poses[0]), ("reference_pose", reference_pose)):
        fits = is_picture(picture) and (free or picture.shape[1::-1] == expected)  # type: ignore[union-attr]
        if picture is not None and not fits:
            got = f"{picture.shape[1]}x{picture.shape[0]}" if is_picture(picture) else "no uint8 picture"
            raise InputError(f"{name} is {got}; for a video of {width}x{height} draw it at {expected[0]}x{expected[1]}")
    if pipeline.config["reference_pose"] and reference_pose is None:
        raise InputError("this model needs reference_pose, the pose picture of the reference")
    if not pipeline.config["reference_pose"] and reference_pose is not None:
        raise InputError("this model was trained without reference_pose; leave it out")
    if window_batch < 1:
        raise InputError(f"window_batch is {window_batch}; it must be at least 1")
    return width, height


def check_carried(
    pipeline: AnimateAnyonePipeline, reference: NDArray[np.uint8], poses: Pictures, carried: Pictures | None
) -> None:
    """See that the carried reference is there where the model wants it, one for each pose, or raise ``InputError``."""
    if carried is None:
        if pipeline.config["carried_reference"]:
            raise InputError("this model needs carried, the reference carried into each pose (conditions.carry)")
        return
    if not pipeline.config["carried_reference"]:
        raise InputError("this model was trained without a carried reference; leave carried out")
    if len(carried) != len(poses):
        raise InputError(f"there are {len(carried)} carried pictures and {len(poses)} poses; give one for each")
    if carried[0].shape != reference.shape:
        raise InputError(f"carried[0] has shape {carried[0].shape}; the reference has {reference.shape}")
