"""Poses for frames in which nobody is seen, and whether poses lie outside the frame.

For a frame without a pose a model repeats the reference picture. So the last pose is held there, and blended into the
next one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.frame_ranges import runs
from animate_anyone.conditions.skeleton import MIN_SCORE, is_person
from animate_anyone.structures import BODY, PoseSequence

BLEND_SECONDS = 0.5
"""How long the held pose takes to become the next one, at most."""

_MOST = 0.5  # share of the joints that are seen


def hold(pose: PoseSequence, blend: float = BLEND_SECONDS) -> tuple[PoseSequence, tuple[tuple[int, int], ...]]:
    """Give the frames without a person a pose.

    Between two poses the first is held, and in the last ``blend`` seconds, or all the time where that is less, it goes
    over to the second; before the first pose of all and after the last that one is held. A joint that only one of the
    two has goes along with the joints that both have, and is there in that one's half of the time.

    Returns:
        The poses, and half-open ranges of frames ``(first, stop)`` that were given one; none where nobody is seen at
        all.
    """
    empty = ~is_person(pose.scores)
    held = tuple(runs(empty))
    if not held or empty.all():
        return pose, ()
    times = pose.seconds
    points, scores = pose.keypoints.copy(), pose.scores.copy()
    depth = None if pose.depth is None else pose.depth.copy()
    planes = [points, *([] if depth is None else [depth[..., None]])]  # views: written in place
    for first, stop in held:
        before, after = first - 1, stop
        if before < 0 or after == len(pose):
            kept = after if before < 0 else before
            for plane in (*planes, scores):
                plane[first:stop] = plane[kept]
            continue
        lasts = min(blend, float(times[after] - times[before]))
        share = np.clip(1 - (times[after] - times[first:stop]) / max(lasts, 1e-9), 0, 1)
        share = share**2 * (3 - 2 * share)  # starts and ends slowly
        ends = scores[[before, after]] >= MIN_SCORE
        late = share[:, None] >= 0.5
        scores[first:stop] = np.where(
            ends.all(axis=0),
            (1 - share[:, None]) * scores[before] + share[:, None] * scores[after],
            np.where(late, scores[after] * ends[1], scores[before] * ends[0]),
        )
        for plane in planes:
            plane[first:stop] = _between(plane[before], plane[after], ends, share[:, None, None])
    return replace(pose, keypoints=points, scores=scores, depth=depth), held


def mostly_outside(pose: PoseSequence) -> NDArray[np.bool_]:
    """``(frames,)``: whether most of the body's joints that are seen lie outside the frame of ``pose.size``."""
    points, seen = pose.keypoints[:, BODY], pose.scores[:, BODY] >= MIN_SCORE
    outside = seen & ((points < 0) | (points > pose.size)).any(axis=-1)
    return np.asarray(outside.sum(axis=1) > _MOST * np.maximum(seen.sum(axis=1), 1))


def _between(
    one: NDArray[np.float32], other: NDArray[np.float32], ends: NDArray[np.bool_], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``(frames, points, d)`` from one pose ``(points, d)`` to the other; ``ends`` ``(2, points)``: what each has."""
    way = (other - one).astype(np.float64)
    both = ends.all(axis=0)
    common = way[both].mean(axis=0) if both.any() else np.zeros(way.shape[1])
    way[~both] = common
    start = np.where((ends[1] & ~ends[0])[:, None], other - common, one)
    return np.asarray(start + share * way)
