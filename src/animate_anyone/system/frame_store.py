"""Arrays by frame number, of which few stay in memory: the rest is in a temporary file without a name."""

from __future__ import annotations

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.errors import InputError

KEPT_BYTES = 2**26
"""Bytes of arrays that a store keeps in memory."""


class FrameStore(MutableMapping[int, NDArray[Any]]):
    """Arrays of one shape and type by frame number, as many as the disk has room for.

    Those used last stay in memory, up to ``kept`` bytes; while all fit, no file is made. What is read is not to be
    written to. Threads may share it. The file lies where ``TMPDIR`` says and goes with the process.

    Args:
        kept: bytes in memory; at least one array stays.

    Raises:
        InputError: on writing, where the disk is full.
    """

    def __init__(self, kept: int = KEPT_BYTES) -> None:
        self._kept = kept
        self._recent: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._places: dict[int, int | None] = {}  # in the file, counted in arrays; None: not written
        self._free: list[int] = []  # places of arrays that are gone
        self._end = 0  # places that the file has
        self._file: IO[bytes] | None = None
        self._like: NDArray[Any] | None = None
        self._lock = threading.RLock()

    def __setitem__(self, number: int, array: NDArray[Any]) -> None:
        array = np.ascontiguousarray(array)
        with self._lock:
            if self._like is None:
                self._like = np.empty((0, *array.shape), array.dtype)
            if (array.shape, array.dtype) != (self._like.shape[1:], self._like.dtype):
                raise ValueError(
                    f"array is {array.dtype} {array.shape}; others are {self._like.dtype} {self._like.shape[1:]}"
                )
            self._forget(number)
            self._places[number] = None
            self._keep(number, array)

    def __getitem__(self, number: int) -> NDArray[Any]:
        with self._lock:
            place = self._places[number]
            if number in self._recent:
                self._recent.move_to_end(number)
                return self._recent[number]
            assert place is not None and self._file is not None and self._like is not None
            like = self._like
            size = int(np.prod(like.shape[1:])) * like.itemsize
            self._file.seek(place * size)
            array = np.frombuffer(self._file.read(size), like.dtype).reshape(like.shape[1:])
            self._keep(number, array)
            return array

    def __delitem__(self, number: int) -> None:
        with self._lock:
            if number not in self._places:
                raise KeyError(number)
            self._forget(number)

    def __contains__(self, number: object) -> bool:
        return number in self._places

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._places))

    def __len__(self) -> int:
        return len(self._places)

    def _forget(self, number: int) -> None:
        self._recent.pop(number, None)
        place = self._places.pop(number, None)
        if place is not None:
            self._free.append(place)

    def _keep(self, number: int, array: NDArray[Any]) -> None:
        self._recent[number] = array
        most = max(1, self._kept // max(array.nbytes, 1))
        while len(self._recent) > most:
            oldest, old = self._recent.popitem(last=False)
            if self._places[oldest] is None:
                self._write(oldest, old)

    def _write(self, number: int, array: NDArray[Any]) -> None:
        place = self._free.pop() if self._free else self._end
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open as long as the store is
            self._file.seek(place * array.nbytes)
            written = self._file.write(array.reshape(-1).view(np.uint8).data)
            if written != array.nbytes:
                raise OSError("the disk is full")
        except OSError as error:
            raise InputError(
                f"{tempfile.gettempdir()}: no room for the frames of a long clip ({error.strerror or error}); make "
                "room, or set TMPDIR to a folder that has some"
            ) from None
        self._places[number], self._end = place, max(self._end, place + 1)
