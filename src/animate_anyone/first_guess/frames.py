"""A first guess at every frame of a clip: drawn when asked for, scaled for the networks, mended by what they make.

(Not in the papers; for small models.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.first_guess.mending import TRUST, Trust, mend
from animate_anyone.structures import Mask, Picture, Plane, Size
from animate_anyone.system import frame_sequence
from animate_anyone.system.frame_store import FrameStore

KEPT_BYTES = 3 * frame_sequence.KEPT_BYTES
"""Bytes of guesses that are kept in memory once they are drawn, equally many of each plane."""


class Guess(NamedTuple):
    """The guess at one frame.

    Attributes:
        picture: ``(height, width, 3)`` uint8.
        region: ``(height, width)`` in [0, 1], where it may be wrong; ``None``: anywhere, as nothing was moved.
        fixed: ``(height, width)`` bool, what stays pixel for pixel; ``None``: nothing.
        left_out: ``(height, width)`` bool, what is to be there and the guess does not hold; ``None``: nothing.
        drawn: ``(height, width)`` uint8, :class:`~animate_anyone.first_guess.mending.Part`, where it shows the
            character; ``None``: not known.
    """

    picture: Picture
    region: Plane | None = None
    fixed: Mask | None = None
    left_out: Mask | None = None
    drawn: NDArray[np.uint8] | None = None


class GuessedFrames(Sequence[Picture]):
    """The guess at every frame, drawn by :meth:`draw` when first asked for, and then kept, in memory or on the disk."""

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames
        self._planes = tuple(FrameStore(KEPT_BYTES // len(Guess._fields)) for _ in Guess._fields)

    def draw(self, number: int) -> Guess:
        """The guess at a frame."""
        raise NotImplementedError

    def guess(self, number: int) -> Guess:
        """The guess at a frame, drawn once."""
        number = range(len(self))[number]
        if number not in self._planes[0]:
            guess = self.draw(number)
            for store, plane in reversed(list(zip(self._planes, guess, strict=True))):  # the picture last: then all are
                if plane is not None:
                    store[number] = plane
            return guess
        return Guess(*(store.get(number) for store in self._planes))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.num_frames

    @overload
    def __getitem__(self, number: int) -> Picture: ...
    @overload
    def __getitem__(self, number: slice) -> list[Picture]: ...
    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(len(self))[number]]
        return self.guess(number).picture

    def __iter__(self) -> Iterator[Picture]:
        return (self[number] for number in range(len(self)))


class ScaledPictures(Sequence[Picture]):
    """Pictures at another size, scaled when asked for.

    Args:
        pictures: ``(height, width, 3)`` uint8 each.
        size: ``(width, height)``.
    """

    def __init__(self, pictures: Sequence[Picture], size: Size) -> None:
        self.pictures, self.size = pictures, size

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(len(self))[number]]
        return scaled(self.pictures[number], self.size)

    def __iter__(self) -> Iterator[Picture]:
        return (self[number] for number in range(len(self)))


def scaled(picture: Picture, size: Size) -> Picture:
    """A picture at ``size`` ``(width, height)``, by the mean of the pixels that each new one covers."""
    if size == (picture.shape[1], picture.shape[0]):
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def mending(guess: GuessedFrames, small: Sequence[Picture], trust: Trust = TRUST) -> Callable[[int, Picture], Picture]:
    """What makes a frame of a first guess at its own size, of its number and what the networks made on their grid.

    Args:
        small: ``guess`` at the networks' size.
        trust: how much of what they change is taken.
    """

    def mended(number: int, made: Picture) -> Picture:
        known = guess.guess(number)
        result = mend(known.picture, small[number], made, known.region, known.left_out, known.drawn, trust)
        if known.fixed is not None:
            np.copyto(result, known.picture, where=known.fixed[..., None])
        return result

    return mended


def mended(
    guess: GuessedFrames, small: Sequence[Picture], made: Iterable[Picture], trust: Trust = TRUST
) -> Iterator[Picture]:
    """All frames of a first guess, by :func:`mending`."""
    finish = mending(guess, small, trust)
    return (finish(number, frame) for number, frame in enumerate(made))
