"""Records that packages exchange: typed, frozen, checked when made.

Layouts: keypoints are pixels of a stated frame size, x right, y down, the centre of the top left
pixel at (0.5, 0.5). Pictures are ``uint8`` arrays ``(height, width, 3)``, RGB.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.system.frame_sequence import FrameSequence, MadeFrames
from animate_anyone.system.whole_files import whole_file

Picture = NDArray[np.uint8]
"""``(height, width, 3)``, RGB; of several frames ``(frames, height, width, 3)``."""
Mask = NDArray[np.bool_]
"""``(height, width)``, true on the thing; of several frames ``(frames, height, width)``."""
Plane = NDArray[np.float32]
"""``(height, width)``, one value a pixel."""
Pictures = Picture | FrameSequence[np.uint8]
"""``(frames, height, width, 3)``, RGB: an array, or a sequence that reads or makes a frame when asked for."""
Masks = Mask | FrameSequence[np.bool_]
"""``(frames, height, width)``, true on the thing: an array, or a sequence."""
Size = tuple[int, int]
"""``(width, height)``, pixels."""

# One person is 128 points: OpenPose's 18 of the body, 21 of each hand, 68 of the face.
# "Left" is the person's own left. Names, limbs and colours: conditions/skeleton.py.
BODY = slice(0, 18)
LEFT_HAND = slice(18, 39)
RIGHT_HAND = slice(39, 60)
FACE = slice(60, 128)
NUM_KEYPOINTS = 128

SLOWEST, FASTEST = Fraction(1, 1001), Fraction(1000)
"""Nominal frame rates: what lies beyond is somebody's mistake."""


@dataclass(frozen=True)
class PoseSequence:
    """The poses of one person over time, as vectors.

    Attributes:
        keypoints: ``(frames, 128, 2)`` float32, pixels of a frame of ``size``. Points that were
            not found hold any finite value; their score is 0.
        scores: ``(frames, 128)`` float32 in [0, 1]; 0 means "not there".
        size: ``(width, height)`` of the frame that the pixels refer to.
        fps: nominal frame rate, frames per second.
        times: ``(frames,)`` float64, seconds from the first frame, increasing; ``None`` where the
            frames are evenly spaced at ``fps``.
        depth: ``(frames, 128)`` float32 or ``None``: distance along the viewing direction, larger
            is farther, zero at the middle of the hips, in units of ``size[1]`` (frame heights).
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    size: Size
    fps: Fraction = Fraction(24)
    times: NDArray[np.float64] | None = None
    depth: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        frames = len(self.keypoints)
        for name, want in (
            ("keypoints", (frames, NUM_KEYPOINTS, 2)),
            ("scores", (frames, NUM_KEYPOINTS)),
            ("times", (frames,)),
            ("depth", (frames, NUM_KEYPOINTS)),
        ):
            value = getattr(self, name)
            if value is not None and value.shape != want:
                raise InputError(f"PoseSequence.{name} has shape {value.shape}; it must be {want}")
        if not np.isfinite(self.keypoints).all() or not np.isfinite(self.scores).all():
            raise InputError("PoseSequence holds values that are not finite; mark missing points by score 0")

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, frames: slice | NDArray[np.intp]) -> PoseSequence:
        """The poses of some frames, a slice or their numbers; times start again at zero."""
        times = None if self.times is None else self.times[frames]
        if times is not None and len(times):
            times = times - times[0]
        return replace(
            self,
            keypoints=self.keypoints[frames],
            scores=self.scores[frames],
            times=times,
            depth=None if self.depth is None else self.depth[frames],
        )

    @property
    def seconds(self) -> NDArray[np.float64]:
        """``(frames,)``: ``times``, or where there are none the even times of ``fps``."""
        return np.arange(len(self)) / float(self.fps) if self.times is None else self.times

    def scaled_to(self, size: Size) -> PoseSequence:
        """The same poses in pixels of another frame size ``(width, height)``; axes scale apart."""
        factor = np.array([size[0] / self.size[0], size[1] / self.size[1]], np.float32)
        return replace(self, keypoints=self.keypoints * factor, size=size)

    def save(self, file: str | Path | IO[bytes]) -> None:
        """Write a ``.npz`` (a path, or an open file) that :meth:`load` reads; no pickle inside.

        A path gets the ending ``.npz`` where it has not, and the file appears only when complete. Raises
        :class:`InputError` where it cannot be written.
        """
        content = io.BytesIO()  # an archive that cannot be ended leaves a file open, and complains of it later
        optional = {n: v for n in ("times", "depth") if (v := getattr(self, n)) is not None}
        np.savez_compressed(
            content,
            keypoints=self.keypoints,
            scores=self.scores,
            size=np.array(self.size, np.int64),
            fps=np.array([self.fps.numerator, self.fps.denominator], np.int64),
            **optional,
        )
        if not isinstance(file, str | Path):
            file.write(content.getvalue())
            return
        with whole_file(file if str(file).endswith(".npz") else f"{file}.npz") as part:
            part.write_bytes(content.getvalue())

    @classmethod
    def load(cls, path: str | Path | IO[bytes]) -> PoseSequence:
        """Read what :meth:`save` wrote, a path or an open file. Raises :class:`InputError` for anything else."""
        try:
            with np.load(path, allow_pickle=False) as f:
                width, height = (int(v) for v in f["size"])
                poses = cls(
                    keypoints=f["keypoints"].astype(np.float32),
                    scores=f["scores"].astype(np.float32),
                    size=(width, height),
                    fps=Fraction(int(f["fps"][0]), int(f["fps"][1])),
                    times=f["times"].astype(np.float64) if "times" in f else None,
                    depth=f["depth"].astype(np.float32) if "depth" in f else None,
                )
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; give a .npz made by `animate-anyone pose`") from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except Exception:  # of a damaged archive: zipfile, zlib, NumPy and the parser of its headers raise many
            raise InputError(f"{path}: not a pose file; give a .npz made by `animate-anyone pose`") from None
        times = np.zeros(0) if poses.times is None else poses.times
        ordered = bool(np.isfinite(times).all() and (np.diff(times) > 0).all())
        if len(poses) < 1 or min(poses.size) < 1 or not SLOWEST <= poses.fps <= FASTEST or not ordered:
            raise InputError(
                f"{path}: no usable poses; they need frames, a size, a rate from 1/1001 to 1000 and increasing times"
            )
        return poses


@dataclass(frozen=True)
class Subject:
    """The character: one picture of it and the pose it has there.

    Attributes:
        picture: ``(height, width, 3)`` uint8, RGB.
        pose: a :class:`PoseSequence` of one frame, in pixels of ``picture``; ``None`` where no
            person was found in it.
        silhouette: ``(height, width)`` bool, the person in it; ``None`` where that is not known.
    """

    picture: Picture
    pose: PoseSequence | None
    silhouette: Mask | None = None


@dataclass(frozen=True)
class MaskTrack:
    """Where one thing, a person or an object, is over time.

    Attributes:
        masks: ``(frames, height, width)`` bool, true on the thing; all false in a frame without it. An array, or a
            sequence of frames.
        name: what it is called in reports.
        flagged: frames whose mask may be wrong, ``(frame, reason)``, in order of the frames.
    """

    masks: Masks
    name: str = "person"
    flagged: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        if self.masks.ndim != 3 or self.masks.dtype != bool:
            raise InputError(
                f"MaskTrack.masks is {self.masks.dtype} {self.masks.shape}; it must be bool (frames, height, width)"
            )

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def areas(self) -> NDArray[np.float64]:
        """``(frames,)``: share of the frame that is covered, in [0, 1]."""
        return np.array([mask.mean() for mask in self.masks], np.float64)

    @property
    def there(self) -> NDArray[np.bool_]:
        """``(frames,)``: whether anything of the frame is covered."""
        return np.array([mask.any() for mask in self.masks], bool)

    def lines(self) -> list[str]:
        """The flagged frames for the user, one line a reason; none where no frame is flagged."""
        frames: dict[str, list[int]] = {}
        for frame, reason in self.flagged:
            frames.setdefault(reason, []).append(frame)
        return [f"{self.name}: {reason} in frame {', '.join(map(str, found))}" for reason, found in frames.items()]


@dataclass(frozen=True)
class Scene:
    """A source video taken apart (Animate Anyone 2): motion, character's place, objects; all of one length.

    Attributes:
        frames: ``(frames, height, width, 3)`` uint8, RGB: an array, or a sequence of frames.
        pose: the person's, in pixels of the frames.
        person: where the person is.
        objects: the things that the person holds or touches.
    """

    frames: Pictures
    pose: PoseSequence
    person: MaskTrack
    objects: tuple[MaskTrack, ...] = ()

    def __post_init__(self) -> None:
        size = (self.frames.shape[2], self.frames.shape[1])
        if len(self.pose) != len(self.frames) or self.pose.size != size:
            raise InputError(
                f"Scene.pose has {len(self.pose)} frames of {self.pose.size}; it must have {len(self.frames)} of {size}"
            )
        for track in (self.person, *self.objects):
            if track.masks.shape != self.frames.shape[:3]:
                raise InputError(
                    f"Scene: masks of {track.name} have shape {track.masks.shape}; it must be {self.frames.shape[:3]}"
                )

    def object_masks(self) -> Mask:
        """``(objects, frames, height, width)``; no object is ``(0, ...)``."""
        return np.array([track.masks for track in self.objects], bool).reshape(-1, *self.frames.shape[:3])

    def any_object(self) -> Masks:
        """``(frames, height, width)``: where any of the objects is."""
        _, *size = self.person.masks.shape

        def union(number: int) -> Mask:
            whole = np.zeros(size, bool)
            for track in self.objects:
                whole |= track.masks[number]
            return whole

        return MadeFrames(len(self.frames), size, bool, union)


@dataclass(frozen=True)
class ObjectMark:
    """Where an object is in one frame; a box, points, or both.

    Attributes:
        name: the object; marks of one name are one object.
        frame: number of the frame, from 0.
        box: left, top, right, bottom, pixels of the frame.
        points: ``(x, y)`` pixels on the object.
        outside: ``(x, y)`` pixels that are not on it.
        lifetime: first and last frame in which the object is there at all; ``None`` for all.
    """

    name: str
    frame: int
    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float], ...] = ()
    outside: tuple[tuple[float, float], ...] = ()
    lifetime: tuple[int, int] | None = None
