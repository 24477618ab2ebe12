"""A made-up person, so that every length and every movement is known."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.skeleton import BODY_JOINTS, JOINT
from animate_anyone.structures import BODY, FACE, LEFT_HAND, NUM_KEYPOINTS, RIGHT_HAND, PoseSequence

# Torso lengths from the neck, x to the picture's right; the person faces us.
_STANDING = {
    "nose": (0.0, -0.45),
    "neck": (0.0, 0.0),
    "right_shoulder": (-0.32, 0.0),
    "right_elbow": (-0.45, 0.52),
    "right_wrist": (-0.5, 1.0),
    "left_shoulder": (0.32, 0.0),
    "left_elbow": (0.45, 0.52),
    "left_wrist": (0.5, 1.0),
    "right_hip": (-0.18, 1.0),
    "right_knee": (-0.2, 1.88),
    "right_ankle": (-0.22, 2.7),
    "left_hip": (0.18, 1.0),
    "left_knee": (0.2, 1.88),
    "left_ankle": (0.22, 2.7),
    "right_eye": (-0.06, -0.5),
    "left_eye": (0.06, -0.5),
    "right_ear": (-0.14, -0.48),
    "left_ear": (0.14, -0.48),
}
BONE_OF = {  # joint: the joint it hangs on
    "nose": "neck",
    "right_elbow": "right_shoulder",
    "right_wrist": "right_elbow",
    "left_elbow": "left_shoulder",
    "left_wrist": "left_elbow",
    "right_knee": "right_hip",
    "right_ankle": "right_knee",
    "left_knee": "left_hip",
    "left_ankle": "left_knee",
}


def standing_points(legs: float = 1.0, arms: float = 1.0, shoulders: float = 1.0) -> NDArray[np.float64]:
    """``(128, 2)``, torso lengths from the neck, with limbs longer or shorter by these factors."""
    body = {name: np.array(place) for name, place in _STANDING.items()}
    for name, place in _STANDING.items():
        factor = legs if name.endswith(("knee", "ankle")) else arms if name.endswith(("elbow", "wrist")) else None
        if factor is not None:
            body[name] = body[BONE_OF[name]] + factor * (np.array(place) - _STANDING[BONE_OF[name]])
    for side in ("right", "left"):
        aside = (shoulders - 1) * np.array(_STANDING[f"{side}_shoulder"])
        for joint in ("shoulder", "elbow", "wrist"):
            body[f"{side}_{joint}"] = body[f"{side}_{joint}"] + aside
    points = np.zeros((NUM_KEYPOINTS, 2))
    points[: len(BODY_JOINTS)] = [body[name] for name in BODY_JOINTS]
    fingers = np.array([(0.0, 0.0)] + [(0.03 * (f - 2), 0.06 * (j + 1)) for f in range(5) for j in range(4)])
    points[LEFT_HAND] = body["left_wrist"] + fingers
    points[RIGHT_HAND] = body["right_wrist"] + fingers * [-1, 1]
    turn = np.linspace(0, np.pi, 17)
    face = np.zeros((68, 2))
    face[:17] = np.stack([-0.15 * np.cos(turn), 0.2 * np.sin(turn)], axis=1)
    face[17:] = np.random.default_rng(0).uniform(-0.1, 0.1, (51, 2))
    face[27] = (0, -0.06)
    points[FACE] = body["nose"] + face
    return points


def person(
    frames: int = 1,
    size: tuple[int, int] = (400, 600),
    torso: float = 120.0,
    neck: tuple[float, float] = (200.0, 120.0),
    fps: int = 24,
    **shape: float,
) -> PoseSequence:
    """Somebody who stands still; ``shape`` as in :func:`standing_points`."""
    points = standing_points(**shape) * torso + np.array(neck)
    keypoints = np.repeat(points[None], frames, axis=0).astype(np.float32)
    return PoseSequence(keypoints, np.ones((frames, NUM_KEYPOINTS), np.float32), size, Fraction(fps))


def length(pose: PoseSequence, start: str, end: str) -> NDArray[np.float64]:
    """``(frames,)`` pixels between two joints."""
    return np.linalg.norm(pose.keypoints[:, JOINT[start]] - pose.keypoints[:, JOINT[end]], axis=-1)


class FoundEverywhere:
    """A pose estimator that finds the same person in every frame."""

    def estimate(self, frames, size, fps, times=None, progress=None) -> PoseSequence:  # type: ignore[no-untyped-def]
        count = len(list(frames))
        return replace(person(count).scaled_to(size), fps=fps, times=times)

    def estimate_picture(self, picture: NDArray[np.uint8]) -> PoseSequence:
        return person(1).scaled_to((picture.shape[1], picture.shape[0]))


def body_alone(pose: PoseSequence) -> PoseSequence:
    """The pose without hands and face."""
    scores = pose.scores.copy()
    scores[:, BODY.stop :] = 0
    return replace(pose, scores=scores)
