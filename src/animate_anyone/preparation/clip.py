"""A piece of a source on its way to a clip of the data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.conditions.crop_scene import Crop
from animate_anyone.media import Video
from animate_anyone.perception.person.people import TrackedPerson
from animate_anyone.perception.pose.frames_in_reach import FramesInReach
from animate_anyone.preparation.pieces import Piece, clip_fps, readable, source_times
from animate_anyone.preparation.settings import PrepareSettings
from animate_anyone.preparation.sources import Source
from animate_anyone.structures import Picture, PoseSequence, Size

_REACH = 1.8  # seconds of frames that are held while the person is tracked


class ClipFrames:
    """The frames of a piece at the clip's own rate, read as often as one likes.

    Attributes:
        fps: frames per second.
        index: ``(frames,)``: which frame of the source each one shows, not decreasing.
        size: ``(width, height)`` of the source's frames.
    """

    def __init__(self, source: Source, video: Video, piece: Piece, settings: PrepareSettings) -> None:
        times = source_times(source, video)
        own = times[piece.first : piece.stop + 1] - times[piece.first]
        self._path, self._video = source.path, video
        self.fps: Fraction = clip_fps(source, video, settings)
        self.size: Size = (video.info.width, video.info.height)
        shown = np.arange(max(1, round(own[-1] * float(self.fps)))) / float(self.fps)
        positions = np.searchsorted(own[:-1], shown + 1e-6, side="right") - 1
        self.index: NDArray[np.intp] = (piece.first + positions.clip(0, len(own) - 2)).astype(np.intp)

    def __len__(self) -> int:
        return len(self.index)

    def keep(self, first: int, stop: int) -> None:
        """From now on only the frames ``first`` to ``stop`` (left out) of these are the clip's."""
        self.index = self.index[first:stop]

    def read(self, start: int = 0) -> Iterator[Picture]:
        """Frames from the number ``start`` on, ``(height, width, 3)`` uint8, RGB."""
        return self.some(range(start, len(self)))

    def some(self, numbers: range | list[int]) -> Iterator[Picture]:
        """Frames of increasing numbers."""
        positions, times = np.unique(self.index[list(numbers)], return_counts=True)
        frames = readable(self._path, self._video, [int(position) for position in positions])
        for frame, count in zip(frames, times, strict=True):
            for _ in range(count):
                yield frame

    def in_reach(self) -> FramesInReach:
        """Frames by number; as many stay at hand as tracking goes back."""
        return FramesInReach(self.read, len(self), kept=round(_REACH * float(self.fps)) + 2)


@dataclass
class Clip:
    """What is known of a piece so far.

    Attributes:
        id: name of its files, unique in the data set.
        source, piece, settings: where it comes from and what is asked of it.
        folder: the data set.
        frames: its frames; from :class:`CheckPerson` on only those with the person.
        tracked: the person's poses, as the estimator has them.
        next_largest: torso of the largest of the others over the person's, the median of frames looked at; or 0.
        poses: cleaned, in pixels of the source's frames, as many as ``frames``.
        figures: for the manifest: ``confidence``, ``motion``, ``person_height``.
        crop: the part of every frame that the clip shows.
        size: ``(width, height)`` of the clip.
        files: what was written: path in the data set by kind (``video``, ``poses``, ``masks``, ``thumbnail``).
    """

    id: str
    source: Source
    piece: Piece
    settings: PrepareSettings
    folder: Path
    frames: ClipFrames | None = None
    tracked: TrackedPerson | None = None
    next_largest: float = 0.0
    poses: PoseSequence | None = None
    figures: dict[str, float] = field(default_factory=dict)
    crop: Crop | None = None
    size: Size = (0, 0)
    files: dict[str, str] = field(default_factory=dict)

    def pictures(self) -> Iterator[Picture]:
        """The frames as the clip shows them: cropped, and scaled down where they are larger than asked."""
        assert self.frames is not None and self.crop is not None
        rows, columns = self.crop.part
        for frame in self.frames.read():
            part = np.ascontiguousarray(frame[rows, columns])
            if part.shape[1::-1] != self.size:
                part = np.asarray(Image.fromarray(part).resize(self.size, Image.Resampling.BOX))
            yield part

    def cropped_poses(self) -> PoseSequence:
        """The poses in pixels of the clip."""
        assert self.poses is not None and self.crop is not None
        return replace(self.crop.move(self.poses).scaled_to(self.size), times=None)  # the clip has its own rate

    def entry(self) -> dict[str, Any]:
        """What the manifest says of it so far, without digests."""
        about: dict[str, Any] = {"first": self.piece.first, "stop": self.piece.stop}
        if self.frames is not None:
            index = self.frames.index
            about |= {"first": int(index[0]), "stop": int(index[-1]) + 1}
        return about | {name: round(figure, 4) for name, figure in self.figures.items()}
