"""Processes that work for this one: Ctrl-C is their parent's, and they end with it."""

from __future__ import annotations

import _thread
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from types import FrameType

_HANDLER_SECONDS = 2.0  # within which the main thread returns from what is computed in C


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Processes that are started in the block ignore Ctrl-C from the start; here one is handled after the block."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_child(at_end: Callable[[], object] | None = None) -> None:
    """What such a process does first: it ignores Ctrl-C, and ends when its parent has ended.

    Args:
        at_end: called before it ends so, or by SIGTERM; in the main thread, so that the work does not go on beside it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def stop(number: int, frame: FrameType | None) -> None:
        if at_end is not None:
            at_end()
        os._exit(128 + number)

    if at_end is not None:
        signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=_end_with_parent, args=(stop,), daemon=True).start()


def _end_with_parent(stop: Callable[[int, FrameType | None], object]) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    if signal.getsignal(signal.SIGTERM) is stop:
        _thread.interrupt_main(signal.SIGTERM)
        time.sleep(_HANDLER_SECONDS)
    stop(signal.SIGTERM, None)
