"""When a pose is a person's, runs of frames, and the times of a sequence."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from animate_anyone.conditions.frame_ranges import ranges, runs
from animate_anyone.conditions.skeleton import MIN_BODY_POINTS, MIN_SCORE, is_person
from animate_anyone.structures import NUM_KEYPOINTS, PoseSequence


def test_enough_points_of_the_body_make_a_person() -> None:
    scores = np.zeros((3, NUM_KEYPOINTS), np.float32)
    scores[0, :MIN_BODY_POINTS] = MIN_SCORE
    scores[1, : MIN_BODY_POINTS - 1] = 1
    scores[1, 18:] = 1  # hands and face do not count
    assert is_person(scores).tolist() == [True, False, False]
    assert is_person(scores[0]) and not is_person(scores[1])


def test_runs_and_ranges() -> None:
    found = runs(np.array([True, False, True, True]))
    assert found == [(0, 1), (2, 4)] and ranges(found) == "0, 2-3"
    assert runs(np.zeros(0, bool)) == []


def test_seconds_are_the_times_or_even() -> None:
    points, scores = np.zeros((2, NUM_KEYPOINTS, 2), np.float32), np.zeros((2, NUM_KEYPOINTS), np.float32)
    assert PoseSequence(points, scores, (8, 8), Fraction(4)).seconds.tolist() == [0, 0.25]
    assert PoseSequence(points, scores, (8, 8), Fraction(4), np.array([0, 0.5])).seconds.tolist() == [0, 0.5]
