"""Where the person is, frame by frame: ``load_masker("mediapipe").mask(frames, pose)`` gives a track.

Every masker takes the person's skeleton: it selects the person, bounds the region where the body can be, and
is what the finished masks are checked against. AA2 takes its masks from SAM2; ``mediapipe`` and ``grabcut`` need
no download.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import frame_torso_length
from animate_anyone.conditions.skeleton import SURE_SCORE, is_person
from animate_anyone.errors import InputError
from animate_anyone.perception.backends import load_backend
from animate_anyone.perception.classical import WORKING_SIDE, Flow, cut_out, enlarge, grow, load_opencv, shrink, tidy
from animate_anyone.perception.person.body_hull import body_hulls
from animate_anyone.perception.person.mask_checks import flag_masks
from animate_anyone.perception.person.mask_spills import find_spills
from animate_anyone.perception.pose.protocol import check_frame
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import BODY, Mask, MaskTrack, ObjectMark, Picture, PoseSequence

_MARGIN = 0.05  # of the window's side around everything that may be body
_WINDOW = 256  # side of the pictures that the segmentation network sees
_WARPED = 0.25  # weight of the mask before, warped to this frame


@runtime_checkable
class PersonMasker(Protocol):
    """Cuts out the person whose poses are given."""

    def mask(self, frames: Iterable[Picture], pose: PoseSequence, progress: Progress = SILENT) -> MaskTrack:
        """The person's masks.

        Args:
            frames: ``(height, width, 3)`` uint8, RGB, as many as poses, of ``pose.size``; read once.
            pose: whose masks; frames without a person get an empty mask.
            progress: shown how far it is.

        Returns:
            One mask per frame, in pixels of the frames, with the flagged frames.

        Raises:
            InputError: frames and poses do not belong together, or a package or file is missing.
        """
        ...


class GrabCutMasker:
    """Masker ``grabcut``: colours inside and around the skeleton, warped on by optical flow. No network.

    Args:
        side: longer side of the pictures it works in, pixels.
    """

    def __init__(self, side: int = WORKING_SIDE) -> None:
        if side < 64:
            raise InputError(f"a working side of {side} pixels is too small to cut people out; give 64 or more")
        load_opencv()
        self._side = side

    def mask(self, frames: Iterable[Picture], pose: PoseSequence, progress: Progress = SILENT) -> MaskTrack:
        """See :class:`PersonMasker`."""
        self._begin()
        smalls: list[Picture] = []
        masks: list[Mask] = []
        flow, before = Flow(), None
        for number, frame in _numbered(progress.track(frames, description="person"), pose):
            small = shrink(frame, self._side)
            smalls.append(small)
            if not is_person(pose.scores[number]):
                masks.append(np.zeros(small.shape[:2], bool))
                before = None
                continue
            warped = None if before is None else flow.warp(before[1], before[0], small)
            mask = self._one(frame, small, pose, number, warped)
            before = small, mask.astype(np.float32)
            masks.append(mask)
        return person_track(smalls, masks, pose, progress)

    def _begin(self) -> None:
        """Forget the frames of the video before."""

    def _one(
        self, frame: Picture, small: Picture, pose: PoseSequence, number: int, warped: NDArray[np.float32] | None
    ) -> Mask:
        size = (small.shape[1], small.shape[0])
        points, scores = pose[number : number + 1].scaled_to(size).keypoints[0], pose.scores[number]
        sure, maybe = body_hulls(points, scores, size)
        chance = self._chance(frame, small, sure, maybe, frame_torso_length(points, scores))
        if warped is not None:
            chance = (1 - _WARPED) * chance + _WARPED * warped
        front = (sure & (chance > 0.15)) | (maybe & (chance > 0.9))
        result = cut_out(small, front, maybe & (chance > 0.5), maybe & (chance > 0.12))
        return tidy(result, sure) if result.any() else result

    def _chance(self, frame: Picture, small: Picture, sure: Mask, maybe: Mask, torso: float) -> NDArray[np.float32]:
        """How likely each pixel of ``small`` is the person's, in [0, 1]."""
        near = grow(sure, max(round(0.12 * torso), 1)) & maybe
        return np.where(sure, 0.85, np.where(near, 0.6, np.where(maybe, 0.3, 0.0))).astype(np.float32)


class MediapipeMasker(GrabCutMasker):
    """Masker ``mediapipe``: MediaPipe's segmentation networks, inside its wheel, then as ``grabcut``.

    Three answers are averaged: both selfie networks on the square around the person, and the mask of
    the pose network on the whole frame; what the skeleton cannot reach is left out.
    """

    def __init__(self, side: int = WORKING_SIDE) -> None:
        super().__init__(side)
        from animate_anyone.perception.person.mediapipe_segmentation import Segmentation

        self._networks = Segmentation()

    def _begin(self) -> None:
        self._networks.forget()

    def _chance(self, frame: Picture, small: Picture, sure: Mask, maybe: Mask, torso: float) -> NDArray[np.float32]:
        cv2 = load_opencv()
        if not maybe.any():
            return np.zeros(maybe.shape, np.float32)
        size = small.shape[1::-1]
        answers = self._in_window(cv2, frame, maybe)
        whole = self._networks.in_frame(frame)
        if whole is not None:
            answers.append(cv2.resize(whole, size))
        mean: NDArray[np.float32] = np.mean(answers, axis=0)
        return mean

    def _in_window(self, cv2: ModuleType, frame: Picture, maybe: Mask) -> list[NDArray]:
        """What the selfie networks say of the square around the person; 0 outside it."""
        height, width = frame.shape[:2]
        scale = np.array([width / maybe.shape[1], height / maybe.shape[0]])
        spots = np.argwhere(maybe)[:, ::-1]
        low, high = spots.min(axis=0) * scale, (spots.max(axis=0) + 1) * scale
        side = max(round(float((high - low).max()) * (1 + 2 * _MARGIN)), 16)
        x, y = (int(v) for v in (low + high - side) / 2)
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
        window = np.full((side, side, 3), 127, np.uint8)
        window[top - y : bottom - y, left - x : right - x] = frame[top:bottom, left:right]
        shown = cv2.resize(window, (_WINDOW, _WINDOW), interpolation=cv2.INTER_AREA)
        answers = []
        for answer in self._networks.in_window(shown):
            whole = np.zeros((height, width), np.float32)
            enlarged = cv2.resize(answer, (side, side))
            whole[top:bottom, left:right] = enlarged[top - y : bottom - y, left - x : right - x]
            answers.append(cv2.resize(whole, maybe.shape[::-1], interpolation=cv2.INTER_AREA))
        return answers


class Sam2Masker:
    """Masker ``sam2``: SAM2 follows the person from a box and joints in one good frame. All frames are kept in memory.

    Args:
        weights: a folder with a ``Sam2VideoModel`` as transformers saves it.
        device: ``cpu``, ``cuda`` or ``mps``.
        tracker: a ready tracker (see :mod:`~animate_anyone.perception.objects.tracking`); then nothing is loaded.
    """

    def __init__(self, weights: str | Path | None = None, device: str = "cpu", tracker: Any = None) -> None:
        if tracker is None:
            from animate_anyone.perception.sam2 import Sam2Tracker

            tracker = Sam2Tracker(weights, device)
        self._tracker = tracker

    def mask(self, frames: Iterable[Picture], pose: PoseSequence, progress: Progress = SILENT) -> MaskTrack:
        """See :class:`PersonMasker`."""
        pictures = [frame for _, frame in _numbered(frames, pose)]
        there = is_person(pose.scores)
        if not there.any():
            masks = np.zeros((len(pose), *pose.size[::-1]), bool)
        else:
            best = int(np.argmax(np.where(there, pose.scores[:, BODY].mean(axis=1), -1)))
            masks = self._tracker.track(pictures, [person_mark(pose, best)], progress)[0].masks.copy()
            masks[~there] = False
        return person_track([shrink(picture) for picture in pictures], masks, pose, progress)


def person_track(smalls: Sequence[Picture], masks: Iterable[Mask], pose: PoseSequence, progress: Progress) -> MaskTrack:
    """The track of masks ``(height, width)`` of any size: spills are cut off, and frames flagged.

    ``smalls`` are the frames as small as they are compared; ``pose`` has the size of the track.
    """
    whole = np.zeros((len(pose), *pose.size[::-1]), bool)
    if not smalls:
        return MaskTrack(whole)
    size = (smalls[0].shape[1], smalls[0].shape[0])
    found = list(masks)
    compared = np.stack([enlarge(mask, size) for mask in found])
    spills, flagged = find_spills(smalls, compared, pose.scaled_to(size), progress)
    for number, (mask, spill) in enumerate(zip(found, spills, strict=True)):
        whole[number] = enlarge(mask, pose.size) & ~enlarge(spill, pose.size)
    return MaskTrack(whole, "person", tuple(sorted({*flag_masks(whole, pose), *flagged})))


def person_mark(pose: PoseSequence, frame: int) -> ObjectMark:
    """A person as a mark for a tracker: the box around the joints with a margin, and the surest joints."""
    seen = np.flatnonzero(pose.scores[frame, BODY] >= SURE_SCORE)
    points = pose.keypoints[frame, BODY][seen] if len(seen) else pose.keypoints[frame, BODY]
    points = np.clip(points, 0, np.array(pose.size) - 1)
    margin = 0.3 * frame_torso_length(pose.keypoints[frame], pose.scores[frame])
    low, high = np.clip(points.min(axis=0) - margin, 0, pose.size), np.clip(points.max(axis=0) + margin, 0, pose.size)
    box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    return ObjectMark("person", frame, box, tuple((float(x), float(y)) for x, y in points))


_MASKERS = {
    "mediapipe": ("person.masks", "MediapipeMasker"),
    "grabcut": ("person.masks", "GrabCutMasker"),
    "sam2": ("person.masks", "Sam2Masker"),
}
MASKERS = tuple(_MASKERS)
"""Names that :func:`load_masker` knows."""


def load_masker(name: str = "mediapipe", **options: Any) -> PersonMasker:
    """The masker of this name.

    Args:
        name: ``mediapipe`` (no download), ``grabcut`` (no network at all) or ``sam2`` (give ``weights``).
        options: those of the class.

    Raises:
        InputError: there is no such masker or option, or its package or weights are missing.
    """
    masker: PersonMasker = load_backend("person masker", _MASKERS, name, options)
    return masker


def _numbered(frames: Iterable[Picture], pose: PoseSequence) -> Iterable[tuple[int, Picture]]:
    count = 0
    for frame in frames:
        check_frame(frame, pose.size)
        if count < len(pose):
            yield count, frame
        count += 1
    if count != len(pose):
        raise InputError(f"there are {count} frames and {len(pose)} poses; give one pose a frame")
