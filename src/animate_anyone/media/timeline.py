"""When each frame of a video file is shown, found without decoding it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.media.opening import BROKEN, WANTED
from animate_anyone.structures import FASTEST, SLOWEST

SHORTEST = 0.001
"""Seconds that a frame is shown at least: as much as the clock of every container tells apart."""
_PAUSE = 10  # times as long as most frames


@dataclass(frozen=True)
class Timeline:
    """When each frame is shown.

    Attributes:
        pts: ``(frames,)`` int64, ticks of ``time_base``, not decreasing.
        time_base: seconds of a tick.
        times: ``(frames + 1,)`` float64, seconds from the first frame, increasing; the last is the end of the last
            frame.
        exact: decoded frames carry just these ``pts``; otherwise they are known by their order alone.
        keys: ``(key frames, 2)`` int64: when each is shown, and where to seek for it; empty where one cannot seek.
        rates: frames per second as the file's header or its first frames have it, the better first.
        num_skipped: frames before the first key frame, which nothing can show.
    """

    pts: NDArray[np.int64]
    time_base: Fraction
    times: NDArray[np.float64]
    exact: bool
    keys: NDArray[np.int64]
    rates: tuple[Fraction, ...]
    num_skipped: int

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def start(self) -> Fraction:
        """When the first frame is shown, seconds on the file's own clock."""
        return int(self.pts[0]) * self.time_base

    @property
    def fps(self) -> Fraction:
        """Frames per second: the header's, or the average where frames say otherwise.

        Pauses, and a last frame that is held far longer than any other, as screen recorders do, do not count.
        """
        gaps = np.diff(self.times)
        if len(gaps) > 1 and gaps[-1] > 2 * gaps[:-1].max():
            gaps = gaps[:-1]
        gap = float(gaps[gaps <= _PAUSE * np.median(gaps)].mean())
        stated = (rate for rate in self.rates if abs(rate * gap - 1) <= 0.05)
        return next(stated, max(SLOWEST, Fraction(1 / gap).limit_denominator(1001)))


def read_timeline(
    path: Path, container: InputContainer, stream: VideoStream, packets: Iterable[av.Packet[VideoStream]]
) -> Timeline:
    """Go through all packets of a stream, ``packets``, from the container's beginning.

    Raises :class:`InputError`: cut off, broken, without frames or key frames.
    """
    ticks: list[int] = []
    keys: list[tuple[int, int]] = []
    lengths: list[int] = []  # ticks; 0 where a packet says nothing
    count, exact, num_skipped = 0, True, 0
    time_base = stream.time_base or Fraction(1, 90000)
    stated = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    rates = tuple(rate for rate in stated if rate and rate < FASTEST)  # from there on it is a clock's
    rate = rates[0] if rates and rates[0] in stated[:2] else Fraction(0)  # the last is no more than a fine clock
    step = max(1, round(1 / (rate * time_base))) if rate else 1
    expected = 0  # the tick of a packet that carries none
    try:
        for packet in packets:
            tick = packet.dts if packet.pts is None else packet.pts
            if packet.size == 0 and tick is None:  # the end
                continue
            count += 1
            exact = exact and packet.pts is not None
            tick = expected if tick is None else tick
            expected = tick + (packet.duration or step)
            if packet.size == 0:  # AVI's way of showing the frame before once more
                continue
            if packet.is_keyframe:
                keys.append((tick, tick if packet.dts is None else min(tick, packet.dts)))
            if not keys:
                num_skipped += 1
            elif not packet.is_discard:
                ticks.append(tick)
                lengths.append(packet.duration or 0)
    except BROKEN as error:
        raise InputError(f"{path}: broken after frame {len(ticks)} ({error.strerror}); copy it again") from None
    trusted = container.format.name.startswith("mov")  # others count frames loosely, or not at all
    counted = min(stream.frames, len(stream.index_entries)) if trusted else 0  # the index knows what was trimmed off
    if counted > count or not _segment_is_whole(path):
        promised = f" of {counted}" if counted else ""
        raise InputError(f"{path}: the file is cut off after frame {count}{promised}; copy or download it again")
    if not ticks:
        what = "no key frame, from which it could be decoded" if num_skipped else "no frames"
        raise InputError(f"{path}: its video stream has {what}; {WANTED}")
    in_order = np.array(ticks, np.int64)
    end = max(ticks) + lengths[int(in_order.argmax())]
    backwards = not stream.codec_context.has_b_frames and bool((np.diff(in_order) < 0).any())
    pts = np.sort(in_order)
    num_skipped += int((pts < keys[0][0]).sum())
    pts = pts[pts >= keys[0][0]]  # nothing can be shown before the first whole picture
    exact = exact and not backwards and bool((np.diff(pts) > 0).all())
    exact = exact and container.format.name != "avi"  # whose numbers are in storage order
    if not exact or not container.format.name.startswith(("mov", "matroska")):  # the others keep no index
        keys = []
    return Timeline(
        pts,
        time_base,
        _times(pts, end, _header_end(container, stream), time_base, rate),
        exact,
        np.array(sorted(keys), np.int64).reshape(-1, 2),
        rates,
        num_skipped,
    )


def _header_end(container: InputContainer, stream: VideoStream) -> int:
    """When a stream ends by its header, a tick; 0 where the packets are more reliable.

    In MOV and MP4 a packet's length is the time to the next one stored, not shown, where frames are reordered. Matroska
    notes no length for single frames of a video.
    """
    if container.format.name.startswith("mov"):
        return (stream.start_time or 0) + (stream.duration or 0) if stream.codec_context.has_b_frames else 0
    found = re.fullmatch(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)", stream.metadata.get("DURATION", ""))
    if not container.format.name.startswith("matroska") or not found or not stream.time_base:
        return 0
    return round((3600 * int(found[1]) + 60 * int(found[2]) + Fraction(found[3])) / stream.time_base)


def _times(pts: NDArray[np.int64], end: int, file_end: int, time_base: Fraction, rate: Fraction) -> NDArray[np.float64]:
    """Seconds from the first frame, each frame's and the end of the last.

    That is ``end``, a tick, by its packet; or, where it is far later, ``file_end`` by the file's header.
    """
    usual = float(np.median(np.diff(pts))) if len(pts) > 1 else 0.0
    usual = usual or (end - int(pts[-1]) if end > pts[-1] else max(1.0, float(1 / (rate or 24) / time_base)))
    if pts[0] == pts[-1]:
        end = int(pts[0] + usual * len(pts))
    elif end <= pts[-1]:
        end = int(pts[-1] + usual)
    if file_end - end > usual:
        end = file_end
    return spread((np.append(pts, end) - pts[0]) * float(time_base))


def spread(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make times increase: frames of equal times share the time up to the next one.

    Args:
        times: ``(frames + 1,)`` seconds, not decreasing, the end of the last frame after it.
    """
    shown, first, many = np.unique(times[:-1], return_index=True, return_counts=True)
    if len(shown) < len(times) - 1:
        nth = np.arange(len(times) - 1) - np.repeat(first, many)
        lengths = np.diff(np.append(shown, times[-1])) / many
        times = np.append(np.repeat(shown, many) + nth * np.repeat(lengths, many), times[-1])
    if np.diff(times).min() < SHORTEST * 0.999:  # where frames come closer than that, the later ones wait
        late = np.arange(len(times)) * SHORTEST
        times = np.maximum.accumulate(times - late) + late
    return times


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
