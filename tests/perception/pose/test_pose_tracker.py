"""Attempts at one picture, and following a person, with an estimator that is made up."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.perception.pose.picture_attempts import Attempt, attempts, best_pose, closer
from animate_anyone.perception.pose.pose_tracker import PoseTracker, look_thoroughly
from animate_anyone.perception.pose.single_pose import MIRROR, Pose, nobody, plausibility, seen
from animate_anyone.structures import BODY, FACE, LEFT_HAND, RIGHT_HAND
from people import person

SIZE = (400, 600)


def pose_at(x: float = 200, y: float = 120, torso: float = 120) -> Pose:
    made = person(size=SIZE, torso=torso, neck=(x, y))
    return made.keypoints[0], made.scores[0], np.zeros(128, np.float32)


def picture(pose: Pose) -> NDArray[np.uint8]:
    """Two marks, red on the right shoulder and green on the left hip, tell where the person is."""
    shown = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    for joint, colour in (("right_shoulder", (255, 0, 0)), ("left_hip", (0, 255, 0))):
        x, y = pose[0][JOINT[joint]].astype(int)
        shown[y - 4 : y + 5, x - 4 : x + 5] = colour
    return shown


def find(shown: NDArray[np.uint8]) -> Pose | None:
    """An estimator: measures the person from the two marks, in pixels of what it is shown."""
    spots = []
    for channel in (0, 1):
        rows, columns = np.nonzero((shown[..., channel] > 200) & (shown.min(axis=-1) < 60))
        if not len(rows):
            return None
        spots.append(np.array([columns.mean() + 0.5, rows.mean() + 0.5]))
    model = person(torso=1, neck=(0, 0)).keypoints[0].astype(np.float64)
    shoulder, hip = model[JOINT["right_shoulder"]], model[JOINT["left_hip"]]
    across = spots[1] - spots[0]
    scale = np.linalg.norm(across) / np.linalg.norm(hip - shoulder)
    if across[0] < 0:  # a mirrored person: right and left look exchanged to an estimator
        points = (model * [-1, 1] - shoulder * [-1, 1]) * scale + spots[0]
        points = points[MIRROR]
    else:
        points = (model - shoulder) * scale + spots[0]
    return points.astype(np.float32), np.ones(128, np.float32), np.zeros(128, np.float32)


def look(attempt: Attempt) -> Attempt:
    found = find(attempt.picture)
    return attempt if found is None else attempt.with_pose(*found)


def test_every_attempt_leads_back_to_the_same_pose() -> None:
    """Padded, cropped, scaled and mirrored: in pixels of the original all agree."""
    truth = pose_at()
    shown = picture(truth)
    tried = [look(a) for a in attempts(shown)] + [look(a) for a in attempts(shown, around=truth)]
    assert len(tried) == 11 and sum(a.mirrored for a in tried) == 4
    for attempt in tried:
        assert attempt.pose is not None
        np.testing.assert_allclose(attempt.pose[0], truth[0], atol=2.5)


def test_mirroring_twice_is_nothing() -> None:
    order = np.arange(128)
    np.testing.assert_array_equal(order[MIRROR][MIRROR], order)
    assert MIRROR[JOINT["left_knee"]] == JOINT["right_knee"] and MIRROR[JOINT["nose"]] == JOINT["nose"]
    assert MIRROR[LEFT_HAND.start + 8] == RIGHT_HAND.start + 8
    assert MIRROR[FACE.start] == FACE.start + 16 and MIRROR[FACE.start + 36] == FACE.start + 45


def test_the_pose_that_others_bear_out_wins() -> None:
    """A confident mistake against three modest ones that agree."""
    shown = np.zeros((600, 400, 3), np.uint8)
    wrong = pose_at(90, 300, 60)
    right = [(points + i, scores * np.float32(0.9), depth) for i, (points, scores, depth) in enumerate([pose_at()] * 3)]
    best = best_pose([Attempt(shown, 600, pose=pose) for pose in (wrong, *right)])
    assert best is not None
    assert np.abs(best[0] - pose_at()[0]).max() < 4


def test_a_missing_hand_is_taken_from_an_attempt_that_agrees() -> None:
    shown = np.zeros((600, 400, 3), np.uint8)
    points, scores, depth = pose_at()
    one_handed = scores.copy()
    one_handed[LEFT_HAND] = 0
    other = points + 3, scores * np.float32(0.8), depth
    best = best_pose([Attempt(shown, 600, pose=p) for p in ((points, one_handed, depth), other)])
    assert best is not None and best[1][LEFT_HAND].min() > 0.3
    np.testing.assert_allclose(best[0][LEFT_HAND], other[0][LEFT_HAND])


def test_an_upside_down_body_under_a_face_is_less_plausible() -> None:
    points, scores, depth = pose_at()
    flipped = points.copy()
    flipped[BODY, 1] = 2 * points[JOINT["nose"], 1] - points[BODY, 1]
    assert plausibility((flipped, scores, depth)) < 0.8 * plausibility((points, scores, depth))


def test_nobody_is_nobody() -> None:
    assert seen(*nobody()) is None
    assert look_thoroughly(np.zeros((600, 400, 3), np.uint8), look) is None


def test_a_closer_look_leaves_the_picture_where_the_person_does() -> None:
    shown = picture(pose_at())
    cut = closer(shown, pose_at(20, 120), 0.3)
    assert cut.corner[0] < 0 and cut.picture.shape[0] > 0.5 * cut.picture.shape[1]


class Slipping:
    """Follows well, but from frame 5 on is locked onto nonsense until it is restarted."""

    def __init__(self) -> None:
        self.frame, self.locked, self.restarts, self.looks = 0, False, 0, 0

    def track(self, shown: NDArray[np.uint8]) -> Pose | None:
        self.frame += 1
        self.locked |= self.frame == 6
        return pose_at(60, 480, 30) if self.locked else find(shown)

    def look(self, attempt: Attempt) -> Attempt:
        self.looks += 1
        return look(attempt)

    def restart(self) -> None:
        self.restarts += 1
        self.locked = False


def test_a_slip_is_noticed_and_mended() -> None:
    estimator = Slipping()
    tracker = PoseTracker(estimator.track, estimator.look, estimator.restart)
    for number in range(12):
        truth = pose_at(180 + 2 * number)
        found = tracker.next(picture(truth))
        assert found is not None
        assert np.abs(found[0] - truth[0]).max() < 3, f"frame {number}"
    assert estimator.restarts == 1
    assert estimator.looks == 12  # eleven at the first frame, one at the slip


def test_a_cut_is_followed() -> None:
    estimator = Slipping()
    estimator.frame = 100
    tracker = PoseTracker(estimator.track, estimator.look, estimator.restart)
    places = [120] * 8 + [290] * 8
    found = [tracker.next(picture(pose_at(x, torso=100))) for x in places]
    for x, pose in zip(places, found, strict=True):
        assert pose is not None
        assert pose[0][JOINT["neck"], 0] == pytest.approx(x, abs=4)


class Approaching(Slipping):
    """Sees the person too low, the less the more often it has looked there."""

    def __init__(self) -> None:
        super().__init__()
        self.off = 8.0

    def track(self, shown: NDArray[np.uint8]) -> Pose | None:
        self.off /= 4
        return self._off(find(shown), self.off)

    def look(self, attempt: Attempt) -> Attempt:
        found = self._off(find(attempt.picture), 8.0)
        return attempt if found is None else attempt.with_pose(*found)

    @staticmethod
    def _off(pose: Pose | None, off: float) -> Pose | None:
        return None if pose is None else (pose[0] + np.float32([0, off]), *pose[1:])


def test_the_first_frame_is_seen_as_those_after_it() -> None:
    estimator = Approaching()
    tracker = PoseTracker(estimator.track, estimator.look, estimator.restart)
    found = [tracker.next(picture(pose_at())) for _ in range(6)]
    heights = [pose[0][JOINT["left_hip"], 1] for pose in found if pose is not None]
    assert len(heights) == 6 and np.ptp(heights) < 0.5


def test_a_tracker_that_comes_to_rest_elsewhere_is_not_believed() -> None:
    estimator = Slipping()
    estimator.frame = 5
    tracker = PoseTracker(estimator.track, estimator.look, estimator.restart)
    found = tracker.next(picture(pose_at()))
    assert found is not None and np.abs(found[0] - pose_at()[0]).max() < 3


def test_an_empty_clip_is_not_searched_thoroughly_every_frame() -> None:
    estimator = Slipping()
    estimator.frame = 100
    tracker = PoseTracker(estimator.track, estimator.look, estimator.restart)
    empty = np.full((600, 400, 3), 90, np.uint8)
    assert all(tracker.next(empty) is None for _ in range(18))
    assert estimator.looks <= 3 * 5
