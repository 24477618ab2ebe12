"""A video with two people decomposed: pose and mask are of the one who was asked for; the rest is reported."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

import replaced
from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.perception.person.mask_checks import SOMEBODY_ELSE
from animate_anyone.workflows.source_video import Networks, decompose
from bars import SIZE, RightmostFirst, picture_of

pytest.importorskip("cv2", reason='OpenCV comes with MediaPipe: pip install "animate-anyone[pose]"')


@dataclass(frozen=True)
class Video:
    """As much of a driver as is looked at: people as bars in their clothes at ``places``, one row a frame."""

    places: list[tuple[float | None, ...]]
    fps: Fraction = Fraction(12)
    times: None = None
    size: tuple[int, int] = SIZE

    def __len__(self) -> int:
        return len(self.places)

    def result_frames(self, kept: int | None = None) -> list[NDArray[np.uint8]]:
        return [picture_of(places) for places in self.places]


def test_pose_and_mask_are_of_the_larger_one_though_the_estimator_prefers_the_other() -> None:
    here = [*range(6), *range(16, 24)]
    video = Video([(100.0 if n in here else None, 300.0) for n in range(24)])
    scene, lines = decompose(video, Networks(RightmostFirst(), replaced.Boxes()))  # type: ignore[arg-type]
    for number in here:
        assert abs(scene.pose.keypoints[number, JOINT["neck"], 0] - 100) < 8
        columns = np.flatnonzero(scene.person.masks[number].any(axis=0))
        assert 50 < columns.min() < columns.max() < 150
    gone = [number for number in range(24) if number not in here]
    assert not scene.person.masks[gone].any()
    assert [frame for frame, reason in scene.person.flagged if reason == SOMEBODY_ELSE] == gone
    assert "people in frame 0: 2; person 0 by size was taken; another: --person N" in lines
    numbers = ", ".join(map(str, here[1:]))
    assert f"poses: of somebody else at first, so looked for close to the person, in frame {numbers}" in lines
    numbers = ", ".join(map(str, gone))
    assert f"person: {SOMEBODY_ELSE} in frame {numbers}" in lines
    assert f"nobody to replace in frame {numbers}: the video's own frame stands there" in lines


def test_the_other_one_is_taken_where_that_is_asked_for() -> None:
    video = Video([(100.0 + n, 300.0) for n in range(12)])
    scene, lines = decompose(video, Networks(RightmostFirst(), replaced.Boxes()), person=1)  # type: ignore[arg-type]
    assert np.abs(scene.pose.keypoints[:, JOINT["neck"], 0] - 300).max() < 8
    assert scene.person.masks.any(axis=(1, 2)).all()
    assert "people in frame 0: 2; person 1 by size was taken; another: --person N" in lines
