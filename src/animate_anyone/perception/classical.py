"""Segmentation without a network, by OpenCV: GrabCut by colour; optical flow warps a mask to the next frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.optional import require
from animate_anyone.structures import Mask, Picture, Size


class _OpenCV:
    """OpenCV, imported when something of it is first used. Raises :class:`InputError` where it is missing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(require("cv2", extra="pose"), name)


cv2 = _OpenCV()

WORKING_SIDE = 384
"""Longer side of the pictures in which masks are found, pixels; masks are scaled up again."""

_BACK, _FRONT, _MAYBE_BACK, _MAYBE_FRONT = 0, 1, 2, 3  # GrabCut's labels
_SEED = 7


def shrink(frame: Picture, side: int = WORKING_SIDE) -> Picture:
    """A frame ``(height, width, 3)`` with its longer side at most ``side`` pixels."""
    size = shrink_size((frame.shape[1], frame.shape[0]), side)
    return frame if size == frame.shape[1::-1] else cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def shrink_size(size: Size, side: int = WORKING_SIDE) -> Size:
    """The ``(width, height)`` that :func:`shrink` gives a frame of this one."""
    scale = side / max(size)
    return size if scale >= 1 else (max(round(size[0] * scale), 1), max(round(size[1] * scale), 1))


def enlarge(mask: Mask, size: Size) -> Mask:
    """A mask in another size ``(width, height)``, its edge smooth."""
    if mask.shape == size[::-1]:
        return mask
    return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5


def cut_out(picture: Picture, front: Mask, likely: Mask, possible: Mask, rounds: int = 1) -> Mask:
    """What belongs to the foreground by its colours, ``(height, width)`` bool.

    Args:
        picture: ``(height, width, 3)`` uint8, RGB.
        front: surely foreground; stays.
        likely: foreground unless the colours speak against it.
        possible: background unless the colours speak against it; all the rest is surely background.
        rounds: of GrabCut.
    """
    labels = np.full(picture.shape[:2], _BACK, np.uint8)
    labels[possible] = _MAYBE_BACK
    labels[likely] = _MAYBE_FRONT
    labels[front] = _FRONT
    start = (labels == _FRONT) | (labels == _MAYBE_FRONT)
    # GrabCut wants some pixels on either side, five colours' worth of each.
    if min(start.sum(), (~start).sum()) < 12:
        return start
    cv2.setRNGSeed(_SEED)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(picture[..., ::-1])
    cv2.grabCut(bgr, labels, None, *models, rounds, cv2.GC_INIT_WITH_MASK)
    return (labels == _FRONT) | (labels == _MAYBE_FRONT)


def tidy(mask: Mask, keep: Mask, smallest: float = 0.03) -> Mask:
    """Without specks and small holes: parts that touch ``keep`` and have this share of the mask stay."""
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
    smooth = cv2.morphologyEx(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, cross), cv2.MORPH_OPEN, cross)
    least = smallest * smooth.sum()
    count, parts, sizes, _ = cv2.connectedComponentsWithStats(smooth, connectivity=4)
    good = np.zeros(count, bool)
    touched = np.unique(parts[keep & (smooth > 0)])
    good[touched] = sizes[touched, cv2.CC_STAT_AREA] >= least
    if not good[1:].any() and count > 1:
        good[1 + np.argmax(sizes[1:, cv2.CC_STAT_AREA])] = True
    good[0] = False
    result = good[parts]
    count, holes, sizes, _ = cv2.connectedComponentsWithStats((~result).astype(np.uint8), connectivity=4)
    small = sizes[:, cv2.CC_STAT_AREA] < 0.01 * max(result.sum(), 1)
    small[0] = False
    return result | small[holes]


def grow(mask: Mask, pixels: int) -> Mask:
    """The mask with a margin of some pixels; a negative number takes them off."""
    if pixels == 0:
        return mask
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(pixels) + 1,) * 2)
    change = cv2.dilate if pixels > 0 else cv2.erode
    return change(mask.astype(np.uint8), disc) > 0


def warp(plane: NDArray[np.float32], before: Picture, now: Picture) -> NDArray[np.float32]:
    """A plane ``(height, width)`` of the picture ``before`` as it is in ``now``, by dense optical flow (DIS)."""
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (now, before)]
    height, width = grey[0].shape
    if min(height, width) < 16:  # smaller than the flow's patches
        return plane
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(*grey, None)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(plane, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)
