"""Small videos whose frames tell their numbers, and a count of how often files are opened."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from animate_anyone.media import VideoWriter
from dancers import make_sound

UNEVEN = [0.0, 0.1, 0.15, 0.4, 0.5, 0.9]


def numbered(path: Path, times: list[float] | None = None, count: int = 12, fps: int = 12) -> Path:
    """A video whose frames' brightness tells their number."""
    with VideoWriter(path, (64, 64), fps) as video:
        for number in range(count):
            picture = np.full((64, 64, 3), 20 + 18 * number, np.uint8)
            picture[:32] = 255 - picture[:32]  # no frame is dark all over
            video.write(picture, None if times is None else times[number])
    return path


def numbers(pictures: object) -> list[int]:
    """The numbers of frames of :func:`numbered`."""
    return [round((float(p[40:].mean()) - 20) / 18) for p in pictures]  # type: ignore[attr-defined]


def held_last_frame(folder: Path) -> Path:
    """Half a second of pictures, the last of them shown until 2.5 s, and sound throughout."""
    path = folder / "held.mp4"
    sound = make_sound(folder / "sound.wav", 2.5)
    with VideoWriter(path, (64, 64), 12, audio_from=sound, duration=2.5) as video:
        for number in range(6):
            video.write(np.full((64, 64, 3), 20 + 18 * number, np.uint8))
    return path


class Openings:
    """Counts how often files are opened for reading while it is in place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self._open = 0, av.open
        monkeypatch.setattr(av, "open", self)

    def __call__(self, file: str, mode: str = "r", **options: object) -> object:
        self.count += mode == "r"
        return self._open(file, mode, **options)  # type: ignore[call-overload]
