"""Memory that was freed and that the C library keeps, given back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Give freed memory of all threads back to the system, where the C library can (glibc's ``malloc_trim``).

    Networks that are opened and closed again leave hundreds of MiB in pieces, which differ from run to run, and on top
    of which the next ones come.
    """
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if trim is not None:
        trim(0)
