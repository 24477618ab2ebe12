"""The letterbox: a picture of any shape scaled to fit into a frame and centred, with the poses in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.structures import Picture, PoseSequence, Size


@dataclass(frozen=True)
class Letterbox:
    """Where a picture lies in a frame: scaled to fit, centred; its edge pixels are repeated over the margins.

    Attributes:
        size: ``(width, height)`` of the frame.
        inner: size of the scaled picture.
        left, top: pixels of the frame left of and above the scaled picture.
    """

    size: Size
    inner: Size
    left: int
    top: int

    @classmethod
    def into(cls, picture_size: Size, size: Size) -> Letterbox:
        """A whole picture of ``picture_size`` in a frame of ``size``, both ``(width, height)``."""
        width, height = picture_size
        scale = min(size[0] / width, size[1] / height)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        return cls(size, inner, (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)

    @classmethod
    def stretched(cls, size: Size) -> Letterbox:
        """A picture of any shape over the whole frame, its aspect not kept."""
        return cls(size, size, 0, 0)

    def scaled_to(self, size: Size) -> Letterbox:
        """The same picture in a frame of another ``(width, height)``; axes scale apart."""
        x, y = size[0] / self.size[0], size[1] / self.size[1]
        inner = (max(1, round(self.inner[0] * x)), max(1, round(self.inner[1] * y)))
        left, top = min(round(self.left * x), size[0] - inner[0]), min(round(self.top * y), size[1] - inner[1])
        return Letterbox(size, inner, left, top)

    def apply(self, picture: Picture, black: bool = False) -> Picture:
        """The frame ``(height, width, 3)`` with the picture in it; ``black``: margins are black instead."""
        small = np.asarray(Image.fromarray(picture).resize(self.inner, Image.Resampling.LANCZOS))
        right, bottom = self.size[0] - self.inner[0] - self.left, self.size[1] - self.inner[1] - self.top
        margins = ((self.top, bottom), (self.left, right), (0, 0))
        return np.pad(small, margins, mode="constant" if black else "edge")

    def move(self, poses: PoseSequence) -> PoseSequence:
        """Poses in pixels of the picture to pixels of the frame, their depth in heights of it."""
        inside = poses.scaled_to(self.inner)
        shift = np.array([self.left, self.top], np.float32)
        depth = None if poses.depth is None else poses.depth * np.float32(self.inner[1] / self.size[1])
        return replace(inside, keypoints=inside.keypoints + shift, size=self.size, depth=depth)

    def matrix(self, picture_size: Size) -> NDArray[np.float64]:
        """``(3, 3)``: takes pixels ``(x, y, 1)`` of a picture of ``picture_size`` ``(width, height)`` to the frame's.

        The middles of pixels are whole numbers, as OpenCV counts them.
        """
        scale = np.array(self.inner) / picture_size
        shift = (scale - 1) / 2 + (self.left, self.top)
        return np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]], [0, 0, 1]])
