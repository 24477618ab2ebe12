"""The pose of one person in one frame, before frames become a sequence: what it is, how good it looks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import unscored_torso_length
from animate_anyone.conditions.skeleton import BODY_JOINTS, BODY_LIMBS, JOINT, is_person
from animate_anyone.structures import BODY, FACE, LEFT_HAND, NUM_KEYPOINTS, RIGHT_HAND

Pose = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""Points ``(128, 2)`` in pixels of the frame, scores ``(128,)``, depth ``(128,)`` in its heights."""


def nobody() -> Pose:
    """The pose of nobody: all scores 0."""
    return (
        np.zeros((NUM_KEYPOINTS, 2), np.float32),
        np.zeros(NUM_KEYPOINTS, np.float32),
        np.zeros(NUM_KEYPOINTS, np.float32),
    )


def seen(points: NDArray[np.float32], scores: NDArray[np.float32], depth: NDArray[np.float32]) -> Pose | None:
    """The pose, or ``None`` where too little of the body is seen to call it somebody."""
    return (points, scores, depth) if is_person(scores) else None


def plausibility(pose: Pose) -> float:
    """In [0, 1]: how well the body is seen, and whether its proportions can be a body's."""
    points, scores, _ = pose
    body = points[BODY]
    torso = unscored_torso_length(points)
    lengths = np.array([np.hypot(*(body[a] - body[b])) for a, b in BODY_LIMBS]) / torso
    sound = np.mean(lengths < 1.8)
    if scores[FACE].max() > 0 and body[JOINT["nose"], 1] > body[[JOINT["right_hip"], JOINT["left_hip"]], 1].mean():
        sound *= 0.7  # standing on the head is rarer than a mistake
    pairs = [((2, 3), (5, 6)), ((3, 4), (6, 7)), ((8, 9), (11, 12)), ((9, 10), (12, 13))]
    even = [
        min(one, other) / max(one, other, 1e-6)
        for one, other in ((np.hypot(*(body[a] - body[b])), np.hypot(*(body[c] - body[d]))) for (a, b), (c, d) in pairs)
    ]
    return float(scores[BODY].mean() * sound * (0.7 + 0.3 * np.mean(even)))


def _mirror_order() -> NDArray[np.intp]:
    order = np.arange(NUM_KEYPOINTS)
    for name in BODY_JOINTS:
        if name.startswith("left_"):
            left, right = JOINT[name], JOINT["right_" + name.removeprefix("left_")]
            order[left], order[right] = right, left
    order[LEFT_HAND], order[RIGHT_HAND] = np.arange(NUM_KEYPOINTS)[RIGHT_HAND], np.arange(NUM_KEYPOINTS)[LEFT_HAND]
    face = [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1)]
    face += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]  # eyes
    face += [*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)]  # lips
    order[FACE] = np.array(face) + FACE.start
    return order


MIRROR = _mirror_order()
"""The order of the points in a mirrored frame: left and right exchanged."""
