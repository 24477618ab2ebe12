"""From MediaPipe's landmarks to our 128 points; MediaPipe itself is not needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.skeleton import BODY_JOINTS, JOINT
from animate_anyone.perception.pose.mediapipe_layout import FACE_68, Landmarks, to_pose
from animate_anyone.structures import BODY, FACE, LEFT_HAND, RIGHT_HAND

SIZE = (200, 400)
# MediaPipe's own names of its body landmarks, in order.
NAMES = (
    "nose",
    "left_eye_inner",
    "left_eye",
    "left_eye_outer",
    "right_eye_inner",
    "right_eye",
    "right_eye_outer",
    "left_ear",
    "right_ear",
    "mouth_left",
    "mouth_right",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_pinky",
    "right_pinky",
    "left_index",
    "right_index",
    "left_thumb",
    "right_thumb",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
    "left_heel",
    "right_heel",
    "left_foot_index",
    "right_foot_index",
)


def body() -> NDArray[np.float64]:
    """Facing us: the person's left is on the picture's right."""
    landmarks = np.zeros((33, 4))
    for number, name in enumerate(NAMES):
        side = 0.1 if name.startswith("left") else -0.1 if name.startswith("right") else 0.0
        row = (
            0.1 if number < 11 else 0.3 if "shoulder" in name else 0.45 if number < 23 else 0.6 if number < 25 else 0.9
        )
        landmarks[number] = 0.5 + side, row + 0.001 * number, 0.01 * number, 0.9
    return landmarks


def face() -> NDArray[np.float64]:
    mesh = np.random.default_rng(0).uniform(-0.03, 0.03, (468, 3)) + np.array([0.5, 0.12, 0.0])
    mesh[4] = (0.5, 0.11, -0.02)
    return mesh


def hand(wrist: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linspace(wrist[:3], wrist[:3] + np.array([0.05, 0.05, 0.02]), 21)


def test_every_joint_comes_from_its_namesake() -> None:
    landmarks = body()
    points, scores, depth = to_pose(Landmarks(landmarks), SIZE)
    for joint in BODY_JOINTS:
        if joint != "neck":
            source = landmarks[NAMES.index(joint)]
            np.testing.assert_allclose(points[JOINT[joint]], source[:2] * SIZE, rtol=1e-5, err_msg=joint)
            np.testing.assert_allclose(depth[JOINT[joint]], source[2] * 200 / 400, rtol=1e-5)
    assert (scores[BODY] == np.float32(0.9)).all() and (scores[18:] == 0).all()


def test_the_neck_is_between_the_shoulders_and_as_sure_as_the_worse_one() -> None:
    landmarks = body()
    landmarks[NAMES.index("left_shoulder"), 3] = 0.4
    points, scores, _ = to_pose(Landmarks(landmarks), SIZE)
    pair = points[[JOINT["left_shoulder"], JOINT["right_shoulder"]]]
    np.testing.assert_allclose(points[JOINT["neck"]], pair.mean(0))
    assert scores[JOINT["neck"]] == np.float32(0.4)


def test_hands_belong_to_their_wrists() -> None:
    landmarks = body()
    left, right = landmarks[NAMES.index("left_wrist")], landmarks[NAMES.index("right_wrist")]
    points, scores, depth = to_pose(Landmarks(landmarks, left_hand=hand(left), right_hand=hand(right)), SIZE)
    np.testing.assert_allclose(points[LEFT_HAND.start], points[JOINT["left_wrist"]], rtol=1e-5)
    np.testing.assert_allclose(points[RIGHT_HAND.start], points[JOINT["right_wrist"]], rtol=1e-5)
    np.testing.assert_allclose(depth[LEFT_HAND.start], depth[JOINT["left_wrist"]], rtol=1e-5)
    assert scores[LEFT_HAND].min() > 0.3

    astray = hand(left) + np.array([0.4, -0.4, 0])
    _, scores, _ = to_pose(Landmarks(landmarks, left_hand=astray), SIZE)
    assert (scores[LEFT_HAND] == 0).all()


def test_face_points_and_the_head_follow_the_mesh() -> None:
    mesh = face()
    points, scores, _ = to_pose(Landmarks(body(), face=mesh), SIZE)
    np.testing.assert_allclose(points[FACE], mesh[FACE_68, :2] * SIZE, rtol=1e-5)
    assert scores[FACE].min() > 0.3
    np.testing.assert_allclose(points[JOINT["nose"]], points[FACE][30])
    np.testing.assert_allclose(points[JOINT["right_eye"]], points[FACE][36:42].mean(0), rtol=1e-5)
    _, scores, _ = to_pose(Landmarks(body(), face=mesh + np.array([0.4, 0.5, 0])), SIZE)
    assert (scores[FACE] == 0).all()


def test_68_different_vertices_right_before_left() -> None:
    assert len(set(FACE_68.tolist())) == 68
    assert {33, 133} <= set(FACE_68[36:42].tolist())  # corners of the right eye
    assert {263, 362} <= set(FACE_68[42:48].tolist())  # of the left


def test_seen_from_behind_there_are_no_eyes() -> None:
    turned = body()
    turned[:, 0] = 1 - turned[:, 0]
    _, scores, _ = to_pose(Landmarks(turned), SIZE)
    hidden = [JOINT[name] for name in ("nose", "right_eye", "left_eye")]
    assert (scores[hidden] == 0).all() and scores[JOINT["right_ear"]] > 0.3


def test_points_far_outside_the_frame_are_not_there() -> None:
    landmarks = body()
    landmarks[NAMES.index("left_ankle"), 1] = 1.2
    landmarks[NAMES.index("right_ankle"), 1] = 1.02
    _, scores, _ = to_pose(Landmarks(landmarks), SIZE)
    assert scores[JOINT["left_ankle"]] == 0 and scores[JOINT["right_ankle"]] > 0.3


def test_nobody() -> None:
    _, scores, _ = to_pose(Landmarks(), SIZE)
    assert (scores == 0).all()
