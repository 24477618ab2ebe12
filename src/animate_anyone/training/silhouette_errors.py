"""Errors that maskers make, for silhouettes of the studio, which are exact: a model must mend what comes of them."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

from animate_anyone.structures import Mask

EXACT = 0.3
"""Share of silhouettes that are left as they are."""
_EDGE = 1 / 128  # of a side: how far an edge may be displaced
_SPOTS, _SPOT = 4, (1 / 64, 1 / 20)  # number of spots that are missing or too much, and their radius, of a side


def spoil(silhouette: Mask, rng: np.random.Generator) -> Mask:
    """A silhouette ``(height, width)`` as a masker might find it: displaced edges, bites, lumps."""
    if rng.random() < EXACT or not silhouette.any():
        return silhouette
    side = max(silhouette.shape)
    pixels = round(float(rng.uniform(-1.5, 2.5)) * _EDGE * side)
    spoilt = silhouette
    if pixels:
        spoilt = (binary_dilation if pixels > 0 else binary_erosion)(silhouette, iterations=abs(pixels))
    edge = np.argwhere(silhouette & ~binary_erosion(silhouette))
    y, x = np.mgrid[: silhouette.shape[0], : silhouette.shape[1]]
    for _ in range(int(rng.integers(_SPOTS + 1))):
        row, column = edge[rng.integers(len(edge))]
        spot = np.hypot(y - row, x - column) < rng.uniform(*_SPOT) * side
        spoilt = spoilt | spot if rng.random() < 0.5 else spoilt & ~spot
    return spoilt if spoilt.any() else silhouette
