"""Flicker: error of the change from frame to frame, also where the windows of a long clip meet.

The error of a change, ``(r[t+1] - r[t]) - (g[t+1] - g[t])``, is zero for a wrong picture that stands
still where the truth does; so flicker is measured beside, not within, the error of single frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from animate_anyone.structures import Mask, Picture

# The truth stands still where no channel changes by more than this, in 8-bit units.
STILL = 1


def change_error(result: Picture, truth: Picture) -> NDArray[np.float32]:
    """``(frames - 1, H, W)``: the absolute error of each pixel's change to the next frame, mean of channels, 0 to 510.

    Args:
        result, truth: ``(frames, H, W, 3)`` uint8, at least 2 frames.

    Raises:
        ValueError: not two clips of one shape, or a single frame.
    """
    if result.shape != truth.shape or len(truth) < 2:
        raise ValueError(
            f"result {result.shape} and truth {truth.shape}: give two clips of one shape, 2 frames or more"
        )
    error = result.astype(np.int16) - truth
    return np.abs(np.diff(error, axis=0)).mean(-1, dtype=np.float32)


def flicker(result: Picture, truth: Picture, mask: Mask) -> dict[str, float | None]:
    """Mean error of the frame-to-frame change, in units of 8 bits: 0 for the truth.

    Args:
        result, truth: ``(frames, H, W, 3)`` uint8.
        mask: ``(frames, H, W)`` bool, the person in the truth.

    Returns:
        ``flicker``: over the whole frame. ``flicker_person``: over pixels that show the person before
        or after the change; movement that is missing counts as well as movement that is too much.
        ``flicker_still``: over pixels where the truth does not change: what moves there is flicker and
        nothing else. ``None`` where there is no such pixel.
    """
    error = change_error(result, truth)
    still = (np.abs(np.diff(truth.astype(np.int16), axis=0)) <= STILL).all(-1)
    return {
        "flicker": float(error.mean()),
        "flicker_person": _mean(error, mask[1:] | mask[:-1]),
        "flicker_still": _mean(error, still),
    }


def seams(schedule: Sequence[Sequence[int]], num_frames: int) -> NDArray[np.bool_]:
    """``(frames - 1,)``: whether windows meet between a frame and the next.

    So it is where the windows that a frame is made of change, or where several share both frames and
    hand over from one to the other.

    Args:
        schedule: windows as lists of frame numbers, as ``AnimateAnyonePipeline.plan`` returns them.
    """
    made_of = np.zeros((num_frames, len(schedule)), bool)
    for number, window in enumerate(schedule):
        made_of[list(window), number] = True
    changes = (made_of[1:] != made_of[:-1]).any(1)
    shared = made_of.sum(1) > 1
    return np.asarray(changes | (shared[1:] & shared[:-1]))


def seam_flicker(
    result: Picture, truth: Picture, mask: Mask, schedule: Sequence[Sequence[int]]
) -> dict[str, float | None]:
    """Flicker of a long clip's person where windows meet, beside what it is elsewhere.

    A model errs more where the truth moves more, and windows may meet just there. So what is expected at
    the seams is a straight line through the changes elsewhere: their error over the truth's own change.

    Args:
        result, truth: ``(frames, H, W, 3)`` uint8. mask: ``(frames, H, W)`` bool, the person.
        schedule: the windows that ``result`` was made in.

    Returns:
        ``at_seams``, ``elsewhere``: mean ``flicker_person`` of those changes, in 8-bit units.
        ``seam_ratio``: the first over what is expected there; 1 where windows do not show, above where
        they do. ``None`` without seams, without anything else, or without any flicker elsewhere.
    """
    place = mask[1:] | mask[:-1]
    some = place.any((1, 2))
    pixels = np.maximum(place.sum((1, 2)), 1)
    error, moved = (
        np.where(place, change_error(frames, truth), 0).sum((1, 2), dtype=np.float64) / pixels
        for frames in (result, np.broadcast_to(truth[:1], truth.shape))
    )
    seam = seams(schedule, len(truth))
    at, other = seam & some, ~seam & some
    if not at.any() or not other.any():
        return {"at_seams": None, "elsewhere": None, "seam_ratio": None}
    away = moved[other] - moved[other].mean()
    slope = max(0.0, float(away @ error[other])) / max(float(away @ away), 1e-9)
    expected = error[other].mean() + slope * (moved[at] - moved[other].mean())
    least = float(np.maximum(expected, error[other].min()).mean())
    found, elsewhere = float(error[at].mean()), float(error[other].mean())
    return {"at_seams": found, "elsewhere": elsewhere, "seam_ratio": found / least if least > 0 else None}


def _mean(error: NDArray[np.float32], where: Mask) -> float | None:
    return float(error[where].mean(dtype=np.float64)) if where.any() else None
