"""Flags masks of a person that may be wrong, from the skeleton and from the mask of the frame before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import frame_torso_length
from animate_anyone.conditions.skeleton import SURE_SCORE, is_person
from animate_anyone.structures import BODY, Mask, Masks, PoseSequence

NOBODY, SOMEBODY_ELSE, EMPTY, SPILLS, BESIDE, CUT, JUMPS, UNCOVERED = (
    "no person",
    "the pose was somebody else's, and was dropped,",
    "empty mask",
    "mask spills over the frame",
    "mask spills beside the person, it seems",
    "a part of the mask that stays with the background was cut off",
    "mask jumps",
    "mask does not cover the pose's joints",
)

_SMALLEST = 0.15  # of a torso's length squared: less is no mask of a body
_LARGEST = 6  # of a torso's length squared
_REACH = 0.8  # torso lengths from the joints to where hair, clothes and feet may end
_SPILL = 0.1  # share of the mask beyond
_OVERLAP = 0.55  # with the mask before, moved along with the body
_COVERED = 0.75  # share of the joints on the mask, or near it
_NEAR = 0.1  # torso lengths


def flag_masks(masks: Masks, pose: PoseSequence) -> tuple[tuple[int, str], ...]:
    """``(frame, reason)`` for each mask that may be wrong, ``(frames, height, width)`` in pixels of ``pose.size``."""
    flagged: list[tuple[int, str]] = []
    before: int | None = None
    for frame, mask in enumerate(masks):
        points, scores = pose.keypoints[frame], pose.scores[frame]
        if not is_person(scores):
            flagged.append((frame, NOBODY))
            before = None
            continue
        torso = frame_torso_length(points, scores)
        area = int(mask.sum())
        if area < min(_SMALLEST * torso**2, _SMALLEST * mask.size):
            flagged.append((frame, EMPTY))
            before = None
            continue
        if area > _LARGEST * torso**2 or _beyond(mask, points, scores, torso) > _SPILL * area:
            flagged.append((frame, SPILLS))
        if before is not None and _overlap(masks[before], mask, _moved(pose, before, frame)) < _OVERLAP:
            flagged.append((frame, JUMPS))
        if _covered(mask, points, scores, torso) < _COVERED:
            flagged.append((frame, UNCOVERED))
        before = frame
    return tuple(flagged)


def _beyond(mask: Mask, points: NDArray, scores: NDArray, torso: float) -> int:
    """Pixels of the mask outside the box of the points that are seen, widened by what clothes may need."""
    seen = np.flatnonzero(scores >= SURE_SCORE)
    if not len(seen):
        return 0
    body = seen[seen < BODY.stop]
    low, high = points[seen].min(axis=0) - _REACH * torso, points[seen].max(axis=0) + _REACH * torso
    if not any(scores[joint] >= SURE_SCORE for joint in (9, 10, 12, 13)) and len(body):
        high[1] = mask.shape[0]  # legs below the edge, or hidden: no lower end is known
    left, top = (int(max(v, 0)) for v in low)
    right, bottom = (int(max(np.ceil(v), 0)) for v in high)
    return int(mask.sum() - mask[top:bottom, left:right].sum())


def _moved(pose: PoseSequence, before: int, now: int) -> NDArray[np.int_]:
    """Pixels ``(x, y)`` that the body as a whole has moved."""
    both = np.minimum(pose.scores[before], pose.scores[now])[BODY] >= SURE_SCORE
    if not both.any():
        return np.zeros(2, int)
    return np.rint(np.median((pose.keypoints[now] - pose.keypoints[before])[BODY][both], axis=0)).astype(int)


def _overlap(before: Mask, now: Mask, moved: NDArray[np.int_]) -> float:
    """Intersection over union after moving ``before``; what moves in from outside the frame is left out."""
    height, width = now.shape
    x, y = (int(v) for v in moved)
    if abs(x) >= width or abs(y) >= height:
        return 0.0
    then = before[max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)]
    here = now[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)]
    return float((then & here).sum() / max((then | here).sum(), 1))


def _covered(mask: Mask, points: NDArray, scores: NDArray, torso: float) -> float:
    """Share of the body's surely seen points in the frame that lie on the mask, or near it."""
    height, width = mask.shape
    sure = points[BODY][scores[BODY] >= SURE_SCORE]
    inside = [p for p in sure if 0 <= p[0] < width and 0 <= p[1] < height]
    if not inside:
        return 1.0
    near = max(round(_NEAR * torso), 1)
    hits = [
        mask[max(int(y) - near, 0) : int(y) + near + 1, max(int(x) - near, 0) : int(x) + near + 1].any()
        for x, y in inside
    ]
    return float(np.mean(hits))
