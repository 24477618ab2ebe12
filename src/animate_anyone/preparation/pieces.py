"""A source file looked through: that it can be read, its cuts, and the pieces that may become clips."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from animate_anyone.engines.engine import Resources
from animate_anyone.errors import InputError
from animate_anyone.media import PICTURE_SUFFIXES, Video, natural_order, open_video
from animate_anyone.media.video_reading import FOLDER_FPS
from animate_anyone.preparation.cuts import find_cuts, load_detector
from animate_anyone.preparation.settings import PrepareSettings
from animate_anyone.preparation.sources import Source
from animate_anyone.preparation.stage import Stage
from animate_anyone.structures import Picture

_ROUNDING = 1e-3  # frames that a shot may be shorter by than the shortest clip


class BrokenError(Exception):
    """A source that cannot be read; the message is the reason, in a few words."""


@dataclass(frozen=True)
class Piece:
    """Frames of a source without a cut, ``first`` to ``stop`` (left out); ``too_short`` for a clip or not."""

    first: int
    stop: int
    too_short: bool = False


@dataclass
class SourceFile:
    """What is known of a source so far.

    Attributes:
        source: where it is.
        settings: what is asked of clips.
        video: opened.
        sha256: of the file, or of all pictures of a folder; hexadecimal.
        pieces: in order.
    """

    source: Source
    settings: PrepareSettings
    video: Video | None = None
    sha256: str = ""
    pieces: list[Piece] = field(default_factory=list)


class OpenSource:
    """Opens the file, counts its frames and takes its digest."""

    name: ClassVar[str] = "open"
    inputs: ClassVar[tuple[str, ...]] = ("source",)
    outputs: ClassVar[tuple[str, ...]] = ("video", "sha256")
    resources: ClassVar[Resources] = Resources()

    def __call__(self, item: SourceFile) -> None:
        """Raises :class:`BrokenError`."""
        item.video = opened(item.source)
        if item.video.info.num_frames < 2:
            raise BrokenError("one frame, no video")
        item.sha256 = digest(item.source.path)


class FindPieces:
    """Reads the frames that are wanted, finds the cuts, and divides shots into pieces of allowed length."""

    name: ClassVar[str] = "cuts"
    inputs: ClassVar[tuple[str, ...]] = ("source", "settings", "video")
    outputs: ClassVar[tuple[str, ...]] = ("pieces",)
    resources: ClassVar[Resources] = Resources()

    def __init__(self) -> None:
        load_detector()

    def __call__(self, item: SourceFile) -> None:
        """Raises :class:`BrokenError` where a frame is damaged."""
        video = item.video
        assert video is not None
        start, end = item.settings.frames
        wanted = range(video.info.num_frames)[start:end]
        if not wanted:
            item.pieces = []
            return
        cuts = [wanted.start + cut for cut in find_cuts(readable(item.source.path, video, wanted))]
        times = source_times(item.source, video)
        fps = clip_fps(item.source, video, item.settings)
        edges = [wanted.start, *cuts, wanted.stop]
        item.pieces = [
            piece for first, stop in pairwise(edges) for piece in _divided(times, first, stop, fps, item.settings)
        ]


def source_stages() -> tuple[Stage, ...]:
    """What a source goes through, in order."""
    return OpenSource(), FindPieces()


def opened(source: Source) -> Video:
    """The source's video. Raises :class:`BrokenError`."""
    try:
        return open_video(source.path)
    except InputError as error:
        raise BrokenError(reason_of(error, source.path)) from None
    except OSError as error:
        raise BrokenError(error.strerror or "cannot be read") from None


@lru_cache(maxsize=1)
def opened_before(source: Source, stamp: tuple[int, ...]) -> Video:
    """As :func:`opened`; a source's clips, which follow each other, share it while its ``stamp`` stays."""
    return opened(source)


def readable(path: Path, video: Video, wanted: range | list[int]) -> Iterator[Picture]:
    """Some frames of a video, by increasing numbers. Raises :class:`BrokenError` where one is damaged."""
    try:
        for _, frame in video.frames(wanted):
            yield frame
    except InputError as error:
        raise BrokenError(reason_of(error, path)) from None


def reason_of(error: InputError, path: Path) -> str:
    """What is wrong with a file, without its name and without advice."""
    return str(error).removeprefix(f"{path}: ").split(";")[0]


def source_times(source: Source, video: Video) -> NDArray[np.float64]:
    """``(frames + 1,)`` seconds from the first frame: when each is shown, and the end of the last."""
    return video.times if source.fps is None else video.times * float(FOLDER_FPS / source.fps)


def clip_fps(source: Source, video: Video, settings: PrepareSettings) -> Fraction:
    """Frames per second of a source's clips."""
    return min(source.fps or video.info.fps, settings.fps)


def digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's pictures in their order, hexadecimal. Raises :class:`BrokenError`."""
    total = hashlib.sha256()
    files = [path]
    try:
        if path.is_dir():
            files = sorted((f for f in path.iterdir() if f.suffix.lower() in PICTURE_SUFFIXES), key=natural_order)
        for file in files:
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    total.update(block)
    except OSError as error:
        raise BrokenError(error.strerror or "cannot be read") from None
    return total.hexdigest()


def _divided(
    times: NDArray[np.float64], first: int, stop: int, fps: Fraction, settings: PrepareSettings
) -> Iterator[Piece]:
    """A shot in pieces of about equal length."""
    seconds = float(times[stop] - times[first])
    if seconds * float(fps) < settings.num_frames(fps) - _ROUNDING * float(fps):
        yield Piece(first, stop, too_short=True)
        return
    count = settings.num_pieces(seconds)
    wanted = times[first] + seconds * np.arange(count + 1) / count
    inner = np.searchsorted(times, wanted[1:-1] - 1e-6)
    edges = np.unique([first, *inner, stop])
    yield from (Piece(int(a), int(b)) for a, b in pairwise(edges))
