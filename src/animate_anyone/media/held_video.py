"""A video whose frames are in memory, in place of one that is read from a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from animate_anyone.errors import InputError
from animate_anyone.media.pictures import check_size
from animate_anyone.media.video_reading import Video, VideoInfo
from animate_anyone.structures import FASTEST, SLOWEST, Picture, Pictures


@dataclass(frozen=True)
class HeldVideo(Video):
    """A silent video of evenly spaced frames in memory.

    Attributes:
        pictures: ``(frames, height, width, 3)`` uint8, RGB: an array, or a sequence of frames.
    """

    pictures: Pictures = field(kw_only=True)

    @classmethod
    def of(cls, pictures: Pictures, fps: Fraction, name: str = "video") -> HeldVideo:
        """The video of some frames.

        Args:
            pictures: ``(frames, height, width, 3)`` uint8, RGB, at least one.
            fps: frames per second.
            name: what it is called in messages, and where a file would have its path.

        Raises:
            InputError: there are no frames, they are too large, or the rate is none.
        """
        if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8:
            raise ValueError(f"frames are {pictures.dtype} {pictures.shape}; give uint8 (frames, height, width, 3)")
        count, height, width, _ = pictures.shape
        if count < 1:
            raise InputError(f"{name}: holds no frames; give a video of one frame or more")
        check_size(Path(name), width, height)
        if not SLOWEST <= fps <= FASTEST:
            raise InputError(f"{name}: {float(fps):g} frames per second; give 1/1001 to 1000")
        times = np.arange(count + 1) / float(fps)
        info = VideoInfo(width, height, fps, count, float(times[-1]), False, 0)
        return cls(Path(name), info, times, pictures=pictures)

    def frames(self, wanted: Sequence[int]) -> Iterator[tuple[float, Picture]]:
        """As :meth:`Video.frames`."""
        for number in wanted:
            yield float(self.times[number]), self.pictures[number]
