"""Two silhouettes around a skeleton: the least and the most that the body can cover; drawn by OpenCV."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import frame_torso_length
from animate_anyone.conditions.boxes import bounding_box
from animate_anyone.conditions.skeleton import JOINT, MIN_SCORE
from animate_anyone.perception.classical import cv2
from animate_anyone.structures import FACE, LEFT_HAND, RIGHT_HAND, Mask, PoseSequence, Size

# Half the width of a part that is body for sure, and that may be (clothes, hair), torso lengths.
_LIMBS: tuple[tuple[str, str, float, float], ...] = (
    ("neck", "shoulder", 0.08, 0.32),
    ("shoulder", "elbow", 0.05, 0.3),
    ("elbow", "wrist", 0.03, 0.27),
    ("hip", "knee", 0.07, 0.45),
    ("knee", "ankle", 0.04, 0.3),
)
_HEAD, _HAND, _FOOT = (0.16, 0.62), (0.0, 0.2), (0.0, 0.32)
_TRUNK_MARGIN = 0.34
_THICKEST = 32767  # OpenCV's limit of a line, pixels; points that were found far out of the frame may ask for more
_ABOUT_FACE = 2.5
"""Radius of a head with hair and hat, that of its face: children and drawn characters have heads of any size."""
_LARGEST_HEAD = 1.3  # its radius, torso lengths
_FACE_POINTS = 20  # of 68, that a face is measured by


def body_box(pose: PoseSequence, frame: int = 0) -> tuple[slice, slice] | None:
    """Rows and columns that a person is in by the skeleton alone, clothes and hair as most have them.

    Halfway between the boxes of :func:`body_hulls`; ``None`` where no body is seen.
    """
    hulls = body_hulls(pose.keypoints[frame], pose.scores[frame], pose.size)
    sure, maybe = (bounding_box(hull.astype(bool)) for hull in hulls)
    if sure is None or maybe is None:
        return None
    (above, left), (below, right) = (
        [round((getattr(a, end) + getattr(b, end)) / 2) for a, b in zip(sure, maybe, strict=True)]
        for end in ("start", "stop")
    )
    return slice(above, below), slice(left, right)


def body_hulls(points: NDArray[np.floating], scores: NDArray[np.float32], size: Size) -> tuple[Mask, Mask]:
    """Two masks ``(height, width)``: surely body, and everything that may be body.

    Args:
        points: ``(128, 2)`` pixels of ``size``.
        scores: ``(128,)``; points below ``MIN_SCORE`` are left out. Hips that are out of the frame are taken to
            be straight below the shoulders.
        size: ``(width, height)`` of the masks.
    """
    torso = frame_torso_length(points, scores)
    seen = {name: scores[joint] >= MIN_SCORE for name, joint in JOINT.items()}
    at = {name: np.asarray(points[joint], float) for name, joint in JOINT.items()}
    for side in ("right", "left"):
        if not seen[f"{side}_hip"] and seen[f"{side}_shoulder"]:
            other = "left" if side == "right" else "right"
            below = at[f"{side}_shoulder"] + [0, 1.1 * torso]
            if seen[f"{other}_hip"]:
                below = at[f"{other}_hip"] + 0.6 * (at[f"{side}_shoulder"] - at[f"{other}_shoulder"])
            at[f"{side}_hip"], seen[f"{side}_hip"] = below, True
    sure, maybe = np.zeros(size[::-1], np.uint8), np.zeros(size[::-1], np.uint8)

    def stroke(start: NDArray, end: NDArray, widths: tuple[float, float]) -> None:
        for canvas, width in zip((sure, maybe), widths, strict=True):
            if width > 0:
                ends = [tuple(int(v) for v in np.rint(np.clip(p, -4096, 4096))) for p in (start, end)]
                cv2.line(canvas, ends[0], ends[1], 1, _thickness(width * torso))

    for start, end, *widths in _LIMBS:
        for side in ("right", "left"):
            names = [name if name == "neck" else f"{side}_{name}" for name in (start, end)]
            if seen[names[0]] and seen[names[1]]:
                stroke(at[names[0]], at[names[1]], (widths[0], widths[1]))
    for side, hand in (("right", RIGHT_HAND), ("left", LEFT_HAND)):
        if seen[f"{side}_wrist"] and seen[f"{side}_elbow"]:
            tip = at[f"{side}_wrist"] + 0.45 * (at[f"{side}_wrist"] - at[f"{side}_elbow"])
            stroke(at[f"{side}_wrist"], tip, _HAND)
        if seen[f"{side}_ankle"]:
            stroke(at[f"{side}_ankle"], at[f"{side}_ankle"] + [0, 0.1 * torso], _FOOT)
        for finger in np.flatnonzero(scores[hand] >= MIN_SCORE):
            stroke(points[hand][finger], points[hand][finger], (0.025, _HAND[1]))
    head = [at[name] for name in ("nose", "right_ear", "left_ear", "right_eye", "left_eye") if seen[name]]
    if head:
        middle = np.mean(head, axis=0)
        stroke(middle, middle, _HEAD)
        if (face := _face(points, scores)) is not None:
            stroke(face[0], face[0], (0.0, min(_ABOUT_FACE * face[1] / torso, _LARGEST_HEAD)))
        if seen["neck"]:
            stroke(middle, at["neck"], (0.07, 0.3))
            up = (middle - at["neck"]) / max(float(np.hypot(*(middle - at["neck"]))), 1.0)
            stroke(middle, middle + 0.14 * torso * up, (0.13, 0.0))
    _trunk(sure, maybe, at, seen, torso)
    return sure > 0, maybe > 0


def _thickness(half: float) -> int:
    return min(max(round(2 * half), 1), _THICKEST)


def _face(points: NDArray[np.floating], scores: NDArray[np.float32]) -> tuple[NDArray[np.float64], float] | None:
    """Middle and radius of the points of a face, pixels; ``None`` where too few are seen."""
    seen = points[FACE][scores[FACE] >= MIN_SCORE].astype(np.float64)
    if len(seen) < _FACE_POINTS:
        return None
    middle = (seen.min(axis=0) + seen.max(axis=0)) / 2
    return middle, float(np.hypot(*(seen - middle).T).max())


def _trunk(
    sure: NDArray[np.uint8], maybe: NDArray[np.uint8], at: dict[str, NDArray], seen: dict[str, bool], torso: float
) -> None:
    """Fill shoulders to hips, and, for what may be, the gap between the legs as under a skirt or coat."""
    quad = ["right_shoulder", "left_shoulder", "left_hip", "right_hip"]
    if all(seen[name] for name in quad):
        corners = np.array([at[name] for name in quad])
        middle = corners.mean(axis=0)
        inner = np.rint(middle + 0.8 * (corners - middle)).astype(np.int32)
        cv2.fillConvexPoly(sure, cv2.convexHull(inner), 1)
        hull = cv2.convexHull(np.rint(corners).astype(np.int32))
        cv2.fillConvexPoly(maybe, hull, 1)
        cv2.polylines(maybe, [hull], True, 1, _thickness(_TRUNK_MARGIN * torso))
    legs = ["right_hip", "right_knee", "left_hip", "left_knee"]
    if all(seen[name] for name in legs):
        hull = cv2.convexHull(np.rint([at[name] for name in legs]).astype(np.int32))
        cv2.fillConvexPoly(maybe, hull, 1)
