"""Boxes around masks, and how much two boxes overlap."""

from __future__ import annotations

import numpy as np

from animate_anyone.structures import Mask

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, pixels."""


def bounding_box(mask: Mask, margin: int = 0) -> tuple[slice, slice] | None:
    """Rows and columns of the smallest box around a mask ``(height, width)``; ``None`` if it is empty.

    Args:
        mask: ``(height, width)`` bool.
        margin: pixels by which the box is wider on each side, as far as the mask goes.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    height, width = mask.shape
    return (
        slice(max(int(rows[0]) - margin, 0), min(int(rows[-1]) + 1 + margin, height)),
        slice(max(int(columns[0]) - margin, 0), min(int(columns[-1]) + 1 + margin, width)),
    )


def box_overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / max(sum(areas) - shared, 1e-9)
