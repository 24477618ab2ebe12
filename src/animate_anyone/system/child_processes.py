"""Processes that work for this one: Ctrl-C is their parent's, and they end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait


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


def begin_child(before_end: Callable[[], object] = lambda: None) -> None:
    """What such a process does first: it ignores Ctrl-C, and ends when its parent has ended, after ``before_end``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(before_end,), daemon=True).start()


def _end_with_parent(before_end: Callable[[], object]) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    before_end()
    os._exit(1)
