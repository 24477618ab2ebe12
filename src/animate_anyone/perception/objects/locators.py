"""Objects found by name (Grounding DINO)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from animate_anyone.conditions.boxes import Box
from animate_anyone.errors import InputError
from animate_anyone.perception.backends import load_network, load_processor
from animate_anyone.structures import ObjectMark, Picture, Size

Detector = Callable[[Picture, list[str]], list[tuple[str, float, Box]]]
"""A picture and names in; found name, score in [0, 1], and box (left, top, right, bottom, pixels) out."""


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
        for number in spread(len(frames), self._looks):
            size = (frames[number].shape[1], frames[number].shape[0])
            for name, score, box in self._detect(frames[number], self._names):
                inside = _inside(box, size)
                if name in self._names and inside and self._least <= score and score > best.get(name, (0.0,))[0]:
                    best[name] = (score, ObjectMark(name, number, inside))
        return [best[name][1] for name in self._names if name in best]


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


def _named(label: str, names: list[str]) -> str:
    """Which of the names a label of Grounding DINO means: it may give parts of a name, or several."""
    words = set(label.lower().split())
    return max(names, key=lambda name: (name == label.lower(), len(words & set(name.split()))))


def spread(frames: int, looks: int) -> list[int]:
    """Numbers of at most ``looks`` frames, evenly over the clip, the middle one if only one."""
    return sorted({int((index + 0.5) * frames / looks) for index in range(looks)})


def _inside(box: Box, size: Size) -> Box | None:
    left, top, right, bottom = (float(np.clip(v, 0, limit)) for v, limit in zip(box, size * 2, strict=True))
    return (left, top, right, bottom) if left < right and top < bottom else None
