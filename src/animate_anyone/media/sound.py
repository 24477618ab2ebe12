"""The sound of one video carried over to another, in step with its pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import av
import av.error
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from numpy.typing import NDArray

_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000)
_JITTER = 0.04  # seconds; smaller errors in the time stamps of neighbouring packets are rounding, not gaps


class SoundTrack:
    """The sound of ``source`` from one moment on, written into ``output`` as the pictures come.

    AAC packets are copied as they are, each at its own time: what comes first begins less than a
    packet (about 23 ms) after ``zero``. Any other codec is encoded to AAC and cut to the sample.

    Args:
        source: an open container with at least one audio stream; the first is taken.
        zero: seconds on the clock of ``source``; this moment becomes 0 in ``output``.
        length: seconds after ``zero`` at which to stop; infinity for "when the pictures do".
        output: a container whose header is not written yet.
    """

    def __init__(self, source: InputContainer, zero: Fraction, length: float, output: OutputContainer) -> None:
        self._source, self._stream, self._output = source, source.streams.audio[0], output
        self._zero, self._length = zero, length
        self._track: AudioStream
        if self._stream.codec_context.name == "aac" and self._stream.codec_context.extradata:
            self._track = output.add_stream_from_template(self._stream)
            self._packets = self._copied()
        else:
            rate = self._stream.rate if self._stream.rate in _AAC_RATES else 48000
            layout = "mono" if self._stream.layout.nb_channels == 1 else "stereo"
            self._track = output.add_stream("aac", rate=rate, layout=layout)
            self._packets = self._encoded()
        self._waiting: av.Packet | None = None

    def mux_until(self, seconds: float) -> None:
        """Write what ends by ``seconds`` of the new file's clock; keep the rest for later."""
        limit = min(seconds, self._length) + 1e-6
        while True:
            packet = self._waiting or next(self._packets, None)
            self._waiting = packet
            if packet is None or packet.pts is None or packet.time_base is None:
                return
            if (packet.pts + (packet.duration or 0)) * packet.time_base > limit:
                return
            self._waiting = None
            self._output.mux(packet)

    def _copied(self) -> Iterator[av.Packet]:
        for packet in self._demuxed():
            if packet.pts is None or packet.time_base is None:
                continue
            begin = packet.pts - round(self._zero / packet.time_base)
            if begin >= 0:
                packet.pts = packet.dts = begin
                packet.stream = self._track
                yield packet

    def _encoded(self) -> Iterator[av.Packet]:
        rate, layout = self._track.rate, self._track.layout.name
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        done = 0  # samples handed to the encoder
        for packet in self._demuxed():
            for decoded in _decoded(packet):
                for piece in resampler.resample(decoded):
                    if piece.pts is None or piece.time_base is None:
                        continue
                    gap = round((piece.pts * piece.time_base - self._zero) * rate) - done
                    if done and abs(gap) < _JITTER * rate:
                        gap = 0
                    samples = _shifted(piece.to_ndarray().astype(np.float32, copy=False), gap)
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
            self._source.seek(math.floor(early / self._stream.time_base), stream=self._stream)
        yield from self._source.demux(self._stream)


def _decoded(packet: av.Packet[AudioStream]) -> list[av.AudioFrame]:
    """The sound in a packet; none in a broken one, whose place the next one's time leaves silent."""
    try:
        return packet.decode()
    except av.error.FFmpegError:
        return []


def _shifted(samples: NDArray[np.float32], gap: int) -> NDArray[np.float32]:
    """``(channels, samples)`` with ``gap`` samples of silence before it, or ``-gap`` samples cut off."""
    if gap < 0:
        return np.ascontiguousarray(samples[:, -gap:])
    return np.pad(samples, ((0, 0), (gap, 0)))
