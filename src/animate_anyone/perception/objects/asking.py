"""Objects found by asking a model that sees and speaks (AA2 names Qwen-VL): what does the person hold or touch?

The network comes from a folder that the user names. What it answers is checked before it is believed: a reply that is
not what was asked for is an error, never a guess.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from animate_anyone.conditions.boxes import Box, box_overlap
from animate_anyone.errors import InputError, shortened
from animate_anyone.perception.backends import check_folder, load_network, load_processor
from animate_anyone.perception.objects.locators import spread
from animate_anyone.structures import ObjectMark, Picture, Size

if TYPE_CHECKING:
    import torch

ASK = "ask"
"""In the place of names of objects: a model is asked for them."""

THOUSAND: Size = (1000, 1000)
"""Boxes of most models are in shares of a thousand of the picture's width and height."""

_BY_HAND = "mark the objects by hand (--objects FILE.json)"
_MOST = 8  # objects; more is a mistake
_MOST_TOKENS = 512  # of a reply
_SAME = 0.6  # overlap of two boxes that are one object

# Kind of model in config.json -> its class in transformers, and whether its boxes are in pixels of the picture as the
# processor resized it; else in thousandths of its sides.
_MODELS = {
    "qwen2_vl": ("Qwen2VLForConditionalGeneration", False),
    "qwen2_5_vl": ("Qwen2_5_VLForConditionalGeneration", True),
    "qwen3_vl": ("Qwen3VLForConditionalGeneration", False),
}
_KEYS = (("name", "label"), ("box", "bbox_2d"))  # as asked for, and as these models are used to


@dataclass(frozen=True)
class Reply:
    """What a model says of a picture.

    Attributes:
        text: its reply to :func:`question`.
        extent: ``(width, height)`` of the picture in the unit of the boxes in it.
    """

    text: str
    extent: Size = THOUSAND


Asker = Callable[[Picture], Reply]
"""A picture ``(height, width, 3)`` uint8 in, the reply out."""


def question(extent: Size) -> str:
    """What a model is asked whose boxes are in a picture of ``extent`` ``(width, height)``."""
    return (
        "Which objects does the person in this picture hold or touch? Leave out clothes and the ground. "
        'Answer with a JSON list only, each item {"name": "...", "box": [left, top, right, bottom]}, the box in whole '
        f"numbers, 0 to {extent[0]} from left to right and 0 to {extent[1]} from top to bottom; [] if there are none."
    )


class AskingLocator:
    """Asks a model that sees and speaks what the person holds or touches.

    Args:
        weights: a folder with a Qwen2-VL, Qwen2.5-VL or Qwen3-VL model, its tokenizer and its processor of pictures.
        device: ``cpu``, ``cuda`` or ``mps``.
        looks: number of frames it is asked about, evenly over the clip.
        asker: a ready model; then nothing is loaded.
        dtype: of the network's numbers; ``None``: that of its files.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        device: str = "cpu",
        looks: int = 1,
        asker: Asker | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if looks < 1:
            raise InputError(f"{looks} frames cannot be asked about; give 1 or more")
        self._looks = looks
        self._ask = asker or QwenVL(weights, device, dtype)

    def locate(self, frames: Sequence[Picture]) -> list[ObjectMark]:
        """Marks of what was named, the first frame in which it was; the protocol's other rules hold."""
        found: dict[str, ObjectMark] = {}
        for number in spread(len(frames), self._looks):
            reply = self._ask(frames[number])
            size = (frames[number].shape[1], frames[number].shape[0])
            for name, box in parse_reply(reply, size):
                known = [mark.box for mark in found.values() if mark.frame == number and mark.box is not None]
                if name not in found and all(box_overlap(box, other) < _SAME for other in known):
                    found[name] = ObjectMark(name, number, box)
        return list(found.values())


def parse_reply(reply: Reply, size: Size) -> list[tuple[str, Box]]:
    """Names and boxes, in pixels of a picture of ``size`` ``(width, height)``.

    A list in a fence of backticks is taken, and ``label`` and ``bbox_2d`` for ``name`` and ``box``, as these models are
    used to write; anything else around it is not.

    Raises:
        InputError: the reply is not the list that was asked for; it names the item.
    """
    text = reply.text.strip()
    fenced = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", text, re.DOTALL)
    try:
        items = json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list) or len(items) > _MOST:
        raise InputError(f"the model's reply is no list of at most {_MOST} objects ({_shown(text)!r}); {_BY_HAND}")
    found: list[tuple[str, Box]] = []
    counts: dict[str, int] = {}
    wide, high = reply.extent
    for number, item in enumerate(items):
        given = item if isinstance(item, dict) else {}
        name, box = (next((given[key] for key in keys if key in given), None) for keys in _KEYS)
        if not isinstance(name, str) or not name.strip() or not isinstance(box, list) or not _is_box(box):
            shown = _shown(repr(item))
            raise InputError(f"item {number} of the model's reply is {shown}, no name with a box; {_BY_HAND}")
        left, top, right, bottom = box
        inside = 0 <= left < right <= wide and 0 <= top < bottom <= high
        if not inside or max(box) <= 1:  # shares of one, it seems, which were not asked for
            raise InputError(
                f"item {number} of the model's reply has the box {box}, not in 0 to {wide} by 0 to {high}; {_BY_HAND}"
            )
        name = _shown(name).lower()
        counts[name] = counts.get(name, 0) + 1
        label = name if counts[name] == 1 else f"{name} {counts[name]}"
        x, y = size[0] / wide, size[1] / high
        found.append((label, (left * x, top * y, right * x, bottom * y)))
    return found


def check_asked(folder: str | Path | None) -> str:
    """The kind of the model in a folder (``model_type``), without loading it.

    Raises:
        InputError: there is none that can be asked, or its weights are not there.
    """
    path = check_folder(folder, "--objects ask")
    try:
        kind = json.loads((path / "config.json").read_text("utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = None
    if not isinstance(kind, str) or kind not in _MODELS:
        raise InputError(
            f"{path}: holds a {shortened(str(kind))!r} model; to be asked for objects, give a folder with one of: "
            f"{', '.join(_MODELS)}"
        )
    if not any(path.glob("*.safetensors")):
        raise InputError(f"{path}: no weights (.safetensors) are there; give the whole folder of a {kind} model")
    return kind


class QwenVL:
    """A Qwen-VL model from a folder, as an :data:`Asker`.

    Its tokenizer and its processor of pictures are used, and none of videos, which would need torchvision.

    Args:
        weights: the folder, as transformers saves it: ``config.json``, ``*.safetensors``, ``tokenizer.json``,
            ``preprocessor_config.json``.
        device: ``cpu``, ``cuda`` or ``mps``.
        dtype: of its numbers; ``None``: that of its files.

    Raises:
        InputError: it cannot be loaded.
    """

    def __init__(self, weights: str | Path | None, device: str = "cpu", dtype: torch.dtype | None = None) -> None:
        class_name, self._in_pixels = _MODELS[check_asked(weights)]
        self._tokenizer = load_processor("AutoTokenizer", weights, class_name)
        self._pictures = load_processor("AutoImageProcessor", weights, class_name)
        self._model = load_network(class_name, weights, class_name, dtype).eval().to(device)
        self._device = device

    def __call__(self, picture: Picture) -> Reply:
        """Ask about a picture ``(height, width, 3)`` uint8."""
        import torch

        seen = self._pictures(images=[Image.fromarray(picture)], return_tensors="pt")
        _, rows, columns = (int(n) for n in seen["image_grid_thw"][0])
        patch, merged = self._pictures.patch_size, self._pictures.merge_size
        extent = (columns * patch, rows * patch) if self._in_pixels else THOUSAND
        places = "<|image_pad|>" * (rows * columns // merged**2)
        text = (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            f"<|im_start|>user\n<|vision_start|>{places}<|vision_end|>{question(extent)}<|im_end|>\n"
            "<|im_start|>assistant\n"
        )
        inputs = self._tokenizer(text, return_tensors="pt")
        tokens = inputs["input_ids"]
        is_picture = tokens == self._model.config.image_token_id
        with torch.inference_mode():
            written = self._model.generate(
                input_ids=tokens.to(self._device),
                attention_mask=inputs["attention_mask"].to(self._device),
                mm_token_type_ids=is_picture.int().to(self._device),
                pixel_values=seen["pixel_values"].to(self._device),
                image_grid_thw=seen["image_grid_thw"].to(self._device),
                max_new_tokens=_MOST_TOKENS,
                do_sample=False,
            )
        return Reply(self._tokenizer.decode(written[0, tokens.shape[1] :], skip_special_tokens=True), extent)


def _shown(text: str) -> str:
    """A text of the model in one line, not too long."""
    return " ".join(text.split())[:80]


def _is_box(values: list[Any]) -> bool:
    return len(values) == 4 and all(type(v) in (int, float) and math.isfinite(v) for v in values)
