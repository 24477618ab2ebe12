"""Small clips made with PyAV directly, so that reading is not tested against our own writer."""

from __future__ import annotations

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
