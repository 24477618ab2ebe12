"""Boxes around masks, and how much two boxes overlap."""

from __future__ import annotations

import numpy as np
import pytest

from animate_anyone.conditions.boxes import bounding_box, box_overlap


def test_the_margin_ends_at_the_mask() -> None:
    mask = np.zeros((10, 20), bool)
    assert bounding_box(mask, 3) is None
    mask[1:4, 15:18] = True
    assert bounding_box(mask) == (slice(1, 4), slice(15, 18))
    assert bounding_box(mask, 3) == (slice(0, 7), slice(12, 20))


@pytest.mark.parametrize(
    ("other", "share"),
    [((0, 0, 2, 2), 1), ((2, 0, 4, 2), 0), ((5, 5, 6, 6), 0), ((1, 0, 3, 2), 1 / 3), ((1, 1, 1, 1), 0)],
)
def test_overlap(other: tuple[float, float, float, float], share: float) -> None:
    assert box_overlap((0, 0, 2, 2), other) == pytest.approx(share)
