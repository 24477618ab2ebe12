"""Frames of a video by number with a bounded cache, for readers that go in order and look a little back or ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from animate_anyone.structures import Picture


class FramesInReach(Sequence[Picture]):
    """Reads on as frames are asked for; the last ones that were read stay at hand, others are read anew.

    Args:
        read: gives the frames from a number on, in order.
        count: how many there are.
        kept: how many stay at hand, 1 or more.
    """

    def __init__(self, read: Callable[[int], Iterator[Picture]], count: int, kept: int) -> None:
        self._read, self._count, self._most = read, count, max(kept, 1)
        self._kept: dict[int, Picture] = {}
        self._next = 0
        self._coming: Iterator[Picture] = iter(())

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Picture]:
        return self._read(0)

    def __getitem__(self, number: Any) -> Any:
        number = range(self._count)[number]
        if number not in self._kept:
            if self._kept and number + 1 == min(self._kept):  # back step by step: as many at once as stay at hand
                self._next = max(number + 1 - self._most, 0)
                self._coming = self._read(self._next)
            elif not self._kept or not self._next <= number < self._next + self._most:
                self._coming, self._next = self._read(number), number
            while self._next <= number:
                self._kept[self._next] = next(self._coming)
                self._next += 1
                if len(self._kept) > self._most:
                    del self._kept[next(iter(self._kept))]
        return self._kept[number]
