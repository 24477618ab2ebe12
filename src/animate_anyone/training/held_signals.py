"""Signals that ask a training run to end: they are held until the step is done and a checkpoint is saved."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType
from typing import Any

from animate_anyone.system.signals import SIGNALS

PATIENCE = 5.0
"""Seconds after the first signal within which others are taken for the same: torchrun passes on what a terminal or a
batch system has sent already. A later one is obeyed at once."""


class HeldSignals:
    """In a ``with``: the first signal is remembered; at the end of the block it has the effect that it had before.

    A signal that is ignored stays ignored. Outside the main thread, which alone may do this, nothing is held.

    Attributes:
        asked: the first signal's number, or ``None``. One that came to another process of the run may be put here.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._since = 0.0
        self._process = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> HeldSignals:
        for number in SIGNALS:
            if signal.getsignal(number) in (signal.SIG_IGN, None):
                continue
            try:
                self._before[number] = signal.signal(number, self._hold)
            except ValueError:  # not the main thread
                break
        return self

    def __exit__(self, *error: object) -> None:
        self._put_back()
        if self.asked is not None:
            signal.raise_signal(self.asked)

    def _put_back(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a child made by fork has nothing to save
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self.asked is None:
            self.asked, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > PATIENCE:
            self._put_back()
            signal.raise_signal(number)
