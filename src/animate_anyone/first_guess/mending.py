"""What small networks change of a first guess, added to it at the picture's own size.

(Not in the papers.) The networks work on a small grid: what they change is added to the guess, which keeps its detail.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from animate_anyone.structures import Picture

TRUST = 0.6
"""Share of small changes that is taken: the networks see a few pixels of the result as one."""
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
) -> Picture:
    """A frame at the size of the guess, with the networks' changes.

    Args:
        guess: ``(height, width, 3)`` uint8, the first guess.
        small: ``(h, w, 3)`` uint8, the same at the networks' size.
        made: as ``small``, what the networks made of it.
        region: ``(height, width)`` in [0, 1], where something may have to be mended; ``None``: the guess moved
            nothing, so that all that the networks change is taken, and the guess's detail is dropped there.
        left_out: ``(height, width)`` bool, what the guess does not hold: all changes are taken there.
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
        added = TRUST * share * change / (1 + (amount / _TOO_MUCH) ** 2)
        if left_out is not None:
            added = np.where(_pooled(left_out, small)[..., None] > 0.5, change, added)
        frame = _tensor(guess) + _enlarged(added, guess)
    mended: Picture = frame[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return mended


def _pooled(plane: NDArray, like: Picture) -> NDArray[np.float32]:
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
