"""Objects by name, with a stand-in for the network."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.perception.objects.locators import (
    Box,
    TextLocator,
    _named,
    spread,
)
from animate_anyone.perception.objects.tracking import ObjectLocator

FRAMES = [np.full((60, 100, 3), number, np.uint8) for number in range(8)]


def test_by_name_the_surest_frame_is_taken() -> None:
    answers: dict[int, list[tuple[str, float, Box]]] = {
        1: [("ball", 0.5, (1, 2, 30, 40)), ("dog", 0.9, (0, 0, 9, 9))],
        3: [("ball", 0.8, (5, 2, 130, 40)), ("ball", 0.7, (0, 0, 5, 5)), ("bat", 0.2, (0, 0, 5, 5))],
        5: [("ball", 0.95, (120, 2, 130, 40))],  # outside the frame
    }

    def detect(picture: NDArray[np.uint8], names: list[str]) -> list[tuple[str, float, Box]]:
        assert names == ["ball", "bat"]
        return answers.get(int(picture[0, 0, 0]), [])

    locator = TextLocator([" Ball", "bat"], detector=detect)
    assert isinstance(locator, ObjectLocator)
    (mark,) = locator.locate(FRAMES)
    assert (mark.name, mark.frame, mark.box) == ("ball", 3, (5, 2, 100, 40))


def test_labels_and_frames() -> None:
    assert _named("red ball", ["umbrella", "ball"]) == "ball"
    assert _named("ball", ["big ball", "ball"]) == "ball"
    assert spread(8, 1) == [4] and spread(8, 4) == [1, 3, 5, 7] and spread(2, 4) == [0, 1]


def test_weights_are_asked_for() -> None:
    with pytest.raises(InputError, match="Grounding DINO needs weights"):
        TextLocator(["ball"])
    with pytest.raises(InputError, match="give one name or more"):
        TextLocator([], detector=lambda *_: [])
