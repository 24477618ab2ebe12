"""Objects found by name (Grounding DINO) or by asking a model that sees and speaks (Qwen-VL).

Both networks come from folders that the user names. What they answer is checked before it is
believed: a reply that is not what was asked for is an error, never a guess.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from animate_anyone.conditions.boxes import Box, box_overlap
from animate_anyone.errors import InputError
from animate_anyone.perception.backends import check_folder, load_network, load_processor
from animate_anyone.structures import ObjectMark, Picture, Size

Detector = Callable[[Picture, list[str]], list[tuple[str, float, Box]]]
"""A picture and names in; found name, score in [0, 1], and box (left, top, right, bottom, pixels) out."""

Asker = Callable[[Picture, str], str]
"""A picture and a question in, the reply out."""

GRID = 1000
"""Boxes of a reply are in shares of a thousand of the picture's width and height."""

QUESTION = (
    "Which objects does the person in this picture hold or touch? Leave out clothes and the ground. "
    'Answer with a JSON list only, each item {"name": "...", "box": [left, top, right, bottom]}, '
    f"the box in whole numbers from 0 to {GRID} of the picture's width and height; [] if there are none."
)
_MOST = 8  # objects; more is a mistake
_SAME = 0.6  # overlap of two boxes that are one object


class TextLocator:
    """Finds objects by name, each in the frame in which it gets the highest score.

    Args:
        names: what to look for: ``["ball", "umbrella"]``.
        weights: a folder with ``GroundingDinoForObjectDetection`` and its processor.
        device: ``cpu``, ``cuda`` or ``mps``.
        least: score in [0, 1] below which a find does not count.
        looks: number of frames looked at, evenly over the clip.
        detector: a ready detector; then nothing is loaded.

    Raises:
        InputError: no names, or the weights are missing.
    """

    def __init__(
        self,
        names: Sequence[str],
        weights: str | Path | None = None,
        device: str = "cpu",
        least: float = 0.3,
        looks: int = 4,
        detector: Detector | None = None,
    ) -> None:
        self._names = [name.strip().lower() for name in names]
        if not self._names or not all(self._names):
            raise InputError(f"objects to look for are {list(names)!r}; give one name or more, such as ball")
        if looks < 1:
            raise InputError(f"{looks} frames cannot be looked at; give 1 or more")
        self._least, self._looks = least, looks
        self._detect = detector or grounding_dino(weights, device)

    def locate(self, frames: Sequence[Picture]) -> list[ObjectMark]:
        """One mark a name that was found; see :class:`~animate_anyone.perception.objects.tracking.ObjectLocator`."""
        best: dict[str, tuple[float, ObjectMark]] = {}
        for number in _spread(len(frames), self._looks):
            size = (frames[number].shape[1], frames[number].shape[0])
            for name, score, box in self._detect(frames[number], self._names):
                inside = _inside(box, size)
                if name in self._names and inside and self._least <= score and score > best.get(name, (0.0,))[0]:
                    best[name] = (score, ObjectMark(name, number, inside))
        return [best[name][1] for name in self._names if name in best]


class AskingLocator:
    """Asks a model that sees and speaks what the person holds or touches.

    Args:
        weights: a folder with a Qwen3-VL model (``Qwen3VLForConditionalGeneration``) and its processor.
        device: ``cpu``, ``cuda`` or ``mps``.
        looks: number of frames it is asked about, evenly over the clip.
        asker: a ready model; then nothing is loaded.
    """

    def __init__(
        self, weights: str | Path | None = None, device: str = "cpu", looks: int = 1, asker: Asker | None = None
    ) -> None:
        if looks < 1:
            raise InputError(f"{looks} frames cannot be asked about; give 1 or more")
        self._looks = looks
        self._ask = asker or qwen_vl(weights, device)

    def locate(self, frames: Sequence[Picture]) -> list[ObjectMark]:
        """Marks of what was named, the first frame in which it was; the protocol's other rules hold."""
        found: dict[str, ObjectMark] = {}
        for number in _spread(len(frames), self._looks):
            size = (frames[number].shape[1], frames[number].shape[0])
            for name, box in parse_reply(self._ask(frames[number], QUESTION), size):
                known = [mark.box for mark in found.values() if mark.frame == number and mark.box is not None]
                if name not in found and all(box_overlap(box, other) < _SAME for other in known):
                    found[name] = ObjectMark(name, number, box)
        return list(found.values())


def parse_reply(reply: str, size: Size) -> list[tuple[str, Box]]:
    """Names and boxes, in pixels of ``size``, from a reply to :data:`QUESTION`.

    A list in a fence of backticks is taken; anything else around it is not.

    Raises:
        InputError: the reply is not the list that was asked for; it names the item.
    """
    text = reply.strip()
    fenced = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", text, re.DOTALL)
    try:
        items = json.loads(fenced.group(1) if fenced else text)
    except (json.JSONDecodeError, RecursionError):
        items = None
    if not isinstance(items, list) or len(items) > _MOST:
        shown = " ".join(text.split())[:80]
        raise InputError(f"the model's reply is no list of at most {_MOST} objects ({shown!r}); mark them by hand")
    found: list[tuple[str, Box]] = []
    counts: dict[str, int] = {}
    for number, item in enumerate(items):
        name, box = (item.get("name"), item.get("box")) if isinstance(item, dict) else (None, None)
        if not isinstance(name, str) or not name.strip() or not isinstance(box, list) or not _is_box(box):
            shown = " ".join(repr(item).split())[:80]
            raise InputError(f"item {number} of the model's reply is {shown}, no name with a box; mark objects by hand")
        left, top, right, bottom = box
        if not (0 <= left < right <= GRID and 0 <= top < bottom <= GRID):
            raise InputError(
                f"item {number} of the model's reply has the box {box}, not in 0 to {GRID}; mark it by hand"
            )
        name = name.strip().lower()
        counts[name] = counts.get(name, 0) + 1
        label = name if counts[name] == 1 else f"{name} {counts[name]}"
        x, y = size[0] / GRID, size[1] / GRID
        found.append((label, (left * x, top * y, right * x, bottom * y)))
    return found


def grounding_dino(weights: str | Path | None, device: str = "cpu") -> Detector:
    """Grounding DINO from a folder, as a :data:`Detector`. Raises :class:`InputError` where it cannot be loaded."""
    model: Any = load_network("GroundingDinoForObjectDetection", weights, "Grounding DINO").eval().to(device)
    processor = load_processor("AutoProcessor", weights, "Grounding DINO")

    def detect(picture: Picture, names: list[str]) -> list[tuple[str, float, Box]]:
        import torch

        text = " ".join(f"{name}." for name in names)
        inputs = processor(images=Image.fromarray(picture), text=text, return_tensors="pt").to(device)
        with torch.inference_mode():
            outputs = model(**inputs)
        found = processor.post_process_grounded_object_detection(
            outputs, inputs["input_ids"], threshold=0.0, text_threshold=0.2, target_sizes=[picture.shape[:2]]
        )[0]
        labels = found.get("text_labels", found["labels"])
        boxes = [tuple(float(v) for v in box) for box in found["boxes"]]
        return [
            (_named(str(label), names), float(score), (box[0], box[1], box[2], box[3]))
            for label, score, box in zip(labels, found["scores"], boxes, strict=True)
        ]

    return detect


def qwen_vl(weights: str | Path | None, device: str = "cpu") -> Asker:
    """Qwen3-VL from a folder, as an :data:`Asker`. Raises :class:`InputError` where it cannot be loaded."""
    folder = check_folder(weights, "Qwen-VL")
    kind = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
    if kind != "qwen3_vl":
        raise InputError(f"{folder}: holds a {kind!r} model; give a Qwen3-VL one, whose boxes are in 0 to {GRID}")
    model: Any = load_network("Qwen3VLForConditionalGeneration", folder, "Qwen-VL").eval().to(device)
    processor = load_processor("AutoProcessor", folder, "Qwen-VL")

    def ask(picture: Picture, question: str) -> str:
        import torch

        content = [{"type": "image", "image": Image.fromarray(picture)}, {"type": "text", "text": question}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(device)
        with torch.inference_mode():
            written = model.generate(**inputs, max_new_tokens=512, do_sample=False)
        return processor.batch_decode(written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]

    return ask


def _named(label: str, names: list[str]) -> str:
    """Which of the names a label of Grounding DINO means: it may give parts of a name, or several."""
    words = set(label.lower().split())
    return max(names, key=lambda name: (name == label.lower(), len(words & set(name.split()))))


def _spread(frames: int, looks: int) -> list[int]:
    """Numbers of at most ``looks`` frames, evenly over the clip, the middle one if only one."""
    return sorted({int((index + 0.5) * frames / looks) for index in range(looks)})


def _is_box(values: list[Any]) -> bool:
    return len(values) == 4 and all(type(v) in (int, float) and math.isfinite(v) for v in values)


def _inside(box: Box, size: Size) -> Box | None:
    left, top, right, bottom = (float(np.clip(v, 0, limit)) for v, limit in zip(box, size * 2, strict=True))
    return (left, top, right, bottom) if left < right and top < bottom else None
