"""Masks of the objects that a person holds or touches (AA2): found by a locator, then tracked.

A locator says where an object is in some frame (a mark: boxes, points); a tracker makes masks of
the whole clip from it. ``find_objects`` does both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.boxes import bounding_box
from animate_anyone.errors import InputError
from animate_anyone.perception.backends import load_backend
from animate_anyone.perception.classical import WORKING_SIDE, cut_out, enlarge, grow, shrink, shrink_size, tidy, warp
from animate_anyone.perception.colour_histogram import colour_histogram, likeness
from animate_anyone.perception.pose.protocol import check_frame
from animate_anyone.perception.track_checks import finished
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import Mask, MaskTrack, ObjectMark, Picture, Size
from animate_anyone.system.frame_sequence import FrameSequence, StoredFrames

UNLIKE = "looks unlike where it was marked"
_ALIKE = 0.35  # correlation of the colours with those at the mark
_CHANGE = 1.5  # times the area, that a new cut may differ from the mask warped on
_POINT_REACH = 0.12  # of the longer side: how far an object reaches around its points, without a box


@runtime_checkable
class ObjectLocator(Protocol):
    """Finds objects in a clip."""

    def locate(self, frames: Sequence[Picture]) -> list[ObjectMark]:
        """Marks, in pixels of the frames ``(height, width, 3)`` uint8; none if nothing is found."""
        ...


@runtime_checkable
class ObjectTracker(Protocol):
    """Makes masks from marks."""

    def track(
        self, frames: Sequence[Picture], marks: Sequence[ObjectMark], progress: Progress = SILENT
    ) -> tuple[MaskTrack, ...]:
        """One track an object (marks of one name are one), ``(frames, height, width)``, with flagged frames."""
        ...


class GivenMarks:
    """Locator for marks that are known, as from :func:`~.marks_file.read_object_file`."""

    def __init__(self, marks: Sequence[ObjectMark]) -> None:
        self._marks = list(marks)

    def locate(self, frames: Sequence[Picture]) -> list[ObjectMark]:
        """The marks."""
        return list(self._marks)


class ClassicalTracker:
    """Tracker ``classical``: GrabCut from the box or points, warped on by optical flow, cut anew in each frame.

    No network and no download; good for things that stand out by colour and do not turn or vanish.

    Args:
        side: longer side of the pictures it works in, pixels.
    """

    def __init__(self, side: int = WORKING_SIDE) -> None:
        self._side = side

    def track(
        self, frames: Sequence[Picture], marks: Sequence[ObjectMark], progress: Progress = SILENT
    ) -> tuple[MaskTrack, ...]:
        """See :class:`ObjectTracker`."""
        if not marks:
            return ()
        size = (frames[0].shape[1], frames[0].shape[0])
        width, height = shrink_size(size, self._side)
        small: StoredFrames[np.uint8] = StoredFrames(len(frames), (height, width, 3), np.uint8)
        for number, frame in enumerate(frames):
            small[number] = shrink(frame, self._side)
        tracks = []
        for name in dict.fromkeys(mark.name for mark in marks):
            own = sorted((mark for mark in marks if mark.name == name), key=lambda mark: mark.frame)
            tracks.append(self._one(small, size, own, progress))
        return tuple(tracks)

    def _one(self, small: FrameSequence[np.uint8], size: Size, own: list[ObjectMark], progress: Progress) -> MaskTrack:
        masks: StoredFrames[np.bool_] = StoredFrames(len(small), size[::-1], bool)  # of the object's lifetime
        flagged: list[tuple[int, str]] = []
        scale = small.shape[2] / size[0]
        first, last = own[0].lifetime or (0, len(small) - 1)
        stops = [mark.frame for mark in own[1:]] + [last + 1]
        runs = [(mark, range(mark.frame, stop)) for mark, stop in zip(own, stops, strict=True)]
        runs.append((own[0], range(own[0].frame, first - 1, -1)))
        for mark, steps in runs:
            mask = _seed(small[mark.frame], mark, scale)
            model, area = _colours(small[mark.frame], mask), int(mask.sum())
            for frame in progress.track(steps, description=mark.name):
                if frame != mark.frame and mask.any():
                    warped = warp(mask.astype(np.float32), small[frame - steps.step], small[frame])
                    mask = _recut(small[frame], warped > 0.5, area)
                masks[frame] = enlarge(mask, size)
                if mask.any() and likeness(model, _colours(small[frame], mask)) < _ALIKE:
                    flagged.append((frame, UNLIKE))
        return finished(masks, own[0].name, own, flagged)


def find_objects(
    frames: Sequence[Picture], locator: ObjectLocator, tracker: ObjectTracker | None = None, progress: Progress = SILENT
) -> tuple[MaskTrack, ...]:
    """Locate, then follow; ``tracker`` is ``classical`` unless given. Nothing found is an empty tuple.

    Raises:
        InputError: there are no frames or they differ in size, or a mark is of no such frame.
    """
    if not len(frames):
        raise InputError("there are no frames to look for objects in; give a video with 1 frame or more")
    size = (frames[0].shape[1], frames[0].shape[0])
    for frame in frames:
        check_frame(frame, size)
    marks = locator.locate(frames)
    for mark in marks:
        if not 0 <= mark.frame < len(frames):
            raise InputError(f"{mark.name} is marked in frame {mark.frame}; give one from 0 to {len(frames) - 1}")
    return (tracker or ClassicalTracker()).track(frames, marks, progress)


_TRACKERS = {"classical": ("objects.tracking", "ClassicalTracker"), "sam2": ("sam2", "Sam2Tracker")}
TRACKERS = tuple(_TRACKERS)
"""Names that :func:`load_tracker` knows."""


def load_tracker(name: str = "classical", **options: Any) -> ObjectTracker:
    """The tracker of this name: ``classical`` (no download) or ``sam2`` (give ``weights``).

    Raises:
        InputError: there is no such tracker or option, or its weights are missing.
    """
    return load_backend("object tracker", _TRACKERS, name, options)


def _seed(picture: Picture, mark: ObjectMark, scale: float) -> Mask:
    """The object's mask in the picture ``(height, width, 3)`` where it is marked."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5

    def near(points: Sequence[tuple[float, float]], reach: float) -> Mask:
        found = np.zeros(picture.shape[:2], bool)
        for px, py in points:
            found |= np.hypot(x - px * scale, y - py * scale) <= reach
        return found

    dot = max(0.006 * max(picture.shape), 1.5)
    front = near(mark.points, dot)
    if mark.box is not None:
        left, top, right, bottom = (v * scale for v in mark.box)
        likely = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
        if not mark.points:  # the middle of a box is the object, more often than not
            across = (x - (left + right) / 2) / max(right - left, 1)
            down = (y - (top + bottom) / 2) / max(bottom - top, 1)
            front = across**2 + down**2 < 0.15**2
        possible = likely
    else:
        likely = near(mark.points, _POINT_REACH * max(picture.shape) / 4)
        possible = near(mark.points, _POINT_REACH * max(picture.shape))
    outside = near(mark.outside, 2 * dot)
    front, likely, possible = front & ~outside, likely & ~outside, possible & ~outside
    mask = _cut_out_around(picture, front, likely, possible, rounds=4)
    return tidy(mask, front) if mask.any() else mask


def _recut(picture: Picture, warped: Mask, area: int) -> Mask:
    """The mask warped on, its edge put where the colours have it, unless they make something else of it."""
    if not warped.any():
        return warped
    margin = max(round(0.12 * float(np.sqrt(warped.sum()))), 1)
    possible = grow(warped, margin)
    front = grow(warped, -margin)
    mask = _cut_out_around(picture, front, warped, possible, rounds=1)
    if mask.any():
        mask = tidy(mask, front if front.any() else warped)
    trusted = warped.sum() / _CHANGE <= mask.sum() <= warped.sum() * _CHANGE and mask.sum() <= 3 * max(area, 1)
    return mask if trusted else warped


def _cut_out_around(picture: Picture, front: Mask, likely: Mask, possible: Mask, rounds: int) -> Mask:
    """As :func:`cut_out`, in ``possible`` and as much again on every side, for the colours of the background."""
    box = bounding_box(possible)
    margin = 8 if box is None else max(*(side.stop - side.start for side in box), 8)
    window = bounding_box(possible, margin) or (slice(None), slice(None))
    mask = np.zeros(possible.shape, bool)
    mask[window] = cut_out(picture[window], front[window], likely[window], possible[window], rounds)
    return mask


def _colours(picture: Picture, mask: Mask) -> NDArray[np.float64]:
    """Shares of the colours under the mask, ``(6, 6, 6)``, sum 1."""
    counts = colour_histogram(picture[mask], (6, 6, 6), "constant")
    return counts / max(counts.sum(), 1e-9)
