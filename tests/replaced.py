"""Eyes that know the truth of ``dancers``: who is where in ``dance.mp4`` and ``me.png``, without a network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from animate_anyone.perception.person.mask_checks import NOBODY
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import BODY, MaskTrack, PoseSequence
from animate_anyone.system.frame_sequence import FrameSequence
from animate_anyone.workflows import source_video
from animate_anyone.workflows.scene_conditions import SceneConditions


class Truth:
    """A pose estimator that knows the poses of the dance; nobody is in the frames of ``empty``."""

    def __init__(self, folder: Path, empty: tuple[int, ...] = ()) -> None:
        self.dance, self.me = (PoseSequence.load(folder / f"{name}.npz") for name in ("dance", "me"))
        scores = self.dance.scores.copy()
        scores[list(empty)] = 0
        self.dance = replace(self.dance, scores=scores)

    def estimate(self, frames: Any, size: Any, fps: Any, times: Any = None, progress: Any = SILENT) -> PoseSequence:
        assert size == self.dance.size
        return self.dance[: len(frames)]

    def estimate_picture(self, picture: NDArray[np.uint8]) -> PoseSequence | None:
        return self.me if picture.shape[1::-1] == self.me.size else self.dance[2:3]


class Boxes:
    """A masker that masks the box around the joints, and flags frame 3."""

    def mask(self, frames: Iterable[Any], pose: PoseSequence, progress: Progress = SILENT) -> MaskTrack:
        masks = np.zeros((len(pose), *pose.size[::-1]), bool)
        flagged: list[tuple[int, str]] = []
        for number in range(len(pose)):
            seen = pose.keypoints[number, BODY][pose.scores[number, BODY] > 0.3]
            if not len(seen):
                flagged.append((number, NOBODY))
                continue
            (left, top), (right, bottom) = seen.min(0).astype(int), seen.max(0).astype(int)
            masks[number, max(top, 0) : bottom, max(left, 0) : right] = True
        return MaskTrack(masks, "person", (*flagged, (3, "mask jumps")))


def as_arrays(conditions: SceneConditions) -> SceneConditions:
    """The same, all frames of each kind as one array."""
    sequences = {name: value for name, value in vars(conditions).items() if isinstance(value, FrameSequence)}
    return replace(conditions, **{name: np.asarray(value) for name, value in sequences.items()})


def look_with(monkeypatch: pytest.MonkeyPatch, folder: Path, empty: tuple[int, ...] = ()) -> None:
    """Have ``replace`` see the truth; nobody is in the frames of ``empty``."""
    monkeypatch.setattr(source_video, "load_estimator", lambda name, **options: Truth(folder, empty))
    monkeypatch.setattr(source_video, "load_masker", lambda name, **options: Boxes())
