"""The first guess at every frame: the character of the reference moved over its completed background.

(Not in the papers; for small models.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.errors import InputError
from animate_anyone.first_guess.bones import Body
from animate_anyone.first_guess.cutting import capsules, cut
from animate_anyone.first_guess.inpainting import behind, complete
from animate_anyone.first_guess.layers import Drawn, Figure
from animate_anyone.first_guess.matting import estimate_matte, own_colours
from animate_anyone.first_guess.mending import mend
from animate_anyone.structures import Picture, PoseSequence

KEPT_BYTES = 2**27
"""Bytes of pictures that are kept once they are made."""
BAND = (0.03, 0.025)
"""How far outside and inside of the silhouette's edge its matte is estimated, trunk lengths."""


class CharacterFrames(Sequence[Picture]):
    """The reference in every pose, drawn when asked for, and kept as long as all are small.

    Args:
        reference: ``(height, width, 3)`` uint8.
        own: its pose, one frame, in pixels of ``reference``; ``None``: not known, and nothing is moved.
        poses: where to move it, in pixels of the same frame; ``None``: not known.
        num_frames: how many pictures, where ``poses`` is ``None``.
        silhouette: ``(height, width)`` bool, the person in the reference; ``None``: not known, and taken to be
            about its bones.

    Raises:
        InputError: a pose belongs to a frame of another size, or the silhouette has another.
    """

    def __init__(
        self,
        reference: Picture,
        own: PoseSequence | None,
        poses: PoseSequence | None,
        num_frames: int | None = None,
        silhouette: NDArray[np.bool_] | None = None,
    ) -> None:
        if poses is None and num_frames is None:
            raise ValueError("give poses, or num_frames")
        height, width = reference.shape[:2]
        for name, pose in (("own", own), ("poses", poses)):
            if pose is not None and pose.size != (width, height):
                raise InputError(f"{name} is for frames of {pose.size}; the reference has {(width, height)}")
        if silhouette is not None and silhouette.shape != (height, width):
            raise InputError(f"silhouette has shape {silhouette.shape}; the reference has {(height, width)}")
        self.reference, self.poses = reference, poses
        self.num_frames = len(poses) if poses is not None else int(num_frames or 0)
        self.figure: Figure | None = None
        self.background, self.hidden = reference, np.zeros((height, width), bool)
        if own is not None and poses is not None:
            body = Body.of(own)
            if silhouette is None or not silhouette.any():
                alpha, colours = capsules(body, (width, height)), None
            else:
                outside, inside = (max(round(part * body.unit), 1) for part in BAND)
                alpha = estimate_matte(reference, silhouette, outside, inside)
                colours = own_colours(reference, alpha)
            self.figure = cut(reference, body, alpha, colours)
            self.hidden = behind(alpha, body.unit)
            self.background = complete(reference, self.hidden)
        self._made: dict[int, Drawn] = {}

    def __len__(self) -> int:
        return self.num_frames

    @overload
    def __getitem__(self, number: int) -> Picture: ...
    @overload
    def __getitem__(self, number: slice) -> list[Picture]: ...
    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(len(self))[number]]
        drawn = self._drawn(range(len(self))[number])
        return self.reference if drawn is None else drawn.picture

    def region(self, number: int) -> NDArray[np.float32] | None:
        """Where a frame may be wrong, ``(height, width)`` in [0, 1]: on the person and where it was.

        ``None`` where nothing was moved.
        """
        drawn = self._drawn(range(len(self))[number])
        return None if drawn is None else np.maximum(drawn.cover, self.hidden, dtype=np.float32)

    def _drawn(self, number: int) -> Drawn | None:
        if self.figure is None or self.poses is None:
            return None
        if number not in self._made:
            drawn = self.figure.draw(Body.of(self.poses, number), self.background)
            if (len(self._made) + 1) * sum(plane.nbytes for plane in drawn) > KEPT_BYTES:
                self._made.clear()
            self._made[number] = drawn
        return self._made[number]

    def __iter__(self) -> Iterator[Picture]:
        return (self[number] for number in range(len(self)))


class ScaledPictures(Sequence[Picture]):
    """Pictures at another size, scaled when asked for.

    Args:
        pictures: ``(height, width, 3)`` uint8 each.
        size: ``(width, height)``.
    """

    def __init__(self, pictures: Sequence[Picture], size: tuple[int, int]) -> None:
        self.pictures, self.size = pictures, size

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(len(self))[number]]
        return scaled(self.pictures[number], self.size)

    def __iter__(self) -> Iterator[Picture]:
        return (self[number] for number in range(len(self)))


def scaled(picture: Picture, size: tuple[int, int]) -> Picture:
    """A picture at ``size`` ``(width, height)``, by the mean of the pixels that each new one covers."""
    if size == (picture.shape[1], picture.shape[0]):
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def mended(guess: CharacterFrames, small: Sequence[Picture], made: Iterable[Picture]) -> Iterator[Picture]:
    """The frames of a first guess at its own size, each with what the networks made of it on their grid.

    Args:
        small: ``guess`` at the networks' size.
        made: as ``small``, what they made.
    """
    for number, frame in enumerate(made):
        yield mend(guess[number], small[number], frame, guess.region(number))
