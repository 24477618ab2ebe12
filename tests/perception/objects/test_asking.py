"""Objects by asking a model that sees and speaks: tiny random ones in the real layout, and strictness with replies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import tiny_qwen
from animate_anyone.errors import InputError
from animate_anyone.perception.objects.asking import AskingLocator, QwenVL, Reply, check_asked, parse_reply
from animate_anyone.perception.objects.tracking import ObjectLocator

FRAMES = [np.full((60, 100, 3), number, np.uint8) for number in range(8)]
KINDS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: tiny_qwen.save(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_asked_and_its_boxes_are_brought_to_the_frame(
    kind: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = QwenVL(folders[kind])
    # 100x60 becomes 80x48: multiples of 8, at most 64x64 pixels in all.
    wide, high = (80, 48) if kind == "qwen2_5_vl" else (1000, 1000)
    box = [wide // 4, high // 4, wide // 2, high]
    answer = asked._tokenizer(json.dumps([{"bbox_2d": box, "label": "Red Ball"}]), return_tensors="pt")["input_ids"]
    seen: dict[str, Any] = {}

    def generate(input_ids: torch.Tensor, **given: Any) -> torch.Tensor:
        seen.update(given, input_ids=input_ids)
        asked._model.forward(input_ids=input_ids, **{n: v for n, v in given.items() if n not in OF_GENERATE})
        return torch.cat([input_ids, answer], dim=1)

    OF_GENERATE = ("max_new_tokens", "do_sample")
    monkeypatch.setattr(asked._model, "generate", generate)
    (mark,) = AskingLocator(asker=asked).locate(FRAMES)
    assert (mark.name, mark.frame) == ("red ball", 4)
    assert mark.box == pytest.approx((25, 15, 50, 60))
    text = asked._tokenizer.decode(seen["input_ids"][0])
    assert text.count("<|image_pad|>") == 80 * 48 // 8**2 and f"0 to {wide} from left" in text
    assert seen["do_sample"] is False and seen["pixel_values"].shape[0] == 80 * 48 // 4**2


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_random_model_says_is_no_list(kind: str, folders: dict[str, Path], monkeypatch: Any) -> None:
    monkeypatch.setattr("animate_anyone.perception.objects.asking._MOST_TOKENS", 12)
    asked = QwenVL(folders[kind], dtype=torch.float32)
    assert asked(FRAMES[0]).text == asked(FRAMES[0]).text  # greedy
    with pytest.raises(InputError, match=r"no list of at most 8 objects .*; mark the objects by hand") as error:
        AskingLocator(asker=asked).locate(FRAMES)
    assert "\n" not in str(error.value)


def test_the_picture_is_seen(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model is about to say depends on the pixels."""
    asked = QwenVL(folders["qwen2_vl"])
    said: list[torch.Tensor] = []

    def generate(input_ids: torch.Tensor, max_new_tokens: int, do_sample: bool, **given: Any) -> torch.Tensor:
        said.append(asked._model(input_ids=input_ids, **given).logits[0, -1])
        return input_ids

    monkeypatch.setattr(asked._model, "generate", generate)
    noise = np.random.default_rng(0).integers(0, 255, (60, 100, 3), np.uint8)
    for frame in (FRAMES[0], noise, FRAMES[0]):
        asked(frame)
    assert torch.equal(said[0], said[2]) and not torch.equal(said[0], said[1])


def test_names_become_marks_in_pixels() -> None:
    seen = []

    def ask(picture: NDArray[np.uint8]) -> Reply:
        seen.append(int(picture[0, 0, 0]))
        items = [{"name": "Umbrella", "box": [100, 500, 300, 1000]}, {"name": "parasol", "box": [100, 500, 300, 990]}]
        return Reply(f"```json\n{json.dumps(items)}\n```")

    locator = AskingLocator(asker=ask)
    assert isinstance(locator, ObjectLocator)
    (mark,) = locator.locate(FRAMES)  # two names for one box are one object
    assert seen == [4]
    assert (mark.name, mark.frame, mark.box) == ("umbrella", 4, pytest.approx((10, 30, 30, 60)))
    assert AskingLocator(asker=lambda *_: Reply("[]")).locate(FRAMES) == []


def test_equal_names_are_told_apart() -> None:
    reply = '[{"name": "ball", "box": [0, 0, 10, 10]}, {"name": "ball", "box": [500, 0, 510, 10]}]'
    assert [name for name, _ in parse_reply(Reply(reply), (100, 100))] == ["ball", "ball 2"]


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
        ('[{"name": "ball", "box": [0, 0, NaN, 2]}]', "no name with a box"),
        ('[{"name": "ball", "box": [0, 0, 1200, 2]}]', "not in 0 to 1000 by 0 to 1000"),
        ('[{"name": "ball", "box": [9, 0, 3, 2]}]', "not in 0 to 1000"),
        ('[{"name": "ball", "box": [0.1, 0.1, 0.5, 0.9]}]', "not in 0 to 1000"),
    ],
)
def test_a_reply_that_was_not_asked_for_is_an_error(reply: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_reply(Reply(reply), (100, 60))
    assert "\n" not in str(error.value) and "--objects FILE.json" in str(error.value)


def test_folders_are_looked_at_before_anything_is_loaded(folders: dict[str, Path], tmp_path: Path) -> None:
    assert [check_asked(folders[kind]) for kind in KINDS] == list(KINDS)
    with pytest.raises(InputError, match="no config"):
        check_asked(tmp_path)
    for text, message in (
        ('{"model_type": "llava"}', "holds a 'llava' model; to be asked for objects"),
        ("{", "holds a 'None' model"),
        ('{"model_type": "qwen2_vl"}', "no weights"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match=message) as error:
            check_asked(tmp_path)
        assert "\n" not in str(error.value)
