"""Sequences of one array a frame, each made, or read from a temporary file, when asked for: none holds all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from animate_anyone.system.frame_store import FrameStore

KEPT_BYTES = 2**20
"""Bytes of arrays that a sequence keeps in memory; what lies in the file the system keeps where memory is free."""

T = TypeVar("T", bound=np.generic)


class FrameSequence(Sequence[NDArray[T]], Generic[T]):
    """One array a frame, all of one shape and type; :meth:`frame` gives one, not to be written to.

    A slice, or ``numpy.asarray``, gives the array of several frames or all of them, which is then held in memory.

    Args:
        count: number of frames.
        shape: of each array.
        dtype: of each array.
    """

    def __init__(self, count: int, shape: Sequence[int], dtype: DTypeLike) -> None:
        self.shape = (count, *shape)
        self.dtype: np.dtype[Any] = np.dtype(dtype)

    def frame(self, number: int) -> NDArray[T]:
        """The array of a frame, ``0 <= number < len(self)``."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        """Axes of the array of all frames."""
        return len(self.shape)

    def any(self) -> bool:
        """Whether anything of any frame is true."""
        return any(bool(array.any()) for array in self)

    def min(self) -> Any:
        """The smallest value of all frames; NaN where one is."""
        return np.min([array.min() for array in self])

    def max(self) -> Any:
        """The largest value of all frames; NaN where one is."""
        return np.max([array.max() for array in self])

    def __len__(self) -> int:
        return self.shape[0]

    @overload  # type: ignore[override]  # of a slice, an array is as good as a sequence
    def __getitem__(self, number: int) -> NDArray[T]: ...
    @overload
    def __getitem__(self, number: slice) -> NDArray[T]: ...
    @overload
    def __getitem__(self, number: tuple[Any, ...]) -> Any: ...
    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, tuple):  # (frames, part of each)
            frames, part = number[0], number[1:]
            if isinstance(frames, slice):
                return np.stack([self.frame(one)[part] for one in range(len(self))[frames]])
            return self[frames][part]
        if isinstance(number, slice):
            return self._joined(range(len(self))[number])
        return self.frame(range(len(self))[number])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("frames that are made or read one by one cannot be given as an array without a copy")
        joined = self._joined(range(len(self)))
        return joined if dtype is None else joined.astype(dtype, copy=False)

    def _joined(self, numbers: range) -> NDArray[T]:
        joined = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        for place, number in zip(joined, numbers, strict=True):
            place[...] = self.frame(number)
        return joined


class StoredFrames(FrameSequence[T]):
    """Arrays by frame number that are put in, in any order; truth values are kept as bits.

    Those used last stay in memory, the rest lies in a temporary file (:mod:`animate_anyone.system.frame_store`).
    """

    def __init__(self, count: int, shape: Sequence[int], dtype: DTypeLike) -> None:
        super().__init__(count, shape, dtype)
        self._store = FrameStore(KEPT_BYTES)

    def __setitem__(self, number: int, array: NDArray[T]) -> None:
        if (array.shape, array.dtype) != (self.shape[1:], self.dtype):
            raise ValueError(f"array is {array.dtype} {array.shape}; frames are {self.dtype} {self.shape[1:]}")
        given: NDArray[Any] = array
        kept = np.packbits(given) if self.dtype == bool else given.copy()  # it may be written to
        kept.flags.writeable = False  # as what is read from the file
        self._store[range(len(self))[number]] = kept

    def holds(self, number: int) -> bool:
        """Whether the array of a frame was put in."""
        return number in self._store

    def frame(self, number: int) -> NDArray[T]:
        stored: NDArray[Any] = self._store[number]
        if self.dtype != bool:
            return stored
        size = int(np.prod(self.shape[1:]))
        bits: NDArray[Any] = np.unpackbits(stored, count=size).view(bool).reshape(self.shape[1:])
        return bits


class MadeFrames(FrameSequence[T]):
    """Arrays that a function of the frame's number makes: each time anew, or, ``once``, kept as stored ones.

    Args:
        count, shape, dtype: as :class:`FrameSequence`.
        make: gives the array of a frame.
        once: whether what was made is kept.
    """

    def __init__(
        self,
        count: int,
        shape: Sequence[int],
        dtype: DTypeLike,
        make: Callable[[int], NDArray[T]],
        *,
        once: bool = False,
    ) -> None:
        super().__init__(count, shape, dtype)
        self._make = make
        self._made: StoredFrames[T] | None = StoredFrames(count, shape, dtype) if once else None
        self._lock = threading.Lock()

    def frame(self, number: int) -> NDArray[T]:
        if self._made is None:
            return self._make(number)
        with self._lock:
            if not self._made.holds(number):
                self._made[number] = self._make(number)
            return self._made.frame(number)


def stored(frames: FrameSequence[T]) -> StoredFrames[T]:
    """All arrays of a sequence, one after the other, put into a store."""
    result: StoredFrames[T] = StoredFrames(len(frames), frames.shape[1:], frames.dtype)
    for number, array in enumerate(frames):
        result[number] = array
    return result
