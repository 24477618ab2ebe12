"""Small clips made with PyAV directly, so that reading is not tested against our own writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE = 44100


def bar(number: int, size: tuple[int, int] = (128, 96)) -> NDArray[np.uint8]:
    """A grey picture with a white bar whose place tells the frame's number, up to 63."""
    width, height = size
    picture = np.full((height, width, 3), 40, np.uint8)
    picture[:, number * width // 64 : (number + 1) * width // 64] = 255
    return picture


def number_of(picture: NDArray[np.uint8]) -> int:
    """The number in a picture of :func:`bar`."""
    columns = picture.astype(float).mean(axis=(0, 2))
    return int(columns.argmax()) * 64 // picture.shape[1]


def smooth(number: int) -> NDArray[np.uint8]:
    """A picture that 4:2:0 keeps: low frequencies only."""
    y, x = np.mgrid[0:96, 0:128] / 128
    waves = [np.sin(2 * np.pi * (x * k + y + number / 48)) for k in (1, 2, 3)]
    return np.clip(127 + 100 * np.stack(waves, axis=-1), 0, 255).astype(np.uint8)


def chirp(seconds: float) -> NDArray[np.float32]:
    """A sweep, 200 to 2000 Hz a second and back to 200: like itself at one shift only. ``(samples,)``."""
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.3 * np.sin(2 * np.pi * (200 + 900 * (time % 1)) * time) + 0.02 * noise).astype(np.float32)


def make_clip(
    path: Path,
    num_frames: int = 48,
    *,
    size: tuple[int, int] = (128, 96),
    fps: int = 24,
    codec: str = "libx264",
    times: list[float] | None = None,
    rotation: int = 0,
    sound: str | None = None,
    first: float = 0.0,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pictures: list[NDArray[np.uint8]] | None = None,
) -> Path:
    """Write a clip; ``sound`` names an audio codec, ``first`` is the first picture's time in the file."""
    with av.open(str(path), "w", options=container_options or {}) as output:
        video = output.add_stream(codec, rate=fps, options=options or {})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.gop_size, video.codec_context.thread_count = 12, 1
        ticks = fps if path.suffix == ".avi" else 12000  # AVI fills every tick with a frame
        video.codec_context.time_base = Fraction(1, ticks)
        if rotation:
            video.set_display_rotation(rotation)
        if sound is not None:
            audio = output.add_stream(sound, rate=RATE, layout="mono")
        for number in range(num_frames):
            picture = bar(number, size) if pictures is None else pictures[number]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            time = number / fps if times is None else times[number]
            frame.pts, frame.time_base = round((time + first) * ticks), Fraction(1, ticks)
            output.mux(video.encode(frame))
        if sound is not None:
            samples = chirp(first + num_frames / fps)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            output.mux(audio.encode(frame))
            output.mux(audio.encode(None))
        output.mux(video.encode(None))
    return path


def heard(path: Path, seconds: float) -> NDArray[np.float32]:
    """What sounds from the file's first picture on: ``(samples,)`` at 44.1 kHz, silence where there is none."""
    with av.open(str(path)) as source:
        picture = next(source.decode(video=0))
        zero = float(picture.pts * picture.time_base)
    pieces, at = [], 0
    with av.open(str(path)) as source:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
        for frame in source.decode(audio=0):
            if not pieces:  # times after the first are rounded to milliseconds in Matroska
                at = round((float(frame.pts * frame.time_base) - zero) * RATE)
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
    sound = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    sound = np.concatenate([np.zeros(max(0, at), np.float32), sound[max(0, -at) :]])[: round(seconds * RATE)]
    return np.pad(sound, (0, round(seconds * RATE) - len(sound)))


def lag(reference: NDArray[np.float32], sound: NDArray[np.float32]) -> tuple[float, float]:
    """By how many seconds ``sound`` comes late, and how alike the two are at that shift (at most 1)."""
    length = 1 << (len(reference) + len(sound)).bit_length()
    match = np.fft.irfft(np.fft.rfft(sound, length) * np.conj(np.fft.rfft(reference, length)))
    best = int(match.argmax())
    shift = best - length if best > length // 2 else best
    return shift / RATE, float(match[best] / np.sqrt((reference**2).sum() * (sound**2).sum()))


def remux(source: Path, path: Path, change: Callable[[int, av.Packet], bool]) -> Path:
    """Copy a clip's pictures, each packet changed; those for which ``change(number, packet)`` is false are left out."""
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(container.streams.video[0])
        for number, packet in enumerate(container.demux(video=0)):
            if packet.size and change(number, packet):
                packet.stream = stream
                output.mux(packet)
    return path


def make_sound(path: Path, tracks: Sequence[str] = ("stereo",), codec: str = "pcm_s16le", seconds: float = 1.0) -> Path:
    """A clip with PCM sound; ``tracks`` are channel layouts. Channel ``k`` of a track is a tone of 200 (k + 1) Hz."""
    time = np.arange(round(seconds * RATE)) / RATE
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=24)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        streams = [output.add_stream(codec, rate=RATE, layout=layout) for layout in tracks]
        for number in range(round(24 * seconds)):
            output.mux(video.encode(av.VideoFrame.from_ndarray(bar(number, (64, 64)), format="rgb24")))
        for stream, layout in zip(streams, tracks, strict=True):
            channels = range(av.AudioLayout(layout).nb_channels)
            tones = np.stack([0.3 * np.sin(2 * np.pi * 200 * (k + 1) * time) for k in channels], axis=1)
            samples = (tones * 32767).astype(np.int16) if codec == "pcm_s16le" else tones.astype(np.float32)
            kind = "s16" if codec == "pcm_s16le" else "flt"
            for begin in range(0, len(samples), 1024):
                piece = np.ascontiguousarray(samples[begin : begin + 1024]).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(piece, format=kind, layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = RATE, begin, Fraction(1, RATE)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        output.mux(video.encode(None))
    return path


def replace_bytes(path: Path, old: bytes, new: bytes, count: int = 1) -> Path:
    """Change some bytes of a file in place, where they first stand."""
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, count))
    return path


def tones(path: Path) -> list[set[int]]:
    """For each channel of a file's sound, which of the tones of :func:`make_sound` are heard, by their channel."""
    with av.open(str(path)) as source:
        rate = source.streams.audio[0].rate
        samples = np.concatenate([frame.to_ndarray() for frame in source.decode(audio=0)], axis=1)
    heard_there = []
    for channel in samples:
        middle = channel[len(channel) // 4 : len(channel) * 3 // 4]
        loud = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))) * 4 / len(middle)
        frequencies = np.fft.rfftfreq(len(middle), 1 / rate)
        heard_there.append({round(f / 200) - 1 for f in frequencies[loud > 0.01]})
    return heard_there
