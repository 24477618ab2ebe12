"""Read videos frame by frame: upright, on their own clock, in memory that does not grow with length.

A video is a file (mp4, mov, mkv, webm, avi, gif, ...) or a folder of pictures. Times are seconds from
the first frame that is shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from animate_anyone.errors import InputError, shortened
from animate_anyone.media.opening import BROKEN, WANTED, open_media, video_stream
from animate_anyone.media.pictures import PICTURE_SUFFIXES, read_picture
from animate_anyone.media.shown import BACKGROUND, Shown, decoder_of, remarks_on
from animate_anyone.media.sound import Sound, SoundChoice
from animate_anyone.media.timeline import Timeline, read_timeline
from animate_anyone.structures import Picture

FOLDER_FPS = Fraction(24)  # a folder of pictures has no clock of its own


@dataclass(frozen=True)
class VideoInfo:
    """What a video is, upright.

    Attributes:
        width, height: pixels as shown: square, after ``rotation``.
        fps: frames per second; the average where frames are not evenly spaced.
        num_frames: frames that are shown; counted, not estimated.
        duration: seconds from the first frame to the end of the last.
        has_audio: whether there is a sound track.
        rotation: degrees that the stored pictures are turned by, anticlockwise: 0, 90, 180 or 270. For mirrored
            pictures, what the file's matrix gives as its angle.
    """

    width: int
    height: int
    fps: Fraction
    num_frames: int
    duration: float
    has_audio: bool
    rotation: int


@dataclass(frozen=True)
class Video:
    """A video that was looked through once; its frames are read as often as one likes.

    Attributes:
        path: a file or a folder of pictures.
        info: size, rate and length.
        times: ``(frames + 1,)`` float64, when each frame is shown and when the last one ends, seconds from the first.
        sound: the sound track that can be used; ``None`` where there is none.
        remarks: what is unusual about it and what is done about it, lines for the user.
    """

    path: Path
    info: VideoInfo
    times: NDArray[np.float64]
    sound: Sound | None = None
    remarks: tuple[str, ...] = ()
    timeline: Timeline | None = None
    shown: Shown | None = None

    def frames(self, wanted: Sequence[int]) -> Iterator[tuple[float, Picture]]:
        """Some frames, by increasing numbers, each with its time; see :func:`read_frames`."""
        if self.timeline is None or self.shown is None:
            return _folder_frames(_pictures_in(self.path), wanted)
        return self._file_frames(self.timeline, self.shown, wanted)

    def _file_frames(self, timeline: Timeline, shown: Shown, wanted: Sequence[int]) -> Iterator[tuple[float, Picture]]:
        with open_media(self.path) as container:
            stream = video_stream(self.path, container)
            decoder = decoder_of(stream)
            decoded, number = _decoded(container, stream, decoder), 0
            for want in wanted:
                before = np.searchsorted(timeline.keys[:, 0], timeline.pts[want], side="right") - 1
                if before >= 0 and timeline.keys[before, 0] > timeline.pts[number]:
                    # What is shown from a key frame on can be decoded from there.
                    container.seek(int(timeline.keys[before, 1]), stream=stream)
                    decoder.flush_buffers()
                    decoded, number = _decoded(container, stream, decoder), want
                while number <= want:
                    frame = next(decoded, None)
                    if frame is not None and timeline.exact and (frame.pts or 0) < timeline.pts[number]:
                        continue  # between the key frame and the first one wanted
                    if frame is None or frame.is_corrupt or (timeline.exact and frame.pts != timeline.pts[number]):
                        raise InputError(
                            f"{self.path}: damaged at frame {number}; copy it again, or leave that out with --frames"
                        )
                    if (frame.width, frame.height) != shown.size:
                        raise InputError(f"{self.path}: changes its size at frame {number}; convert it to one size")
                    if number == want:
                        yield float(self.times[number]), shown.picture(self.path, frame)
                    number += 1


def open_video(path: str | Path) -> Video:
    """Look a video through, once: all its packets, of which only the first frame and some sound are decoded.

    Raises:
        InputError: missing, empty, not a video, cut off, without pictures, or too large.
    """
    path = Path(path)
    if os.path.isdir(path):
        files = _pictures_in(path)
        height, width = read_picture(files[0], BACKGROUND, min_side=1).shape[:2]
        times = np.arange(len(files) + 1) / float(FOLDER_FPS)
        return Video(path, VideoInfo(width, height, FOLDER_FPS, len(files), float(times[-1]), False, 0), times)
    with open_media(path) as container:
        stream = video_stream(path, container)
        choice = SoundChoice(path, container)
        first: list[av.VideoFrame] = []
        packets = container.demux(stream, *container.streams.audio)
        timeline = read_timeline(path, container, stream, _pictures_of(stream, packets, choice, first))
        if not first:
            raise InputError(f"{path}: none of its frames can be decoded; copy the file again or convert it to mp4")
        shown = Shown.by(path, first[0], stream)
        shown.picture(path, first[0])  # its colours can be converted
        remarks = remarks_on(first[0], stream, shown)
        has_audio = bool(container.streams.audio)
    if timeline.num_skipped:
        remarks.append(
            f"video: it starts without a key frame; {timeline.num_skipped} frames that cannot be shown are left out"
        )
    sound, remark = choice.made(timeline.start)
    info = VideoInfo(*shown.outer, timeline.fps, len(timeline), float(timeline.times[-1]), has_audio, shown.rotation)
    remarks += [remark] if remark else []
    return Video(path, info, timeline.times, sound, tuple(remarks), timeline, shown)


def _pictures_of(
    stream: VideoStream, packets: Iterable[av.Packet], choice: SoundChoice, first: list[av.VideoFrame]
) -> Iterator[av.Packet[VideoStream]]:
    """The packets of a video stream. On the way the first frame is decoded, into ``first``, and the sound tried."""
    decoder = decoder_of(stream)
    for packet in packets:
        if packet.stream_index != stream.index:
            choice.hear(packet)
            continue
        if not first:
            with suppress(*BROKEN):
                first += decoder.decode(packet)[:1]
        yield packet


def probe(path: str | Path) -> VideoInfo:
    """What a video is, without decoding more than its first frame. Raises :class:`InputError` as :func:`open_video`."""
    return open_video(path).info


def frame_times(path: str | Path) -> NDArray[np.float64]:
    """When each frame is shown and when the last one ends: ``(frames + 1,)`` float64, seconds from the first.

    Raises :class:`InputError` as :func:`open_video`.
    """
    return open_video(path).times


def parse_range(text: str) -> slice:
    """``"A:B"``, ``"A:"``, ``":B"`` or ``":"`` as a slice of frames: A is the first, B the first left out.

    Raises :class:`InputError` for anything else. Whether the video is long enough is seen by
    :func:`frame_range`.
    """
    found = re.fullmatch(r"\s*(\d{0,9})\s*:\s*(\d{0,9})\s*", text, re.ASCII)
    if found is None:
        raise InputError(f"--frames {shortened(text)}: give A:B, A: or :B, counted from 0, B left out, such as 0:48")
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
    chosen = slice(None) if frames is None else frames
    given, usual = (chosen.start, chosen.stop, chosen.step), (0, num_frames, 1)
    first, last, step = (b if a is None else a for a, b in zip(given, usual, strict=True))
    if not (0 <= first < last <= num_frames and step >= 1):
        raise InputError(
            f"--frames {first}:{last}: {source} has {num_frames} frames; give A:B with 0 <= A < B <= {num_frames}"
        )
    return range(first, last, step)


def read_frames(path: str | Path, frames: slice | range | None = None) -> Iterator[tuple[float, Picture]]:
    """Read frames of a video one after another.

    Args:
        path: a video file or a folder of pictures.
        frames: which, counted from 0 in the order they are shown; ``None`` for all.

    Returns:
        Pairs of seconds since the video's first frame (not the range's) and ``(height, width, 3)``
        uint8, RGB, upright. What can be checked without decoding is checked before this returns.

    Raises:
        InputError: as :func:`open_video` and :func:`frame_range`; while reading, for a frame that is
            damaged or missing, by its number. A video is never silently shortened.
    """
    video = open_video(path)
    return video.frames(frame_range(frames, video.info.num_frames, path))


def _decoded(
    container: av.container.InputContainer, stream: VideoStream, decoder: av.VideoCodecContext
) -> Iterator[av.VideoFrame]:
    """Frames in the order they are shown, from where the container stands; broken ones are left out.

    Decoders report an error several frames early. Going on, one sees which frame is missing.
    """
    for packet in container.demux(stream):
        with suppress(*BROKEN):
            yield from decoder.decode(packet)


def _pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, in :func:`natural_order`."""
    files = [f for f in folder.iterdir() if f.suffix.lower() in PICTURE_SUFFIXES and not f.name.startswith(".")]
    if not files:
        raise InputError(f"{folder}: no pictures in this folder; {WANTED}")
    return sorted(files, key=natural_order)


def natural_order(file: Path) -> list[int | str]:
    """A key to sort files by, numbers in their names counted as numbers: 2.png before 10.png."""
    return [int(part) if k % 2 else part for k, part in enumerate(re.split(r"([0-9]+)", file.name))]


def _folder_frames(files: list[Path], wanted: Sequence[int]) -> Iterator[tuple[float, Picture]]:
    shape = None
    for number in wanted:
        picture = read_picture(files[number], BACKGROUND, min_side=1)
        shape = shape or picture.shape
        if picture.shape != shape:
            raise InputError(
                f"{files[number]}: {picture.shape[1]}×{picture.shape[0]} pixels, but the first frame has "
                f"{shape[1]}×{shape[0]}; give frames of one size"
            )
        yield float(number / FOLDER_FPS), picture
