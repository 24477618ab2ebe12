"""The stages of a clip: the person tracked, looked over, cropped, written."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from animate_anyone.conditions.body_lengths import clip_torso_length, frame_torso_length
from animate_anyone.conditions.crop_scene import Crop
from animate_anyone.conditions.frame_ranges import runs
from animate_anyone.conditions.skeleton import MIN_SCORE, is_person
from animate_anyone.conditions.smooth import clean
from animate_anyone.engines.engine import Resources
from animate_anyone.errors import InputError
from animate_anyone.media import VideoWriter, whole_file
from animate_anyone.perception import PoseEstimator
from animate_anyone.perception.classical import shrink
from animate_anyone.perception.person.body_hull import body_hulls
from animate_anyone.perception.person.masks import PersonMasker
from animate_anyone.perception.person.people import find_people, track_person
from animate_anyone.preparation import reasons
from animate_anyone.preparation.clip import Clip, ClipFrames
from animate_anyone.preparation.overlays import static_share
from animate_anyone.preparation.pieces import opened_before
from animate_anyone.preparation.stage import DroppedError
from animate_anyone.structures import BODY, PoseSequence
from animate_anyone.system.stamps import stamp
from animate_anyone.system.whole_files import writing

GOP = 12
"""At most so many frames from one key frame of a clip to the next, so that training reads any part quickly."""

_CRF = 18
_LARGE_OTHER = 0.5  # torso of somebody else over the person's, from which there are several people; others pass by
_MEAN_SCORE = 0.5  # of the body's points, in frames with the person
_SEEN_POINTS = 0.4  # share of the body's points that are seen
_LEAST_MOTION = 0.03  # torso lengths, standard deviation of the body's points around their mean place
_MOST_OVERLAY = 0.01  # share of the pixels that should change and do not
_HULL_SIDE = 256  # pixels of the frames in which hulls are drawn
_MARGIN = 0.04  # sides of the crop beyond the hulls, on each side
_WIDEST = 16 / 9  # of a crop, and its inverse the narrowest, as far as the frame allows
_THUMBNAIL = 160  # pixels


class TrackPerson:
    """Estimates the poses of the largest person, and looks for others in the first, middle and last frame."""

    name: ClassVar[str] = "poses"
    inputs: ClassVar[tuple[str, ...]] = ("source", "piece", "settings")
    outputs: ClassVar[tuple[str, ...]] = ("frames", "tracked", "next_largest")
    resources: ClassVar[Resources] = Resources()

    def __init__(self, load: Callable[[], PoseEstimator]) -> None:
        self._estimator = load()

    def __call__(self, item: Clip) -> None:
        """Raises :class:`BrokenError` where the source cannot be read any more."""
        frames = ClipFrames(
            item.source, opened_before(item.source, tuple(stamp(item.source.path))), item.piece, item.settings
        )
        item.frames = frames
        try:
            item.tracked = track_person(frames.in_reach(), frames.fps, self._estimator)
        except InputError as error:
            raise DroppedError(reasons.NO_PERSON, str(error)) from None
        poses, people = item.tracked.poses, [list(item.tracked.people)]
        there = np.flatnonzero(is_person(poses.scores))
        looked = sorted({int(there[len(there) // 2]), int(there[-1])}) if len(there) else []
        for number, picture in zip(looked, frames.some(looked), strict=True):
            people.append(find_people(picture, self._estimator, most=2, known=poses[number : number + 1]))
        item.next_largest = float(np.median([_next_largest(those) for those in people]))  # one may be imagined


class TrackPersonOnGpu(TrackPerson):
    """As :class:`TrackPerson`, with an estimator whose networks compute on a GPU."""

    resources: ClassVar[Resources] = Resources(gpus=1.0)


class CheckPerson:
    """Drops what shows several people, or nobody for long enough; cleans the poses, and measures them."""

    name: ClassVar[str] = "checks"
    inputs: ClassVar[tuple[str, ...]] = ("settings", "frames", "tracked", "next_largest")
    outputs: ClassVar[tuple[str, ...]] = ("poses", "figures")
    resources: ClassVar[Resources] = Resources()

    def __call__(self, item: Clip) -> None:
        """Raises :class:`DroppedError`."""
        frames, tracked = item.frames, item.tracked
        assert frames is not None and tracked is not None
        found = tracked.poses
        if item.next_largest >= _LARGE_OTHER or tracked.mended:
            raise DroppedError(reasons.SEVERAL_PEOPLE, f"somebody else is {item.next_largest:.0%} as large")
        if tracked.whole is not None and tracked.dropped:  # other light: there is nobody else
            scores = found.scores.copy()
            scores[list(tracked.dropped)] = tracked.whole.scores[list(tracked.dropped)]
            found = replace(found, scores=scores)
        poses = clean(found)
        together = runs(is_person(poses.scores))
        first, stop = max(together, key=lambda run: run[1] - run[0], default=(0, 0))
        least = item.settings.num_frames(frames.fps)
        if stop - first < least:
            raise DroppedError(reasons.NO_PERSON, f"{stop - first} frames on end with a person, {least} are needed")
        frames.keep(first, stop)
        item.poses = poses[first:stop]
        item.figures = _measured(item.poses)
        height = item.figures["person_height"]
        if height < item.settings.min_height:
            raise DroppedError(reasons.TOO_SMALL, f"{height:.0f} pixels high, {item.settings.min_height} are needed")
        raw = found.scores[first:stop][:, BODY]
        confidence, seen = item.figures["confidence"], float((raw >= MIN_SCORE).mean())
        if confidence < _MEAN_SCORE or seen < _SEEN_POINTS:
            raise DroppedError(reasons.LOW_CONFIDENCE, f"mean score {confidence:.2f}, {seen:.0%} of the body seen")
        if item.figures["motion"] < _LEAST_MOTION:
            motion = item.figures["motion"]
            raise DroppedError(reasons.LITTLE_MOTION, f"{motion:.3f} torso lengths, {_LEAST_MOTION} are needed")


class CropPerson:
    """Chooses the part of the frames that the clip shows: the person is wholly inside in each, as AA2 has it."""

    name: ClassVar[str] = "crop"
    inputs: ClassVar[tuple[str, ...]] = ("settings", "poses")
    outputs: ClassVar[tuple[str, ...]] = ("crop", "size")
    resources: ClassVar[Resources] = Resources()

    def __call__(self, item: Clip) -> None:
        assert item.poses is not None
        item.crop = crop_of(item.poses)
        scale = min(1.0, item.settings.max_side / max(item.crop.width, item.crop.height))
        item.size = (_even(item.crop.width * scale), _even(item.crop.height * scale))


class CheckOverlay:
    """Drops clips with writing or a sign laid over the picture, where the picture should change."""

    name: ClassVar[str] = "overlay"
    inputs: ClassVar[tuple[str, ...]] = ("frames", "poses", "crop")
    outputs: ClassVar[tuple[str, ...]] = ()
    resources: ClassVar[Resources] = Resources()

    def __call__(self, item: Clip) -> None:
        """Raises :class:`DroppedError`."""
        assert item.frames is not None and item.poses is not None and item.crop is not None
        share = static_share(item.frames.some, item.poses, item.crop)
        if share > _MOST_OVERLAY:
            raise DroppedError(reasons.STATIC_OVERLAY, f"{share:.1%} of what should change stands still")


class WriteClip:
    """Writes the video (h264, short GOP), the poses and a thumbnail."""

    name: ClassVar[str] = "write"
    inputs: ClassVar[tuple[str, ...]] = ("id", "folder", "frames", "poses", "crop", "size")
    outputs: ClassVar[tuple[str, ...]] = ("files",)
    resources: ClassVar[Resources] = Resources()

    def __call__(self, item: Clip) -> None:
        """Raises :class:`InputError` where the data set cannot be written."""
        assert item.frames is not None
        item.files = {"video": f"{place(item.id)}.mp4", "poses": f"{place(item.id)}.npz"}
        with writing(item.folder):
            (item.folder / item.files["video"]).parent.mkdir(parents=True, exist_ok=True)
        middle = len(item.frames) // 2
        with VideoWriter(item.folder / item.files["video"], item.size, item.frames.fps, crf=_CRF, gop_size=GOP) as out:
            for number, picture in enumerate(item.pictures()):
                out.write(picture)
                if number == middle:
                    item.files["thumbnail"] = write_thumbnail(item, picture)
        item.cropped_poses().save(item.folder / item.files["poses"])


class WriteMasks:
    """Writes the person's masks without loss: ``masks``, bits packed along the width, and ``shape``."""

    name: ClassVar[str] = "masks"
    inputs: ClassVar[tuple[str, ...]] = ("id", "folder", "frames", "poses", "crop", "size", "files")
    outputs: ClassVar[tuple[str, ...]] = ()
    resources: ClassVar[Resources] = Resources()

    def __init__(self, load: Callable[[], PersonMasker]) -> None:
        self._masker = load()

    def __call__(self, item: Clip) -> None:
        """Raises :class:`InputError` where the data set cannot be written."""
        masks = self._masker.mask(item.pictures(), item.cropped_poses()).masks
        item.files["masks"] = f"{place(item.id)}.masks.npz"
        content = io.BytesIO()
        np.savez_compressed(content, masks=np.packbits(masks, axis=2), shape=np.array(masks.shape, np.int64))
        with whole_file(item.folder / item.files["masks"]) as part:
            part.write_bytes(content.getvalue())


def _even(side: float) -> int:
    """The nearest even number of pixels, as h264 has it; at least 2."""
    return max(2 * round(side / 2), 2)


def place(clip: str) -> str:
    """The files of a clip in the data set, without their endings; no folder gets too many."""
    return f"clips/{clip[:2]}/{clip}"


def write_thumbnail(item: Clip, picture: np.ndarray) -> str:
    """Write a small picture for the page; returns its path in the data set."""
    file = f"thumbnails/{item.id[:2]}/{item.id}.jpg"
    content = io.BytesIO()
    Image.fromarray(shrink(picture, _THUMBNAIL)).save(content, format="JPEG", quality=80)
    with writing(item.folder):
        (item.folder / file).parent.mkdir(parents=True, exist_ok=True)
    with whole_file(item.folder / file) as part:
        part.write_bytes(content.getvalue())
    return file


def sha256(file: Path) -> str:
    """Of a file, hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def crop_of(poses: PoseSequence) -> Crop:
    """One part of the frames that holds all that may be the person in any of them; even sides, pixels.

    Where the frame cuts the person off, so does the crop. Its shape lies between 9:16 and 16:9 as far as the frame
    allows.
    """
    width, height = poses.size
    left, top, right, bottom = _boxes(poses).T
    low = np.array([left.min(), top.min()])
    high = np.array([right.max(), bottom.max()])
    sides = (high - low) * (1 + 2 * _MARGIN)
    sides = np.maximum(sides, [sides[1] / _WIDEST, sides[0] / _WIDEST])
    parts = []
    for middle, side, most in zip((low + high) / 2, sides, (width, height), strict=True):
        length = min(2 * int(np.ceil(side / 2)), most - most % 2)
        start = int(np.clip(round(middle - length / 2), 0, most - length))
        parts.append((start, length))
    (x, wide), (y, tall) = parts
    return Crop(x, y, wide, tall)


def _next_largest(people: list[PoseSequence]) -> float:
    """The torso of the next person over that of the largest; 0 where there is nobody else."""
    torsos = sorted((frame_torso_length(p.keypoints[0], p.scores[0]) for p in people), reverse=True)
    return torsos[1] / torsos[0] if len(torsos) > 1 else 0.0


def _boxes(poses: PoseSequence) -> np.ndarray:
    """``(frames with a person, 4)``: left, top, right, bottom of what may be the person, pixels, inside the frame."""
    scale = min(1.0, _HULL_SIDE / max(poses.size))
    size = (max(round(poses.size[0] * scale), 1), max(round(poses.size[1] * scale), 1))
    small = poses.scaled_to(size)
    boxes = []
    for points, scores in zip(small.keypoints, small.scores, strict=True):
        _, maybe = body_hulls(points, scores, size)
        rows, columns = np.flatnonzero(maybe.any(axis=1)), np.flatnonzero(maybe.any(axis=0))
        if len(rows):
            boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    factor = np.array([poses.size[0] / size[0], poses.size[1] / size[1]])
    return np.array(boxes or [(0, 0, *size)], float) * np.tile(factor, 2)


def _measured(poses: PoseSequence) -> dict[str, float]:
    """Mean score and motion of the body, and its height: that of the points seen, pixels, in the middle frame by it."""
    body, scores = poses.keypoints[:, BODY].astype(float), poses.scores[:, BODY]
    seen = scores >= MIN_SCORE
    heights = np.array([float(np.ptp(p[s, 1])) if s.any() else 0.0 for p, s in zip(body, seen, strict=True)])
    torso = clip_torso_length(poses) or 1.0
    weights = seen[..., None].astype(float)
    middle = (body * weights).sum(1, keepdims=True) / np.maximum(weights.sum(1, keepdims=True), 1)
    relative = np.where(weights > 0, body - middle, np.nan)
    often = seen.mean(axis=0) >= 0.5
    spread = np.sqrt(np.nanvar(relative[:, often], axis=0).sum(-1)) if often.any() else np.zeros(1)
    return {
        "confidence": float(scores[seen].mean()) if seen.any() else 0.0,
        "motion": float(spread.mean() / torso),
        "person_height": float(np.median(heights)),
    }
