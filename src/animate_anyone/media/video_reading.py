"""Read videos frame by frame: upright, on their own clock, in memory that does not grow with length.

A video is a file (mp4, mov, mkv, webm, avi, gif, ...) or a folder of pictures. Times are seconds from
the first frame that is shown. Pixels are taken as square.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Colorspace, Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.media.pictures import PICTURE_SUFFIXES, check_size, read_picture

FOLDER_FPS = Fraction(24)  # a folder of pictures has no clock of its own
WANTED = "give a video (mp4, mov, mkv, webm, avi, gif) or a folder of pictures"
# Playlists and such, which name further files or addresses, are left out on purpose.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg,mp3,wav,flac,aac"
# Without these the colours come out a whole step of 255 too dark, at every reading.
_TO_RGB = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_UNSPECIFIED_MATRIX = 2  # AVCOL_SPC_UNSPECIFIED
_BROKEN = (av.error.FFmpegError, OSError)


@dataclass(frozen=True)
class VideoInfo:
    """What a video is, upright.

    Attributes:
        width, height: pixels, after ``rotation``.
        fps: frames per second; the average where frames are not evenly spaced.
        num_frames: frames that are shown; counted, not estimated.
        duration: seconds from the first frame to the end of the last.
        has_audio: whether there is a sound track.
        rotation: degrees that the stored pictures are turned by, anticlockwise: 0, 90, 180 or 270.
    """

    width: int
    height: int
    fps: Fraction
    num_frames: int
    duration: float
    has_audio: bool
    rotation: int


@dataclass(frozen=True)
class _Timeline:
    """When each frame is shown, found without decoding.

    ``pts`` (frames + 1,) int64 are ticks of ``time_base``, the last one the end of the last frame.
    ``exact``: decoded frames carry just these numbers. ``keys`` (key frames, 2) int64: when each is
    shown, and where to seek for it; empty where one cannot seek.
    """

    pts: NDArray[np.int64]
    time_base: Fraction
    exact: bool
    keys: NDArray[np.int64]

    @property
    def times(self) -> NDArray[np.float64]:
        return (self.pts - self.pts[0]) * float(self.time_base)


def probe(path: str | Path) -> VideoInfo:
    """Look at a video without decoding more than its first frame.

    Raises:
        InputError: missing, empty, not a video, cut off, without pictures, or too large.
    """
    path = Path(path)
    if os.path.isdir(path):
        files = _pictures_in(path)
        height, width = read_picture(files[0], min_side=1).shape[:2]
        return VideoInfo(width, height, FOLDER_FPS, len(files), float(len(files) / FOLDER_FPS), False, 0)
    with open_media(path) as container:
        rotation = _rotation(path, container, video_stream(path, container))
    with open_media(path) as container:
        stream = video_stream(path, container)
        timeline = _timeline(path, container, stream)
        num_frames, duration = len(timeline.pts) - 1, float(timeline.times[-1])
        fps = stream.average_rate or stream.guessed_rate or Fraction(0)
        if abs(fps * duration / num_frames - 1) > 0.05:  # uneven frames, or a header that says something else
            fps = Fraction(num_frames / duration).limit_denominator(1001)
        size = (stream.codec_context.width, stream.codec_context.height)
        width, height = size if rotation % 180 == 0 else size[::-1]
        return VideoInfo(width, height, fps, num_frames, duration, bool(container.streams.audio), rotation)


def frame_times(path: str | Path) -> NDArray[np.float64]:
    """When each frame is shown and when the last one ends: ``(frames + 1,)`` float64, seconds from the first.

    Raises :class:`InputError` as :func:`probe`.
    """
    path = Path(path)
    if os.path.isdir(path):
        return np.arange(len(_pictures_in(path)) + 1) / float(FOLDER_FPS)
    with open_media(path) as container:
        return _timeline(path, container, video_stream(path, container)).times


def parse_range(text: str) -> slice:
    """``"A:B"``, ``"A:"``, ``":B"`` or ``":"`` as a slice of frames: A is the first, B the first left out.

    Raises :class:`InputError` for anything else. Whether the video is long enough is seen by
    :func:`frame_range`.
    """
    found = re.fullmatch(r"\s*(\d*)\s*:\s*(\d*)\s*", text, re.ASCII)
    if found is None:
        raise InputError(f"--frames {text}: give A:B, A: or :B, counted from 0, B left out, such as 0:48")
    first, last = (int(number) if number else None for number in found.groups())
    return slice(first, last)


def frame_range(frames: slice | range | None, num_frames: int, source: str | Path) -> range:
    """Hold a choice of frames against what there is.

    Args:
        frames: a choice; ``None`` means all. Steps over 1 leave frames out.
        num_frames: how many frames ``source`` has.
        source: named in the error.

    Returns:
        A range inside ``range(num_frames)``, not empty.

    Raises:
        InputError: the choice is empty, negative, or reaches past the end.
    """
    if frames is None:
        frames = slice(None)
    first = 0 if frames.start is None else frames.start
    last = num_frames if frames.stop is None else frames.stop
    step = 1 if frames.step is None else frames.step
    if not (0 <= first < last <= num_frames and step >= 1):
        raise InputError(
            f"--frames {first}:{last}: {source} has {num_frames} frames; give A:B with 0 <= A < B <= {num_frames}"
        )
    return range(first, last, step)


def read_frames(path: str | Path, frames: slice | range | None = None) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Read frames of a video one after another.

    Args:
        path: a video file or a folder of pictures.
        frames: which, counted from 0 in the order they are shown; ``None`` for all.

    Returns:
        Pairs of seconds since the video's first frame (not the range's) and ``(height, width, 3)``
        uint8, RGB, upright. What can be checked without decoding is checked before this returns.

    Raises:
        InputError: as :func:`probe` and :func:`frame_range`; while reading, for a frame that is
            damaged or missing, by its number. A video is never silently shortened.
    """
    path = Path(path)
    if os.path.isdir(path):
        files = _pictures_in(path)
        return _folder_frames(files, frame_range(frames, len(files), path))
    with open_media(path) as container:
        timeline = _timeline(path, container, video_stream(path, container))
    return _file_frames(path, timeline, frame_range(frames, len(timeline.pts) - 1, path))


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """A container of video, sound or both, open for reading. Raises :class:`InputError`."""
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file; {WANTED}")
    if not path.is_file() or path.stat().st_size == 0:
        raise InputError(f"{path}: {'the file is empty' if path.is_file() else 'is no file'}; {WANTED}")
    try:
        container = av.open(
            f"file:{path}",  # so that a colon in a name is no protocol
            metadata_errors="replace",
            options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"},
        )
    except PermissionError:
        raise InputError(f"{path}: not allowed to read it; change its permissions or {WANTED}") from None
    except (*_BROKEN, ValueError):
        _refuse(path)
    with container:
        yield container


def _refuse(path: Path) -> NoReturn:
    """Say why a file could not be opened, from its name and first bytes."""
    with path.open("rb") as file:
        start = file.read(12)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        raise InputError(f"{path}: is a picture, not a video; {WANTED}")
    if start[4:8] in (b"ftyp", b"moov", b"mdat"):
        raise InputError(f"{path}: the file is cut off, its index (moov) is missing; copy or download it again")
    raise InputError(f"{path}: not a video; {WANTED}")


def video_stream(path: Path, container: InputContainer) -> VideoStream:
    """The moving pictures of a container, a cover picture not counted. Raises :class:`InputError`."""
    streams = _moving_pictures(container)
    if not streams:
        raise InputError(f"{path}: holds no video stream, only sound; {WANTED}")
    stream = streams[0]
    if stream.codec_context is None:
        raise InputError(f"{path}: its video codec is unknown here; convert it to h264")
    check_size(path, stream.codec_context.width, stream.codec_context.height)
    stream.thread_type = "AUTO"
    return stream


def _moving_pictures(container: InputContainer) -> list[VideoStream]:
    return [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]


def first_picture(path: Path, container: InputContainer) -> Fraction:
    """When the first frame is shown, seconds on the file's own clock; 0 where there are no pictures."""
    if not _moving_pictures(container):
        return Fraction(0)
    timeline = _timeline(path, container, video_stream(path, container))
    return int(timeline.pts[0]) * timeline.time_base


def _timeline(path: Path, container: InputContainer, stream: VideoStream) -> _Timeline:
    """Go through all packets, decoding none."""
    ticks: list[int] = []
    keys: list[tuple[int, int]] = []
    packets, end, exact, started = 0, 0, True, False
    try:
        for packet in container.demux(stream):
            tick = packet.dts if packet.pts is None else packet.pts
            if packet.size == 0 and tick is None:  # the end
                continue
            packets += 1
            if tick is None:
                raise InputError(f"{path}: its frames carry no times; convert it to mp4")
            if packet.size == 0:  # AVI's way of showing the frame before once more
                continue
            exact = exact and packet.pts is not None
            if packet.is_keyframe:
                started = True
                keys.append((tick, tick if packet.dts is None else min(tick, packet.dts)))
            if started and not packet.is_discard:
                ticks.append(tick)
                end = max(end, tick + (packet.duration or 0))
    except _BROKEN as error:
        raise InputError(f"{path}: broken after frame {len(ticks)} ({error.strerror}); copy it again") from None
    trusted = container.format.name.startswith("mov")  # others count frames loosely, or not at all
    counted = stream.frames if trusted else 0
    if counted > packets or not _segment_is_whole(path):
        promised = f" of {counted}" if counted else ""
        raise InputError(f"{path}: the file is cut off after frame {packets}{promised}; copy or download it again")
    if not ticks:
        raise InputError(f"{path}: its video stream has no frames; {WANTED}")
    pts = np.sort(np.array(ticks, np.int64))
    pts = pts[pts >= keys[0][0]]  # nothing can be shown before the first whole picture
    gaps = np.diff(pts)
    exact = exact and bool((gaps > 0).all()) and container.format.name != "avi"  # whose numbers are in storage order
    if end <= pts[-1]:
        end = int(pts[-1] + max(1, np.median(gaps) if len(gaps) else 0))
    if not exact or not container.format.name.startswith(("mov", "matroska")):  # the others keep no index
        keys = []
    table = np.array(sorted(keys), np.int64).reshape(-1, 2)
    return _Timeline(np.append(pts, end), stream.time_base or Fraction(1, 90000), exact, table)


def _segment_is_whole(path: Path) -> bool:
    """Whether a Matroska file is as long as its outermost element says; true for other files.

    Its header counts no frames, so that a cut would go unseen. A live recording states no size.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    at = head.find(b"\x18\x53\x80\x67") + 4  # the element's name; its size follows, in 1 to 8 bytes
    if not head.startswith(b"\x1a\x45\xdf\xa3") or at < 4 or at >= len(head) or head[at] == 0:
        return True
    length = 9 - head[at].bit_length()
    largest = (1 << 7 * length) - 1
    size = int.from_bytes(head[at : at + length], "big") & largest
    return size == largest or at + length + size <= path.stat().st_size


def _rotation(path: Path, container: InputContainer, stream: VideoStream) -> int:
    frame = next(_decoded(container, stream), None)
    if frame is None:
        raise InputError(f"{path}: none of its frames can be decoded; copy the file again or convert it to mp4")
    return round(frame.rotation / 90) * 90 % 360


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Frames in the order they are shown, from where the container stands; broken ones are left out.

    Decoders report an error several frames early. Going on, one sees which frame is missing.
    """
    for packet in container.demux(stream):
        with suppress(*_BROKEN):
            yield from packet.decode()


def _file_frames(path: Path, timeline: _Timeline, wanted: range) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    times = timeline.times
    with open_media(path) as container:
        stream = video_stream(path, container)
        number = 0
        before = np.searchsorted(timeline.keys[:, 0], timeline.pts[wanted[0]], side="right") - 1
        if wanted[0] > 0 and before >= 0:  # what is shown from a key frame on can be decoded from there
            container.seek(int(timeline.keys[before, 1]), stream=stream)
            number = wanted[0]
        size = (stream.codec_context.width, stream.codec_context.height)
        decoded = _decoded(container, stream)
        while number < wanted.stop:
            frame = next(decoded, None)
            if frame is not None and timeline.exact and (frame.pts or 0) < timeline.pts[number]:
                continue  # between the key frame and the first one wanted
            if frame is None or frame.is_corrupt or (timeline.exact and frame.pts != timeline.pts[number]):
                raise InputError(f"{path}: damaged at frame {number}; copy it again, or leave that out with --frames")
            if (frame.width, frame.height) != size:
                raise InputError(f"{path}: changes its size at frame {number}; convert it to one size")
            if number in wanted:
                yield float(times[number]), _upright(frame)
            number += 1


def _upright(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Decoded frame → RGB. Untagged HD is read with the HD matrix (BT.709), as players do."""
    untagged_hd = frame.colorspace == _UNSPECIFIED_MATRIX and (frame.width >= 1280 or frame.height > 576)
    matrix = Colorspace.ITU709 if untagged_hd else None  # None: as the frame says
    picture = frame.to_ndarray(format="rgb24", src_colorspace=matrix, interpolation=_TO_RGB)
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))


def _pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, numbers in their names counted as numbers: 2.png before 10.png."""
    files = [f for f in folder.iterdir() if f.suffix.lower() in PICTURE_SUFFIXES and not f.name.startswith(".")]
    if not files:
        raise InputError(f"{folder}: no pictures in this folder; {WANTED}")
    return sorted(files, key=lambda f: [int(p) if k % 2 else p for k, p in enumerate(re.split(r"([0-9]+)", f.name))])


def _folder_frames(files: list[Path], wanted: range) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    shape = None
    for number in wanted:
        picture = read_picture(files[number], min_side=1)
        shape = shape or picture.shape
        if picture.shape != shape:
            raise InputError(
                f"{files[number]}: {picture.shape[1]}×{picture.shape[0]} pixels, but the first frame has "
                f"{shape[1]}×{shape[0]}; give frames of one size"
            )
        yield float(number / FOLDER_FPS), picture
