"""What small networks change of a first guess, added to it at the picture's own size.

(Not in the papers.) The networks work on a small grid. Where they change little the guess keeps its detail; where they
change much, what they made stands instead.
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
"""Share of the networks' changes that is taken: they see shapes of one to four pixels of the result as one."""
_GONE = 120.0
"""Change, of 255, at which detail of the guess is kept by 1/e only."""
_GONE_STILL = 15.0
"""The same, of a guess that moved nothing: what stood where it now moves is wrong."""
_AROUND = 1.0  # pixels of the grid over which changes are compared and the region fades


def mend(guess: Picture, small: Picture, made: Picture, region: NDArray[np.float32] | None = None) -> Picture:
    """A frame at the size of the guess, with the networks' changes.

    Args:
        guess: ``(height, width, 3)`` uint8, the first guess.
        small: ``(h, w, 3)`` uint8, the same at the networks' size.
        made: as ``small``, what the networks made of it.
        region: ``(height, width)`` in [0, 1], where something may have to be mended; ``None``: the guess moved
            nothing, so that all that the networks change is taken, and little of its detail is kept there.
    """
    size, grid = guess.shape[:2], (small.shape[0], small.shape[1])
    change = made.astype(np.float32) - small
    amount = np.abs(gaussian_filter(change, (_AROUND, _AROUND, 0))).mean(-1)
    kept = np.exp(-((amount / (_GONE if region is not None else _GONE_STILL)) ** 2))
    share = np.ones(grid, np.float32)
    if region is not None:
        within = F.adaptive_avg_pool2d(torch.from_numpy(region)[None, None], grid)[0, 0].numpy()
        share = np.minimum(gaussian_filter((within > 0.05).astype(np.float32), _AROUND) * 2, 1)
        kept = 1 - (1 - kept) * share
        share = TRUST * share
    planes = np.concatenate([small, share[..., None] * change, kept[..., None]], -1).astype(np.float32)
    large = F.interpolate(_tensor(planes), size, mode="bicubic", antialias=False)[0]
    base, added, kept_large = large[:3], large[3:6], large[6].clamp(0, 1)
    frame = base + added + kept_large * (_tensor(guess)[0] - base)
    mended: Picture = frame.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return mended


def _tensor(planes: NDArray) -> Tensor:
    """``(h, w, c)`` as ``(1, c, h, w)`` float32."""
    return torch.from_numpy(planes.astype(np.float32)).permute(2, 0, 1)[None].contiguous()
