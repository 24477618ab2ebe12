"""Several people, with a stand-in that sees the largest body in its picture."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.errors import InputError
from animate_anyone.perception.people import find_people, poses_of
from animate_anyone.perception.protocol import PoseEstimator
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import PoseSequence
from people import person

SIZE = (400, 200)
COLOURS = (200, 120)


def frame(places: Iterable[tuple[float, float]]) -> NDArray[np.uint8]:
    """People as bars from neck to ankles, one grey each, at ``(x, torso)``."""
    picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    for grey, (x, torso) in zip(COLOURS, places, strict=False):
        picture[20 : int(20 + 2.7 * torso), int(x - 3) : int(x + 3)] = grey
    return picture


class OneAtATime:
    """Sees the largest bar of a known grey."""

    def estimate_picture(self, picture: NDArray[np.uint8]) -> PoseSequence | None:
        found = []
        for grey in COLOURS:
            rows, columns = np.nonzero(picture[..., 0] == grey)
            if len(rows) > 30:
                torso = (rows.max() + 1 - rows.min()) / 2.7
                pose = person(1, picture.shape[1::-1], torso=torso, neck=(columns.mean(), rows.min()))
                found.append((torso, pose))
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def estimate(
        self,
        frames: Iterable[NDArray[np.uint8]],
        size: tuple[int, int],
        fps: Fraction,
        times: NDArray[np.float64] | None = None,
        progress: Progress = SILENT,
    ) -> PoseSequence:
        poses = [self.estimate_picture(picture) for picture in frames]
        nobody = person(1, size)
        points = np.concatenate([(pose or nobody).keypoints for pose in poses])
        scores = np.stack([np.full(128, pose is not None, np.float32) for pose in poses])
        return PoseSequence(points, scores, size, fps, times)


def test_people_are_found_one_after_the_other_the_largest_first() -> None:
    assert isinstance(OneAtATime(), PoseEstimator)
    found = find_people(frame([(300, 30), (100, 50)]), OneAtATime())
    assert [round(pose.keypoints[0, JOINT["neck"], 0]) for pose in found] == [100, 300]
    assert find_people(frame([]), OneAtATime()) == []


def test_the_smaller_one_is_followed_as_it_walks() -> None:
    frames = [frame([])] * 0 + [frame([(100 + 2 * i, 50), (300 - 3 * i, 30)]) for i in range(24)]
    pose = poses_of(frames, Fraction(12), OneAtATime(), person=1)
    necks = pose.keypoints[:, JOINT["neck"], 0]
    np.testing.assert_allclose(necks[:18], 300 - 3 * np.arange(18), atol=2)
    largest = poses_of(frames, Fraction(12), OneAtATime())
    np.testing.assert_allclose(largest.keypoints[:, JOINT["neck"], 0], 100 + 2 * np.arange(24), atol=2)


def test_mistakes_are_told_in_one_line() -> None:
    frames = [frame([(100, 50)])] * 3
    with pytest.raises(InputError, match="--person 1: 1 people were found in frame 0"):
        poses_of(frames, Fraction(12), OneAtATime(), person=1)
    with pytest.raises(InputError, match="no person -1"):
        poses_of(frames, Fraction(12), OneAtATime(), person=-1)
    with pytest.raises(InputError, match="no frames"):
        poses_of([], Fraction(12), OneAtATime())
