"""How the C library keeps memory that was freed."""

from __future__ import annotations

import ctypes
import sys

_MMAP_THRESHOLD = -3  # glibc's M_MMAP_THRESHOLD
LARGE = 2**20  # bytes


def return_large_blocks() -> None:
    """From now on blocks of :data:`LARGE` bytes or more go back to the system when they are freed.

    glibc keeps freed blocks of up to 32 MiB in a heap that falls to pieces while tensors of many sizes come and go: a
    training step was measured to need up to half as much memory again as its tensors. Elsewhere nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, LARGE)
    except (OSError, AttributeError):  # another C library
        return
