"""The sound of one video carried over to another, in step with its pictures."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from numpy.typing import NDArray

from animate_anyone.media.mixdown import is_custom, mix, tame_layout
from animate_anyone.media.opening import BROKEN, open_media

_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000)
_JITTER = 0.04  # seconds; smaller errors in the time stamps of neighbouring packets are rounding, not gaps
_LONGEST_GAP = 3600  # seconds
_TRIED = 100  # packets of a track that are tried before it counts as one that cannot be decoded
_TRIAL = "import sys; from animate_anyone.media.sound import try_track; try_track(sys.argv[1], int(sys.argv[2]))"


@dataclass(frozen=True)
class Sound:
    """A sound track that can be used: number ``track`` of a file's, from 0, and its pictures' start on its clock."""

    path: Path
    track: int
    zero: Fraction


class SoundChoice:
    """The first sound track of a file that can be decoded, found while its packets come by.

    Args:
        path: the file.
        container: the same, open; its layouts are looked at, see :mod:`animate_anyone.media.mixdown`.
    """

    def __init__(self, path: Path, container: InputContainer) -> None:
        self._path = path
        self._tracks = [_Track(stream) for stream in container.streams.audio]
        self._by_index = {track.stream.index: track for track in self._tracks}

    def hear(self, packet: av.Packet) -> None:
        """Try a packet of any of the tracks."""
        self._by_index[packet.stream_index].hear(packet)

    def made(self, zero: Fraction) -> tuple[Sound | None, str | None]:
        """The track, if there is one, and a remark where it is not the first; call it after all packets.

        Args:
            zero: when the first picture is shown, seconds on the file's clock.
        """
        failed: list[str] = []
        for number, track in enumerate(self._tracks):
            if track.packets == 0:
                continue
            if track.decoded or (track.risky and _survives(self._path, number)):
                taken = f"track {number + 1} ({track.kind}) is taken"
                remark = f"sound: {' and '.join(failed)} cannot be decoded here; {taken}" if failed else None
                return Sound(self._path, number, zero), remark
            failed.append(f"track {number + 1} ({track.kind})")
        if failed:
            return None, f"sound: {' and '.join(failed)} cannot be decoded here; the result is silent"
        return None, None


class _Track:
    """A sound track under trial."""

    def __init__(self, stream: AudioStream) -> None:
        self.stream = stream
        self.packets = 0
        self.decoded = False
        self.kind, self.risky = "of an unknown kind", False
        if stream.codec_context is not None:
            self.kind = stream.codec_context.name
            tame_layout(stream.codec_context)
            # A decoder can name the channels of its own accord, see `mixdown`.
            self.risky = stream.codec_context.layout.nb_channels > 2

    def hear(self, packet: av.Packet) -> None:
        if packet.size == 0:
            return
        self.packets += 1
        if self.decoded or self.risky or self.packets > _TRIED or self.stream.codec_context is None:
            return
        self.decoded = any(frame.samples for frame in _decoded(packet))


def find_sound(path: Path) -> tuple[Sound | None, str | None]:
    """The sound of a file whose pictures do not matter, from its start, as :meth:`SoundChoice.made`."""
    with open_media(path) as container:
        choice = SoundChoice(path, container)
        if container.streams.audio:
            for packet in container.demux(*container.streams.audio):
                choice.hear(packet)
    return choice.made(zero=Fraction(0))


def _survives(path: Path, track: int) -> bool:
    """Whether some of a track can be decoded, tried in a process of its own, which may be aborted."""
    command = [sys.executable, "-c", _TRIAL, str(path.absolute()), str(track)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    quiet = subprocess.DEVNULL
    try:
        return not subprocess.run(
            command, stdin=quiet, stdout=quiet, stderr=quiet, env=environment, timeout=60
        ).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


def try_track(path: str, number: int) -> None:
    """End the process: with status 0 if a sound track can be decoded, else with 1, or however the decoder ends it."""
    with open_media(Path(path)) as container:
        stream = container.streams.audio[number]
        layout = tame_layout(stream.codec_context)
        converter = _Converter(layout, 48000, "stereo")
        pieces = 0
        for count, packet in enumerate(container.demux(stream)):
            for frame in _decoded(packet):
                pieces += len(converter.convert(frame))
            if count > _TRIED and pieces:
                break
    sys.exit(not pieces)


class SoundTrack:
    """A sound track from one moment on, written into ``output`` as the pictures come.

    AAC packets are copied as they are, each at its own time: what comes first begins less than a
    packet (about 23 ms) after ``zero``. Any other codec is encoded to AAC and cut to the sample.
    A track that breaks on the way ends there: ``broken``.

    Args:
        source: an open container.
        number: which of its sound tracks, from 0.
        zero: seconds on the clock of ``source``; this moment becomes 0 in ``output``.
        length: seconds after ``zero`` at which to stop; infinity for "when the pictures do".
        output: a container whose header is not written yet.
    """

    def __init__(
        self, source: InputContainer, number: int, zero: Fraction, length: float, output: OutputContainer
    ) -> None:
        self._source, self._stream, self._output = source, source.streams.audio[number], output
        self._zero, self._length = zero, length
        self.broken = False
        self._track: AudioStream
        context = self._stream.codec_context
        if context.name == "aac" and context.extradata:
            self._track = output.add_stream_from_template(self._stream)
            self._packets = self._copied()
        else:
            self._layout = tame_layout(context)
            rate = context.rate if context.rate in _AAC_RATES else 48000
            layout = "mono" if context.layout.nb_channels == 1 else "stereo"
            self._track = output.add_stream("aac", rate=rate, layout=layout)
            self._packets = self._encoded()
        self._waiting: av.Packet | None = None

    def mux_until(self, seconds: float) -> None:
        """Write what ends by ``seconds`` of the new file's clock; keep the rest for later."""
        limit = min(seconds, self._length) + 1e-6
        while True:
            packet = self._waiting or self._next()
            self._waiting = packet
            if packet is None or packet.pts is None or packet.time_base is None:
                return
            if (packet.pts + (packet.duration or 0)) * packet.time_base > limit:
                return
            self._waiting = None
            self._output.mux(packet)

    def _next(self) -> av.Packet | None:
        try:
            return next(self._packets, None)
        except (*BROKEN, ValueError):  # the pictures are worth more than the rest of it
            self.broken = True
            return None

    def _copied(self) -> Iterator[av.Packet]:
        last = -1
        for packet in self._demuxed():
            if packet.pts is None or packet.time_base is None:
                continue
            begin = packet.pts - round(self._zero / packet.time_base)
            if begin > last:  # what comes at the time of another, or before, cannot be written
                packet.pts = packet.dts = last = begin
                packet.stream = self._track
                yield packet

    def _encoded(self) -> Iterator[av.Packet]:
        rate, layout = self._track.rate, self._track.layout.name
        converter = _Converter(self._layout, rate, layout)
        done = 0  # samples handed to the encoder
        for packet in self._demuxed():
            for decoded in _decoded(packet):
                for pts, piece in converter.convert(decoded):
                    gap = round((pts - self._zero) * rate) - done
                    if done and abs(gap) < _JITTER * rate:
                        gap = 0
                    if gap > _LONGEST_GAP * rate:  # a time stamp that cannot be right
                        continue
                    samples = _shifted(piece, gap)
                    if not samples.shape[1]:
                        continue
                    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
                    frame.sample_rate, frame.pts, frame.time_base = rate, done, Fraction(1, rate)
                    done += samples.shape[1]
                    yield from self._track.encode(frame)
        yield from self._track.encode(None)

    def _demuxed(self) -> Iterator[av.Packet[AudioStream]]:
        if self._zero > 1 and self._stream.time_base:
            early = self._zero - 1  # decoders want a little of what came before
            with suppress(*BROKEN):  # where one cannot seek, all that comes before is read
                self._source.seek(math.floor(early / self._stream.time_base), stream=self._stream)
        yield from self._source.demux(self._stream)


class _Converter:
    """Decoded sound at one rate, in one or two channels, however its frames change on the way.

    Args:
        named: the source's channel layout by name, see :func:`~animate_anyone.media.mixdown.tame_layout`.
        rate: samples per second to give.
        layout: ``mono`` or ``stereo``, to give.
    """

    def __init__(self, named: str, rate: int, layout: str) -> None:
        self._named, self._rate, self._layout = named, rate, layout
        self._form: tuple[str, str, int] | None = None
        self._mixed: str | None = None

    def convert(self, frame: av.AudioFrame) -> list[tuple[Fraction, NDArray[np.float32]]]:
        """When each piece begins, seconds on the source's clock, and ``(channels, samples)`` float32."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:
            self._form = form
            self._mixed = self._named if is_custom(self._named) else None
            self._resampler = self._new_resampler(frame)
        try:
            pieces = self._resampler.resample(frame)
        except (*BROKEN, ValueError):
            if self._mixed is not None:
                raise
            self._mixed = frame.layout.name  # a layout that FFmpeg cannot mix down
            self._resampler = self._new_resampler(frame)
            pieces = self._resampler.resample(frame)
        return [
            (piece.pts * piece.time_base, self._samples(piece))
            for piece in pieces
            if piece.pts is not None and piece.time_base is not None
        ]

    def _new_resampler(self, frame: av.AudioFrame) -> av.AudioResampler:
        if self._mixed is None:
            return av.AudioResampler(format="fltp", layout=self._layout, rate=self._rate)
        return av.AudioResampler(format="flt", layout=frame.layout.name, rate=self._rate)

    def _samples(self, piece: av.AudioFrame) -> NDArray[np.float32]:
        samples = piece.to_ndarray().astype(np.float32, copy=False)
        if self._mixed is not None:
            samples = mix(samples.reshape(piece.samples, -1), self._mixed)
        if not np.isfinite(samples).all():  # which the encoder refuses
            samples = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
        return samples


def _decoded(packet: av.Packet) -> list[av.AudioFrame]:
    """The sound in a packet; none in a broken one, whose place the next one's time leaves silent."""
    try:
        return packet.decode()  # type: ignore[return-value]
    except BROKEN:
        return []


def _shifted(samples: NDArray[np.float32], gap: int) -> NDArray[np.float32]:
    """``(channels, samples)`` with ``gap`` samples of silence before it, or ``-gap`` samples cut off."""
    if gap < 0:
        return np.ascontiguousarray(samples[:, -gap:])
    return np.pad(samples, ((0, 0), (gap, 0)))
