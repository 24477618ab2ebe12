"""Memory that was freed: kept by the C library for what is asked for next, or given back to the system.

glibc alone can be told; with another C library, or with an allocator loaded in its place, nothing happens.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

KEPT = 512 << 20
"""Bytes of freed memory at the heap's end from which on it goes back to the system, where memory is kept."""
# glibc's own names (malloc.h), and the environment variables by which somebody chooses for the whole process.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_CHOSEN_BY = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def give_back() -> None:
    """Give freed memory of all threads back to the system, where the C library can (glibc's ``malloc_trim``).

    Networks that are opened and closed again leave hundreds of MiB in pieces, which differ from run to run, and on top
    of which the next ones come.
    """
    trim = _of_c_library("malloc_trim")
    if trim is not None:
        trim(0)


def keep_freed(keep: bool = True) -> bool:
    """Whether tensors of this process are made in memory that earlier ones have left, from now on.

    glibc asks the system for each block of more than 32 MiB anew and gives it back when it is freed, so that every page
    of every large tensor is zeroed by the system before it is written to. Kept blocks save that, at the price of gaps:
    a few per cent more memory at the peak, of which up to :data:`KEPT` stay when all is freed (:func:`give_back`).

    Args:
        keep: ``False``: as glibc does it by itself once it has met blocks of that size.

    Returns:
        Whether that was done: not where the C library cannot, nor where the environment has chosen already.
    """
    choose = _of_c_library("mallopt")
    if choose is None or any(name in os.environ for name in _CHOSEN_BY):
        return False
    options = {_TRIM_THRESHOLD: KEPT, _MMAP_MAX: 0}
    if not keep:
        options = {_TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20, _MMAP_MAX: 1 << 16}
    return all([choose(option, value) for option, value in options.items()])


def _of_c_library(name: str) -> Any:
    # None where there is none of that name; musl has neither of ours.
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
