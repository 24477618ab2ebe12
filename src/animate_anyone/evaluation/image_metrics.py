"""L1, PSNR and SSIM of two frames. Each function takes one pair, so that videos can be streamed.

All sums are in float64. For a video, take the mean of the frames' figures.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from animate_anyone.structures import Mask, Picture

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as OpenCV turns RGB into grey


def l1(first: Picture, second: Picture) -> float:
    """Mean absolute difference over pixels and channels, in units of the full range: 0 alike, 1 at most."""
    a, b = _pair(first, second)
    return float(np.abs(a - b).mean())


def psnr(first: Picture, second: Picture) -> float:
    """Peak signal-to-noise ratio in dB, the squared error averaged over pixels and channels; infinite where alike.

    Of real numbers. Figures of 28 to 31 dB in papers that follow DisCo are another quantity, :func:`psnr_wrapped`.
    """
    a, b = _pair(first, second)
    return _decibel(float(np.square(a - b).mean()))


def psnr_wrapped(first: Picture, second: Picture) -> float:
    """What DisCo's script calls PSNR, to stand beside figures that were made with it: not a distance of pictures.

    Bytes are subtracted and squared as bytes: both wrap round at 256, so that the mean is at most 255 and the
    figure at least 24.1 dB, about 28 dB for any two unlike pictures. 100 where the mean is 0.
    """
    _pair(first, second)
    mean_square = float(np.square(first - second).mean())
    return 100.0 if mean_square == 0 else 10 * math.log10(255**2 / mean_square)


def psnr_masked(first: Picture, second: Picture, mask: Mask) -> float:
    """As :func:`psnr`, over the pixels where ``mask``, ``(height, width)`` bool, is true.

    Raises ``ValueError`` for a mask of another shape or type, or that is true nowhere.
    """
    a, b = _pair(first, second)
    _check_mask(first, mask)
    return _decibel(float(np.square(a - b)[mask].mean()))


def ssim(first: Picture, second: Picture) -> float:
    """Structural similarity, -1 to 1; 1 where alike.

    A uniform window of 7×7 pixels with sample covariance, K1 = 0.01, K2 = 0.03, on the luma rounded to 8 bits, as
    DisCo's script does, which the papers follow.

    Raises ``ValueError`` for anything but a pair of pictures of at least 7 pixels a side.
    """
    return _similarity(first, second)[0]


def ssim_masked(first: Picture, second: Picture, mask: Mask) -> float:
    """As :func:`ssim`, over the windows whose middle pixel is one where ``mask``, ``(height, width)`` bool, is true.

    Raises ``ValueError`` as :func:`ssim` and :func:`psnr_masked`.
    """
    _check_mask(first, mask)
    return float(_similarity(first, second)[1][mask].mean())


def _similarity(first: Picture, second: Picture) -> tuple[float, NDArray[np.float64]]:
    """Structural similarity, and that of the window about each pixel ``(height, width)``."""
    from skimage.metrics import structural_similarity

    a, b = _pair(first, second)
    if min(a.shape[:2]) < 7:
        raise ValueError(f"pictures of {a.shape[1]}×{a.shape[0]} pixels are smaller than the window of 7×7")
    a, b = (np.round(255 * (picture @ LUMA)) / 255 for picture in (a, b))
    mean, each = structural_similarity(a, b, data_range=1.0, full=True)
    return float(mean), each


def _check_mask(picture: Picture, mask: Mask) -> None:
    if mask.shape != picture.shape[:2] or mask.dtype != np.bool_:
        raise ValueError(f"mask is {mask.dtype} {mask.shape}; it must be bool {picture.shape[:2]}")
    if not mask.any():
        raise ValueError("the mask is true nowhere: there is nothing to measure")


def _pair(first: Picture, second: Picture) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both pictures as float64 in [0, 1], after checking that they can be compared."""
    if first.shape != second.shape or first.ndim != 3 or first.shape[2] != 3 or not first.size:
        raise ValueError(f"pictures of shape {first.shape} and {second.shape}; give two of one (height, width, 3)")
    if first.dtype != np.uint8 or second.dtype != np.uint8:
        raise ValueError(f"pictures of type {first.dtype} and {second.dtype}; give uint8, 0 to 255")
    return first / 255.0, second / 255.0


def _decibel(mean_square: float) -> float:
    return math.inf if mean_square == 0 else -10 * math.log10(mean_square)
