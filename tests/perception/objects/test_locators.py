"""Objects by name and by asking, with stand-ins for the networks: choice, and strictness with replies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.perception.objects.locators import (
    QUESTION,
    AskingLocator,
    Box,
    TextLocator,
    _named,
    _spread,
    parse_reply,
    qwen_vl,
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


def test_by_asking_names_become_marks_in_pixels() -> None:
    asked = []

    def ask(picture: NDArray[np.uint8], question: str) -> str:
        asked.append((int(picture[0, 0, 0]), question))
        items = [{"name": "Umbrella", "box": [100, 500, 300, 1000]}, {"name": "parasol", "box": [100, 500, 300, 990]}]
        return f"```json\n{json.dumps(items)}\n```"

    locator = AskingLocator(asker=ask)
    assert isinstance(locator, ObjectLocator)
    (mark,) = locator.locate(FRAMES)  # two names for one box are one object
    assert asked == [(4, QUESTION)]
    assert (mark.name, mark.frame, mark.box) == ("umbrella", 4, pytest.approx((10, 30, 30, 60)))
    assert AskingLocator(asker=lambda *_: "[]").locate(FRAMES) == []


def test_equal_names_are_told_apart() -> None:
    reply = '[{"name": "ball", "box": [0, 0, 10, 10]}, {"name": "ball", "box": [500, 0, 510, 10]}]'
    assert [name for name, _ in parse_reply(reply, (100, 100))] == ["ball", "ball 2"]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("The person holds a ball.", "no list of at most 8 objects"),
        ('Sure! [{"name": "ball", "box": [0, 0, 1, 1]}]', "no list"),
        ('{"name": "ball"}', "no list"),
        (json.dumps([{"name": "a", "box": [0, 0, 1, 1]}] * 9), "no list of at most 8"),
        ('[{"name": "ball"}]', "item 0 of the model's reply"),
        ('["ball"]', "item 0 of the model's reply"),
        ('[{"name": "ball", "box": [0, 0, 1]}]', "no name with a box"),
        ('[{"name": "ball", "box": [0, 0, "1", 2]}]', "no name with a box"),
        ('[{"name": "ball", "box": [0, 0, true, 2]}]', "no name with a box"),
        ('[{"name": "ball", "box": [0, 0, 1200, 2]}]', "not in 0 to 1000"),
        ('[{"name": "ball", "box": [9, 0, 3, 2]}]', "not in 0 to 1000"),
    ],
)
def test_a_reply_that_was_not_asked_for_is_an_error(reply: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_reply(reply, (100, 60))
    assert "\n" not in str(error.value)


def test_labels_and_frames() -> None:
    assert _named("red ball", ["umbrella", "ball"]) == "ball"
    assert _named("ball", ["big ball", "ball"]) == "ball"
    assert _spread(8, 1) == [4] and _spread(8, 4) == [1, 3, 5, 7] and _spread(2, 4) == [0, 1]


def test_weights_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Grounding DINO needs weights"):
        TextLocator(["ball"])
    with pytest.raises(InputError, match="Qwen-VL needs weights"):
        AskingLocator()
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    with pytest.raises(InputError, match="holds a 'qwen2_5_vl' model; give a Qwen3-VL one"):
        qwen_vl(tmp_path)
    with pytest.raises(InputError, match="give one name or more"):
        TextLocator([], detector=lambda *_: [])
