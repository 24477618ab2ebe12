"""Where the person is, frame by frame: ``load_masker("mediapipe").mask(frames, pose)`` gives a track.

Every masker takes the person's skeleton: it selects the person, bounds the region where the body can be, and
is what the finished masks are checked against. AA2 takes its masks from SAM2; ``mediapipe`` and ``grabcut`` need
no download.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import frame_torso_length
from animate_anyone.conditions.skeleton import SURE_SCORE, is_person
from animate_anyone.errors import InputError
from animate_anyone.optional import require
from animate_anyone.perception.backends import load_backend
from animate_anyone.perception.classical import WORKING_SIDE, cut_out, enlarge, grow, shrink, shrink_size, tidy, warp
from animate_anyone.perception.person.body_hull import body_hulls
from animate_anyone.perception.person.mask_checks import flag_masks
from animate_anyone.perception.person.mask_spills import find_spills
from animate_anyone.perception.pose.protocol import check_frame
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import BODY, Mask, Masks, MaskTrack, ObjectMark, Picture, PoseSequence
from animate_anyone.system.frame_sequence import FrameSequence, MadeFrames, StoredFrames

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
        require("cv2", extra="pose")  # before the work begins
        self._side = side

    def mask(self, frames: Iterable[Picture], pose: PoseSequence, progress: Progress = SILENT) -> MaskTrack:
        """See :class:`PersonMasker`."""
        self.begin()
        size = shrink_size(pose.size, self._side)
        smalls: StoredFrames[np.uint8] = StoredFrames(len(pose), (*size[::-1], 3), np.uint8)
        masks: StoredFrames[np.bool_] = StoredFrames(len(pose), size[::-1], bool)
        before: tuple[Picture, NDArray[np.float32]] | None = None
        for number, frame in _numbered(progress.track(frames, description="person"), pose):
            small = shrink(frame, self._side)
            smalls[number] = small
            if not is_person(pose.scores[number]):
                masks[number] = np.zeros(small.shape[:2], bool)
                before = None
                continue
            warped = None if before is None else warp(before[1], before[0], small)
            mask = self._one(frame, small, pose, number, warped)
            before = small, mask.astype(np.float32)
            masks[number] = mask
        return person_track(smalls, masks, pose, progress)

    def begin(self) -> None:
        """Called before the first frame of a video."""

    def _one(
        self, frame: Picture, small: Picture, pose: PoseSequence, number: int, warped: NDArray[np.float32] | None
    ) -> Mask:
        size = (small.shape[1], small.shape[0])
        points, scores = pose[number : number + 1].scaled_to(size).keypoints[0], pose.scores[number]
        sure, maybe = body_hulls(points, scores, size)
        chance, within = self.chance(frame, small, sure, maybe, frame_torso_length(points, scores))
        if warped is not None:
            chance = (1 - _WARPED) * chance + _WARPED * warped
        front = (sure & (chance > 0.15)) | (within & (chance > 0.9))
        result = cut_out(small, front, within & (chance > 0.5), within & (chance > 0.12))
        return tidy(result, sure) if result.any() else result

    def chance(
        self, frame: Picture, small: Picture, sure: Mask, maybe: Mask, torso: float
    ) -> tuple[NDArray[np.float32], Mask]:
        """How likely each pixel of ``small`` is the person's, in [0, 1], and where it may be at all."""
        near = grow(sure, max(round(0.12 * torso), 1)) & maybe
        return np.where(sure, 0.85, np.where(near, 0.6, np.where(maybe, 0.3, 0.0))).astype(np.float32), maybe


class Sam2Masker:
    """Masker ``sam2``: SAM2 follows the person from a box and joints in one good frame.

    Frames that are no sequence, and so cannot be asked for by number, are kept in memory.

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
        pictures = frames if isinstance(frames, Sequence) else list(frames)
        size = shrink_size(pose.size)
        smalls: StoredFrames[np.uint8] = StoredFrames(len(pose), (*size[::-1], 3), np.uint8)
        for number, frame in _numbered(pictures, pose):
            smalls[number] = shrink(frame)
        there = is_person(pose.scores)
        masks: StoredFrames[np.bool_] = StoredFrames(len(pose), pose.size[::-1], bool)
        nobody = np.zeros(pose.size[::-1], bool)
        found: Masks | None = None
        if there.any():
            best = int(np.argmax(np.where(there, pose.scores[:, BODY].mean(axis=1), -1)))
            found = self._tracker.track(pictures, [person_mark(pose, best)], progress)[0].masks
        for number in range(len(pose)):
            masks[number] = found[number] if found is not None and there[number] else nobody
        return person_track(smalls, masks, pose, progress)


def person_track(
    smalls: FrameSequence[np.uint8], masks: FrameSequence[np.bool_], pose: PoseSequence, progress: Progress
) -> MaskTrack:
    """The track of masks ``(frames, height, width)`` of any size: spills are cut off, and frames flagged.

    ``smalls`` are the frames as small as they are compared; ``pose`` has the size of the track.
    """
    whole: StoredFrames[np.bool_] = StoredFrames(len(pose), pose.size[::-1], bool)
    if not len(pose):
        return MaskTrack(whole)
    size = (smalls.shape[2], smalls.shape[1])
    compared = masks
    if masks.shape != smalls.shape[:3]:
        compared = MadeFrames(len(masks), size[::-1], bool, lambda number: enlarge(masks[number], size), once=True)
    spills, flagged = find_spills(smalls, compared, pose.scaled_to(size), progress)
    for number, (mask, spill) in enumerate(zip(masks, spills, strict=True)):
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
    "mediapipe": ("person.mediapipe_masks", "MediapipeMasker"),
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
    return load_backend("person masker", _MASKERS, name, options)


def _numbered(frames: Iterable[Picture], pose: PoseSequence) -> Iterable[tuple[int, Picture]]:
    count = 0
    for count, frame in enumerate(frames, start=1):
        check_frame(frame, pose.size)
        if count <= len(pose):
            yield count - 1, frame
    if count != len(pose):
        raise InputError(f"there are {count} frames and {len(pose)} poses; give one pose a frame")
