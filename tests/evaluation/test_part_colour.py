"""Colour of parts: on figures that are known, and a shirt that changes its colour."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

import faults
from animate_anyone.evaluation.part_colour import GROUPS, colour_error
from animate_anyone.synthetic.figure.bricks import Label


def plain(*colours: tuple[int, int, int]) -> tuple[faults.Frames, faults.Labels]:
    """A frame of three parts beside each other, 20, 20 and 60 columns of 20 rows: torso, skirt, left thigh."""
    labels = np.zeros((1, 20, 100), np.uint8)
    labels[:, :, :20], labels[:, :, 20:40], labels[:, :, 40:] = Label.TORSO, Label.SKIRT, Label.LEFT_THIGH
    frames = np.zeros((1, 20, 100, 3), np.uint8)
    for label, colour in zip((Label.TORSO, Label.SKIRT, Label.LEFT_THIGH), colours, strict=True):
        frames[labels == label] = colour
    return frames, labels


def distance(first: tuple[int, int, int], second: tuple[int, int, int]) -> float:
    a, b = (rgb2lab(np.array(colour)[None, None] / 255) for colour in (first, second))
    return float(deltaE_ciede2000(a, b)[0, 0])


def test_truth_has_no_error() -> None:
    frames, _, labels = faults.parts(faults.DANCER)
    errors = colour_error(frames, frames, labels)
    assert errors.keys() == {"all", *GROUPS}
    assert all(error in (0.0, None) for error in errors.values())
    assert errors["torso"] == 0.0
    assert errors["skirt"] is None  # wears trousers


def test_parts_count_by_their_pixels() -> None:
    truth, labels = plain((255, 255, 255), (40, 90, 60), (200, 30, 30))
    result, _ = plain((0, 0, 0), (40, 90, 60), (30, 200, 30))
    errors = colour_error(result, truth, labels)
    assert errors["torso"] == pytest.approx(100, abs=0.01)  # black for white
    assert errors["skirt"] == 0.0
    expected = distance((200, 30, 30), (30, 200, 30))
    assert errors["legs"] == pytest.approx(expected)
    assert errors["all"] == pytest.approx(0.2 * 100 + 0.6 * expected)
    assert [errors[name] for name in ("face", "hair", "arms", "hands", "feet")] == [None] * 5


def test_edges_of_parts_and_small_parts_do_not_count() -> None:
    truth, labels = plain((250, 250, 250), (40, 90, 60), (200, 30, 30))
    result = truth.copy()
    result[:, :, 19] = result[:, :, 39] = 0
    assert colour_error(result, truth, labels)["all"] == 0.0
    labels[:] = 0
    labels[0, 3, 1:12] = Label.LEFT_HAND  # 11 pixels
    result[0, 3] = 0
    assert colour_error(result, truth, labels)["hands"] is None
    labels[0, 3, 12] = Label.LEFT_HAND  # 12, and nothing of it is inside: then all of it counts
    assert colour_error(result, truth, labels)["hands"] == pytest.approx(distance((250, 250, 250), (0, 0, 0)))


@pytest.mark.parametrize("seed", [faults.REACHER, faults.IDLE])
def test_another_shirt_is_seen_and_nothing_else(seed: int) -> None:
    frames, _, labels = faults.parts(seed)
    errors = colour_error(faults.recoloured(frames, labels, [Label.TORSO]), frames, labels)
    assert errors["torso"] is not None and errors["torso"] > 20
    assert errors["all"] is not None and errors["all"] > 3
    assert all(error in (0.0, None) for name, error in errors.items() if name not in ("torso", "all"))


def test_blur_is_not_another_colour() -> None:
    frames, _, labels = faults.parts(faults.IDLE)
    error = colour_error(faults.blurred(frames, 1.0), frames, labels)["torso"]
    assert error is not None and error < 3


def test_other_clips_are_refused() -> None:
    frames, _, labels = faults.parts(faults.DANCER)
    with pytest.raises(ValueError, match="different clips"):
        colour_error(frames[:2], frames, labels)
    with pytest.raises(ValueError, match="different clips"):
        colour_error(frames, frames, labels[:2])
