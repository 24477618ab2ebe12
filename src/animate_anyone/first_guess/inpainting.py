"""The background behind a person in one picture, made up so that its structure goes on: PatchMatch.

(Not in the papers; for the first guess of small models.) C. Barnes et al., PatchMatch (2009), by `pypatchmatch`.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation

from animate_anyone.conditions.environment import fill
from animate_anyone.structures import Picture

LONGEST = 512
"""Longer side, pixels, at which it is made up; what is larger is scaled."""
_PATCH = 5
_ONE = threading.Lock()
_SEED = 0
_MARGIN = 0.025  # trunk lengths around a person that are not background either
_MOST = 0.98  # share of a picture above which nothing is left to copy from


def complete(picture: Picture, hole: NDArray[np.bool_]) -> Picture:
    """A picture whose hole is filled from what is around it.

    Args:
        picture: ``(height, width, 3)`` uint8.
        hole: ``(height, width)`` bool.
    """
    if not hole.any():
        return picture
    scale = min(LONGEST / max(hole.shape), 1.0)
    size = (max(round(hole.shape[1] * scale), 1), max(round(hole.shape[0] * scale), 1))
    small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    small_hole = np.asarray(Image.fromarray(hole.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)) > 0
    if min(size) <= 2 * _PATCH or small_hole.mean() > _MOST:
        return complete_smoothly(picture, hole)
    try:
        from patchmatch import patch_match
    except ImportError:  # a bare machine that trains: its clips' backgrounds are smooth
        return complete_smoothly(picture, hole)
    with _ONE:  # its random numbers are shared by all threads
        patch_match.set_random_seed(_SEED)
        made = patch_match.inpaint(np.ascontiguousarray(small), small_hole.astype(np.uint8) * 255, patch_size=_PATCH)
    large = np.asarray(Image.fromarray(made).resize((hole.shape[1], hole.shape[0]), Image.Resampling.BICUBIC))
    completed: Picture = np.where(hole[..., None], large, picture)
    return completed


def complete_smoothly(picture: Picture, hole: NDArray[np.bool_]) -> Picture:
    """As :func:`complete`, without texture, in a tenth of the time."""
    filled: Picture = fill(picture[None], hole[None])[0]
    return filled


def behind(alpha: NDArray[np.float32], unit: float) -> NDArray[np.bool_]:
    """What a person hides ``(height, width)``, with a margin: its edge and its contact shadow are not background.

    Args:
        alpha: ``(height, width)`` in [0, 1], the person's share of each pixel.
        unit: length of the person's trunk, pixels.
    """
    hole: NDArray[np.bool_] = binary_dilation(alpha > 0.02, iterations=max(2, round(_MARGIN * unit)))
    return hole
