"""Histograms of colours, slightly blurred so that a little more light makes no other colour, and their likeness."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

Bins = tuple[int, int, int]
"""Number of bins of each of three channels."""


def colour_bins(colours: NDArray[np.uint8], bins: Bins) -> NDArray[np.intp]:
    """The number of the bin that each colour ``(..., 3)`` falls in, ``(...)``, from 0 to the product of ``bins``."""
    places = colours.astype(np.intp) * bins // 256
    return np.asarray((places[..., 0] * bins[1] + places[..., 1]) * bins[2] + places[..., 2])


def colour_histogram(
    colours: NDArray[np.uint8], bins: Bins, beyond: Literal["constant", "nearest", "wrap"]
) -> NDArray[np.float64]:
    """How many of the colours ``(pixels, 3)`` fall in each bin, blurred by (1, 2, 1) / 4 along each channel.

    Args:
        colours: ``(pixels, 3)``.
        bins: how many of each channel.
        beyond: what the blur takes for the bins beyond the last: nothing, the last one, or those of the other end.

    Returns:
        ``bins`` float64.
    """
    counts = np.bincount(colour_bins(colours, bins), minlength=bins[0] * bins[1] * bins[2]).reshape(bins).astype(float)
    for axis in range(3):
        counts = convolve1d(counts, [0.25, 0.5, 0.25], axis, mode=beyond)
    return counts


def likeness(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Bhattacharyya coefficient of two histograms that sum to 1, in [0, 1]; 1 where they are alike."""
    return float(np.sqrt(one * other).sum())
