"""Ranges of consecutive frames, half-open: ``(first, stop)``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The ranges of frames ``(first, stop)`` in which the flags ``(frames,)`` are set."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def ranges(found: tuple[tuple[int, int], ...] | list[tuple[int, int]], most: int = 6) -> str:
    """Ranges for people, both ends included; after ``most`` only their number."""
    shown = [f"{first}" if stop == first + 1 else f"{first}-{stop - 1}" for first, stop in found[:most]]
    rest = len(found) - most
    return ", ".join(shown) + (f" and {rest} more places" if rest > 0 else "")
