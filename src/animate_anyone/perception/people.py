"""Several people in a video: who there is, by size, and the poses of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.perception.body_hull import body_hulls, body_length, is_person
from animate_anyone.perception.protocol import PoseEstimator
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import BODY, PoseSequence

_CHUNK_SECONDS = 0.5  # after so long the window is put around the person anew
_MARGIN = 0.7  # torso lengths around the joints
_SAME = 0.5  # torso lengths between the points of poses that are one person


def find_people(picture: NDArray[np.uint8], estimator: PoseEstimator, most: int = 4) -> list[PoseSequence]:
    """The people in a picture ``(height, width, 3)``, the largest first; each one pose, in its pixels.

    An estimator that sees one person at a time is shown the picture again with that one painted over.
    """
    shown = picture.copy()
    people: list[PoseSequence] = []
    for _ in range(most):
        pose = estimator.estimate_picture(shown)
        if pose is None or any(_same(pose, other) for other in people):
            break
        people.append(pose)
        _, maybe = body_hulls(pose.keypoints[0], pose.scores[0], pose.size)
        shown[maybe] = picture.reshape(-1, 3).mean(axis=0).astype(np.uint8)
    return sorted(people, key=lambda pose: -_size(pose))


def poses_of(
    frames: Sequence[NDArray[np.uint8]],
    fps: Fraction,
    estimator: PoseEstimator,
    person: int = 0,
    times: NDArray[np.float64] | None = None,
    progress: Progress = SILENT,
) -> PoseSequence:
    """The poses of one of several people: 0 is the largest in the first frame where anybody is, 1 the next.

    The estimator sees a window around the person, moved along every half second; somebody else who
    walks through it may be taken for the person. For 0 it sees the whole frames.

    Args:
        frames: ``(height, width, 3)`` uint8, RGB, all of one size.
        fps: nominal frame rate.
        estimator: any.
        person: number by size, from 0.
        times: as :class:`PoseSequence` has them.
        progress: shown how far it is.

    Raises:
        InputError: there are no frames, or not so many people.
    """
    if not len(frames):
        raise InputError("there are no frames to look for people in; give a video with 1 frame or more")
    size = (frames[0].shape[1], frames[0].shape[0])
    if person < 0:
        raise InputError(f"there is no person {person}; give --person 0 for the largest, 1 for the next")
    if person == 0:
        return estimator.estimate(frames, size, fps, times, progress)
    chunk = max(round(_CHUNK_SECONDS * float(fps)), 2)
    people: list[PoseSequence] = []
    start = 0
    for start in range(0, len(frames), chunk):
        people = find_people(frames[start], estimator)
        if people:
            break
    if person >= len(people):
        raise InputError(f"--person {person}: {len(people)} people were found in frame {start}; give 0 to the largest")

    here = people[person]
    points = np.zeros((len(frames), *here.keypoints.shape[1:]), np.float32)
    scores = np.zeros(points.shape[:2], np.float32)
    depth: NDArray[np.float32] | None = np.zeros(points.shape[:2], np.float32)
    for first in progress.track(range(start, len(frames), chunk), description="poses"):
        part = slice(first, min(first + chunk, len(frames)))
        left, top, right, bottom = _window(here, size)
        cut = [np.ascontiguousarray(frame[top:bottom, left:right]) for frame in frames[part]]
        found = estimator.estimate(cut, (right - left, bottom - top), fps)
        points[part], scores[part] = found.keypoints + np.array([left, top], np.float32), found.scores
        if found.depth is None or depth is None:
            depth = None
        else:
            depth[part] = found.depth * np.float32((bottom - top) / size[1])
        there = [index for index in range(len(found)) if is_person(found.scores[index])]
        if there:
            last = first + there[-1]
            here = PoseSequence(points[last : last + 1], scores[last : last + 1], size, fps)
    return PoseSequence(points, scores, size, fps, times, depth)


def _window(pose: PoseSequence, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom around a pose with a margin, inside the frame."""
    seen = pose.scores[0, BODY] >= 0.3
    points = pose.keypoints[0, BODY][seen]
    margin = _MARGIN * body_length(pose.keypoints[0], pose.scores[0])
    low, high = np.floor(points.min(axis=0) - margin), np.ceil(points.max(axis=0) + margin)
    left, top = (int(np.clip(v, 0, limit - 2)) for v, limit in zip(low, size, strict=True))
    right, bottom = (int(np.clip(v, start + 2, limit)) for v, start, limit in zip(high, (left, top), size, strict=True))
    return left, top, right, bottom


def _size(pose: PoseSequence) -> float:
    """Area of the box of the joints that are seen, pixels."""
    points = pose.keypoints[0, BODY][pose.scores[0, BODY] >= 0.3]
    return float(np.prod(np.ptp(points, axis=0))) if len(points) else 0.0


def _same(one: PoseSequence, other: PoseSequence) -> bool:
    both = np.minimum(one.scores[0], other.scores[0])[BODY] >= 0.3
    if not both.any():
        return False
    apart = np.linalg.norm((one.keypoints - other.keypoints)[0, BODY][both], axis=1)
    return bool(np.median(apart) < _SAME * body_length(other.keypoints[0], other.scores[0]))
