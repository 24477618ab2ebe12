"""Frames without a person get the pose before, which goes over to the next one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from animate_anyone.conditions.hold import BLEND_SECONDS, hold, mostly_outside
from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.structures import PoseSequence
from people import person

NECK, WRIST = JOINT["neck"], JOINT["left_wrist"]


def walking(frames: int, gone: list[int]) -> PoseSequence:
    """Somebody who goes 5 pixels a frame to the right, 24 frames a second, and is not seen in some frames."""
    pose = person(frames)
    points, scores = pose.keypoints.copy(), pose.scores.copy()
    points[..., 0] += 5 * np.arange(frames, dtype=np.float32)[:, None]
    scores[gone] = 0
    points[gone] = 0
    return replace(pose, keypoints=points, scores=scores, depth=np.zeros_like(scores))


def test_a_long_gap_is_held_and_goes_over() -> None:
    pose = walking(60, list(range(10, 50)))
    held, runs = hold(pose)
    assert runs == ((10, 50),)
    x = held.keypoints[:, NECK, 0]
    blend = round(BLEND_SECONDS * 24)
    assert np.allclose(x[10 : 51 - blend], x[9])
    assert (np.diff(x[50 - blend : 51]) > 0).all() and np.diff(x[9:52]).max() < 50  # no leap
    assert (held.scores[10:50] >= 0.3).all()
    seen = np.r_[0:10, 50:60]
    assert np.array_equal(held.keypoints[seen], pose.keypoints[seen])
    assert np.array_equal(held.scores[seen], pose.scores[seen])


def test_at_the_start_and_the_end_the_nearest_pose_is_held() -> None:
    pose = walking(30, [*range(8), *range(22, 30)])
    held, runs = hold(pose)
    assert runs == ((0, 8), (22, 30))
    assert np.array_equal(held.keypoints[:8], np.repeat(pose.keypoints[8:9], 8, 0))
    assert np.array_equal(held.keypoints[22:], np.repeat(pose.keypoints[21:22], 8, 0))


def test_a_joint_of_one_side_alone_goes_along() -> None:
    pose = walking(20, [8, 9, 10, 11])
    scores = pose.scores.copy()
    scores[:8, WRIST] = 0  # seen after the gap alone
    held, _ = hold(replace(pose, scores=scores))
    there = held.scores[8:12, WRIST] > 0
    assert there.tolist() == [False, False, True, True]
    apart = held.keypoints[:, WRIST, 0] - held.keypoints[:, NECK, 0]
    assert np.allclose(apart[10:12], apart[12])


def test_nothing_to_hold() -> None:
    pose = walking(5, [])
    assert hold(pose) == (pose, ())
    nobody = walking(5, list(range(5)))
    assert hold(nobody) == (nobody, ())


def test_most_joints_outside() -> None:
    pose = person(3, size=(400, 600))
    points = pose.keypoints.copy()
    points[1, :, 1] += 560
    points[2, :, 1] += 60
    assert mostly_outside(replace(pose, keypoints=points)).tolist() == [False, True, False]
