"""Poses as OpenPose's JSON has them, one dictionary a frame, and back.

It is what ComfyUI's nodes hand on as ``POSE_KEYPOINT``, and what OpenPose itself writes, a file a frame::

    {"people": [{"pose_keypoints_2d": [x, y, score, x, y, score, ...], "face_keypoints_2d": [...],
                 "hand_left_keypoints_2d": [...], "hand_right_keypoints_2d": [...]}],
     "canvas_width": 512, "canvas_height": 768}

Coordinates are pixels of the canvas, or shares of it in [0, 1]: both are met. Points that were not found are
``0, 0, 0``; a part without any is ``None``, empty or left out. ComfyUI's nodes take a score below 1 for "not found", so
that 1 is written for every point that is seen. What that form has no place for (scores, depth, the frame rate) stands
under the name ``animate_anyone``, which others pass over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.skeleton import MIN_SCORE
from animate_anyone.errors import InputError, shortened
from animate_anyone.structures import (
    BODY,
    FACE,
    FASTEST,
    LEFT_HAND,
    NUM_KEYPOINTS,
    RIGHT_HAND,
    SLOWEST,
    PoseSequence,
    Size,
)

OWN = "animate_anyone"
"""Key of what OpenPose's form has no place for: of a frame ``fps``, of a person ``scores`` and ``depth``."""
PARTS = {
    "pose_keypoints_2d": BODY,
    "hand_left_keypoints_2d": LEFT_HAND,
    "hand_right_keypoints_2d": RIGHT_HAND,
    "face_keypoints_2d": FACE,
}
"""Key of a person -> its points among the 128."""
# OpenPose's layout BODY_25 has the middle of the hips at 8, and six points of the feet at the end.
_OF_25 = [*range(8), *range(9, 19)]
# How many points a part may have -> which of them are ours; the face's 69th and 70th are the pupils.
_COUNTS: dict[str, dict[int, list[int]]] = {
    "pose_keypoints_2d": {18: [*range(18)], 25: _OF_25},
    "hand_left_keypoints_2d": {21: [*range(21)]},
    "hand_right_keypoints_2d": {21: [*range(21)]},
    "face_keypoints_2d": {68: [*range(68)], 70: [*range(68)]},
}


@dataclass(frozen=True)
class _Person:
    """One person in one frame: ``(128, 2)`` pixels, ``(128,)`` scores, and ``(128,)`` depth where that is known."""

    points: NDArray[np.float32]
    scores: NDArray[np.float32]
    depth: NDArray[np.float32] | None

    @property
    def seen(self) -> NDArray[np.bool_]:
        """``(18,)``: which points of the body are there."""
        return self.scores[BODY] >= MIN_SCORE

    @property
    def extent(self) -> float:
        """Diagonal of the box around the points of the body, pixels; 0 where there are none."""
        points = self.points[BODY][self.seen]
        return float(np.hypot(*np.ptp(points, axis=0))) if len(points) else 0.0

    def apart(self, other: _Person) -> float:
        """Mean distance of the joints that both show, pixels; infinite where there are none."""
        both = self.seen & other.seen
        if not both.any():
            return float("inf")
        return float(np.linalg.norm(self.points[BODY][both] - other.points[BODY][both], axis=1).mean())


def write_poses(*people: PoseSequence) -> list[dict[str, Any]]:
    """The poses of one person or several, of one length and size, one dictionary a frame.

    Points with a score below ``MIN_SCORE`` are not there; a person without points is left out of a frame. Uneven times
    have no place in that form, and are lost.

    Raises:
        InputError: the people differ in length or size, or there are none.
    """
    if len({(len(poses), poses.size) for poses in people}) != 1:
        raise InputError(f"poses of {len(people)} people of different lengths or sizes; give those of one video")
    first = people[0]
    own = {"fps": [first.fps.numerator, first.fps.denominator]}
    return [
        {
            "people": [_written(poses, frame) for poses in people if (poses.scores[frame] >= MIN_SCORE).any()],
            "canvas_width": int(first.size[0]),
            "canvas_height": int(first.size[1]),
            OWN: dict(own),
        }
        for frame in range(len(first))
    ]


def _written(poses: PoseSequence, frame: int) -> dict[str, Any]:
    there = poses.scores[frame] >= MIN_SCORE
    values = np.where(there[:, None], np.column_stack([poses.keypoints[frame], np.ones(NUM_KEYPOINTS)]), 0.0)
    person: dict[str, Any] = {
        name: values[part].reshape(-1).tolist() if there[part].any() else None for name, part in PARTS.items()
    }
    depth = None if poses.depth is None else poses.depth[frame].tolist()
    return {**person, OWN: {"scores": poses.scores[frame].tolist(), "depth": depth}}


def read_poses(
    frames: Any, person: int = 0, fps: Fraction | None = None, size: Size | None = None, name: str = "poses"
) -> PoseSequence:
    """The poses of one person.

    Args:
        frames: a dictionary a frame, or a single one; by this project, by ComfyUI's nodes or by OpenPose, whose bodies
            of 25 points are taken as well.
        person: who, 0 is the largest in the first frame where anybody is. In each next frame it is whoever is nearest;
            nobody where several people were seen and nobody is near.
        fps: frames per second; ``None``: as the frames say, else 24.
        size: ``(width, height)`` of the canvas, where the frames do not say it.
        name: what they are called in messages.

    Returns:
        As many poses as frames, in pixels of the canvas; all scores 0 in frames without the person.

    Raises:
        InputError: they are of another form, of different canvases, or show nobody, or not so many people.
    """
    listed = [frames] if isinstance(frames, Mapping) else frames
    if not isinstance(listed, Sequence) or isinstance(listed, str | bytes) or not listed:
        raise InputError(f"{name}: holds no frames; give a list of OpenPose's dictionaries, one a frame")
    canvas = _canvas(listed[0], size, f"{name}, frame 0")
    found: list[list[_Person]] = []
    for number, frame in enumerate(listed):
        where = f"{name}, frame {number}"
        if _canvas(frame, size, where) != canvas:
            raise InputError(f"{where}: its canvas is another one than that of frame 0; give frames of one size")
        found.append(_people(frame, canvas, where))
    taken = _follow(found, person, name)
    points, scores = np.zeros((len(taken), NUM_KEYPOINTS, 2), np.float32), np.zeros((len(taken), 128), np.float32)
    depth = np.zeros((len(taken), NUM_KEYPOINTS), np.float32)
    for number, one in enumerate(taken):
        if one is not None:
            points[number], scores[number] = one.points, one.scores
            depth[number] = 0 if one.depth is None else one.depth
    deep = all(one is None or one.depth is not None for one in taken)
    return PoseSequence(points, scores, canvas, fps or _fps(listed[0], name), depth=depth if deep else None)


def count_people(frames: Sequence[Mapping[str, Any]]) -> int:
    """The most people that any of the frames shows."""
    return max((len(frame.get("people") or ()) for frame in frames), default=0)


def _canvas(frame: Any, size: Size | None, where: str) -> Size:
    if not isinstance(frame, Mapping):
        raise InputError(f"{where}: is no dictionary with people and a canvas, but {shortened(type(frame).__name__)}")
    if "people" not in frame and "animals" in frame:
        raise InputError(f"{where}: holds poses of animals; give poses of people")
    try:
        canvas = int(frame["canvas_width"]), int(frame["canvas_height"])
    except KeyError:
        if size is None:
            raise InputError(f"{where}: says no canvas_width and canvas_height; give the size of the picture") from None
        canvas = size
    except (TypeError, ValueError, OverflowError):
        canvas = (0, 0)
    if not all(1 <= side <= 65536 for side in canvas):
        raise InputError(f"{where}: canvas_width and canvas_height are no size in pixels; give 1 to 65536")
    return canvas


def _fps(frame: Mapping[str, Any], name: str) -> Fraction:
    own = frame.get(OWN)
    if not isinstance(own, Mapping) or "fps" not in own:
        return Fraction(24)
    try:
        fps = Fraction(int(own["fps"][0]), int(own["fps"][1]))
    except (TypeError, ValueError, LookupError, ArithmeticError):
        fps = Fraction(0)
    if not SLOWEST <= fps <= FASTEST:
        raise InputError(f"{name}: {OWN}.fps is no frame rate; give two whole numbers, such as [24, 1]")
    return fps


def _people(frame: Mapping[str, Any], canvas: Size, where: str) -> list[_Person]:
    listed = frame.get("people") or ()
    if not isinstance(listed, Sequence) or not all(isinstance(one, Mapping) for one in listed):
        raise InputError(f"{where}: people is no list of dictionaries; give OpenPose's form")
    people = [_person(one, canvas, where) for one in listed]
    return [one for one in people if one.seen.any()]


def _person(given: Mapping[str, Any], canvas: Size, where: str) -> _Person:
    points, scores = np.zeros((NUM_KEYPOINTS, 2), np.float64), np.zeros(NUM_KEYPOINTS, np.float32)
    for key, part in PARTS.items():
        values = _triples(given.get(key), key, where)
        if values is not None:
            points[part], scores[part] = values[:, :2], values[:, 2].clip(0, 1)
    there = scores > 0
    if there.any() and np.abs(points[there]).max() <= 1:  # shares of the canvas
        points *= canvas
    points[~there] = 0
    own = given.get(OWN)
    if not isinstance(own, Mapping):
        return _Person(points.astype(np.float32), scores, None)
    surer = _row(own.get("scores"), f"{where}: {OWN}.scores")
    if surer is not None:  # of points that nobody took away since
        scores = np.where(there & (surer >= MIN_SCORE), surer.clip(0, 1), scores).astype(np.float32)
    return _Person(points.astype(np.float32), scores, _row(own.get("depth"), f"{where}: {OWN}.depth"))


def _triples(values: Any, key: str, where: str) -> NDArray[np.float64] | None:
    """``(points, 3)`` of a part, flat or nested; ``None`` where it has none."""
    if values is None:
        return None
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        array = np.full(1, np.nan)
    if array.size == 0:
        return None
    counts = _COUNTS[key]
    if array.size % 3 or array.size // 3 not in counts or not np.isfinite(array).all():
        allowed = " or ".join(map(str, counts))
        raise InputError(f"{where}: {key} holds {array.size} numbers; give x, y and score of {allowed} points")
    return array.reshape(-1, 3)[counts[array.size // 3]]


def _row(values: Any, where: str) -> NDArray[np.float32] | None:
    if values is None:
        return None
    try:
        row = np.asarray(values, np.float32)
    except (TypeError, ValueError):
        row = np.zeros(0, np.float32)
    if row.shape != (NUM_KEYPOINTS,) or not np.isfinite(row).all():
        raise InputError(f"{where}: gives no {NUM_KEYPOINTS} numbers; leave it out")
    return row


def _follow(found: list[list[_Person]], person: int, name: str) -> list[_Person | None]:
    """One of the people of each frame, the same one through all of them; ``None`` in frames without them."""
    first = next((number for number, people in enumerate(found) if people), None)
    if first is None:
        raise InputError(f"{name}: shows nobody in any of {len(found)} frames; give poses of a person")
    people = sorted(found[first], key=lambda one: -one.extent)
    if not 0 <= person < len(people):
        raise InputError(f"{name}: person {person} of {len(people)} in frame {first}; give 0 to {len(people) - 1}")
    alone = max(map(len, found)) == 1
    last = people[person]
    taken: list[_Person | None] = [None] * first
    for candidates in found[first:]:
        nearest = min(candidates, key=last.apart, default=None)
        if nearest is not None and not alone and last.apart(nearest) > last.extent:
            nearest = None
        taken.append(nearest)
        last = nearest or last
    return taken
