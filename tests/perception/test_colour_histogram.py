"""Histograms of colours: what is counted, and what the blur takes for the bins beyond the last."""

from __future__ import annotations

import numpy as np
import pytest

from animate_anyone.perception.colour_histogram import colour_bins, colour_histogram, likeness


def test_every_colour_has_its_bin() -> None:
    colours = np.array([[0, 0, 0], [255, 255, 255], [128, 0, 64]], np.uint8)
    assert colour_bins(colours, (2, 2, 4)).tolist() == [0, 15, 9]


@pytest.mark.parametrize(("beyond", "corner"), [("constant", 0.5**3), ("nearest", 0.75**3), ("wrap", 0.5**3)])
def test_the_blur_keeps_or_loses_what_leaves_the_last_bin(beyond: str, corner: float) -> None:
    counts = colour_histogram(np.zeros((8, 3), np.uint8), (4, 4, 4), beyond)  # type: ignore[arg-type]
    assert counts[0, 0, 0] == 8 * corner
    assert counts.sum() == (8 if beyond != "constant" else 8 * 0.75**3)
    assert (counts[3, 0, 0] > 0) == (beyond == "wrap")


def test_likeness() -> None:
    one = np.array([0.5, 0.5, 0.0])
    assert likeness(one, one) == pytest.approx(1) and likeness(one, np.array([0.0, 0.0, 1.0])) == 0
