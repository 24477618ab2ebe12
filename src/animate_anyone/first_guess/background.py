"""What the person hides of the environment, taken from frames that show it.

(Not in the paper, whose network makes it up; for the collage of small models.) Where the background moves as a whole,
a place that is hidden in one frame is looked for in others, the nearest in time first. What no frame shows stays
hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, uniform_filter
from torch import Tensor

from animate_anyone.conditions.environment import check_alike
from animate_anyone.structures import Mask, Masks, Picture, Pictures

Moved = Callable[[int, int], NDArray[np.float64] | None]
"""``moved(a, b)``: ``(3, 3)`` that takes a place ``(x, y, 1)`` of the background in frame ``a`` to where it is in frame
``b``, pixels whose middles are whole numbers; ``None`` where that is not known."""

GROWTH = 1.4
"""How much farther off the next frames are that are looked at, in time: 1, 2, 3, 5, 7, 10, 14 frames ..."""
SURROUNDINGS = 1 / 12
"""How far around a place two frames must agree, of the frame's larger side."""
AGREE = 16.0
"""Mean difference of a patch, of 255, up to which they do."""


def fill_hidden(
    frames: Picture,
    hidden: Mask,
    moved: Moved,
    unusable: Mask | None = None,
    source: int | None = None,
) -> tuple[Picture, Mask]:
    """Fill in hidden places from other frames.

    Args:
        frames: ``(frames, height, width, 3)`` uint8.
        hidden: ``(frames, height, width)`` bool.
        moved: how the background moves.
        unusable: as ``hidden``: what is not background either (objects, margins), and is taken nowhere else.
        source: the only frame that is looked at; ``None``: all are.

    Returns:
        The frames, and what is hidden still, ``(frames, height, width)`` bool.

    Raises:
        InputError: the two do not belong together.
    """
    check_alike(frames, hidden)
    filled, still = frames.copy(), hidden.copy()
    for number in range(len(frames)):
        filled[number], still[number] = fill_frame(number, frames, hidden, moved, unusable, source)
    return filled, still


def fill_frame(
    number: int,
    frames: Pictures,
    hidden: Masks,
    moved: Moved,
    unusable: Masks | None = None,
    source: int | None = None,
) -> tuple[Picture, Mask]:
    """As :func:`fill_hidden`, one frame: it, and what of it is hidden still. Of the others some are looked at."""
    filled, still = frames[number].copy(), hidden[number].copy()
    if not still.any():
        return filled, still
    reach = max(2, round(max(hidden.shape[1:]) * SURROUNDINGS))

    def shown(one: int) -> Mask:
        return ~hidden[one] if unusable is None else ~(hidden[one] | unusable[one])

    part = _around(still, reach)
    result, missing, have = filled[part], still[part], shown(number)[part].copy()
    for other in _others(number, len(frames)) if source is None else (source,):
        if not missing.any():
            break
        motion = moved(number, other)
        if motion is None:
            continue
        looked_up, known = _look_up(frames[other], shown(other), motion, part)
        found = missing & known & _agree(looked_up, result, known & have, reach)
        result[found] = looked_up[found]
        missing &= ~found
        have |= found
    return filled, still


def _around(hidden: NDArray[np.bool_], reach: int) -> tuple[slice, slice]:
    """Rows and columns of the hidden places and what surrounds them."""
    rows, columns = (np.flatnonzero(hidden.any(axis=axis)) for axis in (1, 0))
    return (
        slice(max(rows[0] - reach, 0), rows[-1] + 1 + reach),
        slice(max(columns[0] - reach, 0), columns[-1] + 1 + reach),
    )


def _others(number: int, count: int) -> Iterator[int]:
    """The frames to look at, the nearest first."""
    off = 1.0
    while off < count:
        yield from (other for other in (number - int(off), number + int(off)) if 0 <= other < count)
        off = max(off + 1, off * GROWTH)


def _look_up(
    frame: Picture, shown: NDArray[np.bool_], motion: NDArray[np.float64], part: tuple[slice, slice]
) -> tuple[Picture, NDArray[np.bool_]]:
    """A frame's background as a part of another frame sees it, and where that is to be had."""
    height, width = shown.shape
    y, x = (np.arange(side)[along].astype(np.float64) for side, along in zip((height, width), part, strict=True))
    places = x[:, None] * motion[:, 0] + y[:, None, None] * motion[:, 1] + motion[:, 2]  # (h, w, 3), pixels of `frame`
    grid = (places[..., :2] / places[..., 2:] + 0.5) / (width, height) * 2 - 1
    planes = np.concatenate([frame, shown[..., None] * np.uint8(255)], axis=2)
    looked_up = F.grid_sample(_tensor(planes), torch.from_numpy(grid)[None].float(), align_corners=False)[0]
    colours = looked_up[:3].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return colours, (looked_up[3] > 254).numpy()


def _agree(one: Picture, other: Picture, both: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Where two pictures that both show the surroundings show them alike, patch by patch; where they do not, in all.

    One patch that is not alike is enough: something that moves by itself is there.
    """
    if not both.any():
        return both
    apart = np.abs(one.astype(np.float32) - other).mean(-1) * both
    side = 2 * max(1, reach // 4) + 1
    sums, shown = (uniform_filter(plane.astype(np.float32), side, mode="constant") for plane in (apart, both))
    means = np.where(shown > 0.3, sums / np.maximum(shown, 1e-6), -1.0)  # a patch of a few pixels says nothing
    worst = maximum_filter(means, 2 * reach + 1, mode="constant", cval=-1.0)
    return np.where(worst >= 0, worst <= AGREE, apart[both].mean() <= AGREE)


def _tensor(planes: NDArray) -> Tensor:
    """``(h, w, c)`` as ``(1, c, h, w)``."""
    return torch.from_numpy(planes.astype(np.float32)).permute(2, 0, 1)[None]
