"""How the samplers of the published open checkpoints bring pictures to a size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def stretch(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """``picture`` ``(h, w, 3)`` at ``size`` (width, height), its aspect not kept; a copy where it has that size."""
    if picture.shape[1::-1] == size:
        return picture.copy()
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)).copy()
