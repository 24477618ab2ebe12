"""What small networks change of a first guess, added to it at the picture's own size.

(Not in the papers.) The networks work on a small grid: what they change is added to the guess, which keeps its detail.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor

from animate_anyone.structures import Picture


class Part(IntEnum):
    """What a guess shows of the character in a pixel."""

    NOTHING = 0
    BODY = 1
    HEAD = 2


class Trust(NamedTuple):
    """How much of what networks change is taken; ``benchmarks/mending.py`` measures others.

    Attributes:
        body: share of small changes where the body is drawn: networks see a few pixels of the result as one.
        head: the same at the head, on a picture of the grid's size and less on a larger one: a face is finer than the
            grid, and what networks make of it there is haze.
        coarse: standard deviation, pixels of the grid, of what is coarse: where the body is drawn only finer changes
            are taken, as its colours are the picture's own.
        reach: pixels of the grid, how far about what is drawn all changes are taken, for the outline may be wrong;
            farther out there is background, and what networks make of it is haze.
    """

    body: float = 0.8
    head: float = 0.15
    coarse: float = 2.0
    reach: float = 2.0


TRUST = Trust()
_TOO_MUCH = 40.0
"""Change, of 255, at which half of that share is taken; less of larger changes, which are mostly haze."""
_GONE = 15.0
"""Change at which detail of a guess that moved nothing is kept by 1/e only: what stood where it now moves is wrong."""
_AROUND = 1.0  # pixels of the grid over which changes are compared and the region fades


def mend(
    guess: Picture,
    small: Picture,
    made: Picture,
    region: NDArray[np.float32] | None = None,
    left_out: NDArray[np.bool_] | None = None,
    drawn: NDArray[np.uint8] | None = None,
    trust: Trust = TRUST,
) -> Picture:
    """A frame at the size of the guess, with the networks' changes.

    Args:
        guess: ``(height, width, 3)`` uint8, the first guess.
        small: ``(h, w, 3)`` uint8, the same at the networks' size.
        made: as ``small``, what the networks made of it.
        region: ``(height, width)`` in [0, 1], where something may have to be mended; ``None``: the guess moved
            nothing, so that all that the networks change is taken, and the guess's detail is dropped there.
        left_out: ``(height, width)`` bool, what the guess does not hold: all changes are taken there.
        drawn: ``(height, width)`` uint8, :class:`Part`: where the guess shows the character; ``None``: not known, and
            everywhere as much is taken as on its body, coarse changes too.
        trust: how much is taken.
    """
    change = made.astype(np.float32) - small
    amount = np.abs(gaussian_filter(change, (_AROUND, _AROUND, 0))).mean(-1, keepdims=True)
    if region is None:
        kept = _enlarged(np.exp(-((amount / _GONE) ** 2)), guess).clamp(0, 1)
        base = _enlarged(small, guess)
        frame = base + _enlarged(change, guess) + kept * (_tensor(guess) - base)
    else:
        within = _pooled(region, small)
        share = np.minimum(gaussian_filter((within > 0.05).astype(np.float32), _AROUND) * 2, 1)[..., None]
        taken = _taken(change, drawn, trust, small.shape[1] / guess.shape[1])
        added = share * taken / (1 + (amount / _TOO_MUCH) ** 2)
        if left_out is not None:
            added = np.where(_pooled(left_out, small)[..., None] > 0.5, change, added)
        frame = _tensor(guess) + _enlarged(added, guess)
    mended: Picture = frame[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return mended


def _taken(
    change: NDArray[np.float32], drawn: NDArray[np.uint8] | None, trust: Trust, scale: float
) -> NDArray[np.float32]:
    """What is taken of a change ``(h, w, 3)``; ``scale``: the grid's size, in that of the guess."""
    if drawn is None:
        return trust.body * change
    body, head = (_pooled(drawn == part, change)[..., None] for part in (Part.BODY, Part.HEAD))
    shown = body + head
    away = distance_transform_edt(shown[..., 0] < 0.5)[..., None] if (shown >= 0.5).any() else np.inf
    around = np.exp(-((np.maximum(away - 1, 0) / trust.reach) ** 2))
    share = trust.body * body + trust.head * scale * head + (1 - shown) * around
    taken: NDArray[np.float32] = share * (change - body * _coarse(change, shown, trust.coarse))
    return taken


def _coarse(change: NDArray[np.float32], within: NDArray[np.float32], size: float) -> NDArray[np.float32]:
    """The coarse part of a change ``(h, w, 3)``: its mean about each pixel over those ``within``, ``(h, w, 1)``.

    ``size``: standard deviation of the Gaussian window, pixels.
    """
    total, weight = (gaussian_filter(plane, (size, size, 0)) for plane in (change * within, within))
    mean: NDArray[np.float32] = total / np.maximum(weight, 0.02)
    return mean


def _pooled(plane: NDArray, like: NDArray) -> NDArray[np.float32]:
    """``(height, width)`` by the mean of the pixels that each of a picture's covers."""
    size = like.shape[0], like.shape[1]
    pooled: NDArray[np.float32] = F.adaptive_avg_pool2d(_tensor(plane[..., None]), size)[0, 0].numpy()
    return pooled


def _enlarged(planes: NDArray, like: Picture) -> Tensor:
    """``(h, w, c)`` at a picture's size, ``(1, c, height, width)``."""
    return F.interpolate(_tensor(planes), (like.shape[0], like.shape[1]), mode="bicubic")


def _tensor(planes: NDArray) -> Tensor:
    """``(h, w, c)`` as ``(1, c, h, w)`` float32."""
    return torch.from_numpy(planes.astype(np.float32)).permute(2, 0, 1)[None].contiguous()
