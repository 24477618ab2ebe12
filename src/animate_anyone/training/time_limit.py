"""Training for so many minutes: what a step and a save take is measured, and there is time left for the last save."""

from __future__ import annotations

import math
import shlex
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from animate_anyone.errors import InputError

RENDERING_SHARE = 1 / 3
"""At most this share of the time goes into filling a cache of clips."""

_STEPS = 8  # the last so many steps foretell the next
_SLACK = 1.5  # a save may take longer than those before
_BETWEEN_SAVES = 300.0  # seconds at most, as long as saving takes little of the time


class TimeLimit:
    """A limit of ``minutes`` from ``began`` on, and where the time went.

    Args:
        minutes: above 0.
        clock: seconds, never going back; tests give one of their own.
        began: what the clock said when the program began; default: now.

    Attributes:
        parts: seconds by part: ``start``, ``rendering``, ``steps``, ``waiting`` (for data, within steps), ``saving``.
        first, done: steps done before this call, and now.
        at_end: whether the recipe's last step is done.

    Raises:
        InputError: ``minutes`` is no number above 0.
    """

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic, began: float | None = None) -> None:
        if not (math.isfinite(minutes) and minutes > 0):
            raise InputError(f"--minutes is {minutes:g}; it must be a number above 0")
        self.seconds, self.clock = 60 * minutes, clock
        self.began = clock() if began is None else began
        self.parts = dict.fromkeys(("start", "rendering", "steps", "waiting", "saving"), 0.0)
        self.first = self.done = 0
        self.at_end = False
        self.slowest_batch = 0.0
        self._training_began: float | None = None
        self._saves = 0
        self._last_save = self._last_log = self._slowest_save = 0.0
        self._steps: deque[float] = deque(maxlen=_STEPS)

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self.clock() - self.began

    @property
    def left(self) -> float:
        """Seconds to the end, below 0 after it."""
        return self.seconds - self.elapsed

    @property
    def left_for_rendering(self) -> float:
        """Seconds that filling the cache may take from now on."""
        return RENDERING_SHARE * self.seconds - self.parts["rendering"]

    @contextmanager
    def measured(self, part: str) -> Iterator[None]:
        """Add what the block takes to a part."""
        began = self.clock()
        try:
            yield
        finally:
            took = self.clock() - began
            self.parts[part] += took
            if part == "steps":
                self._steps.append(took)
            if part == "saving":
                self._saves += 1
                self._last_save, self._slowest_save = self.clock(), max(self._slowest_save, took)

    def begin_training(self, first: int) -> None:
        """The first step is about to be taken, ``first`` having been done before."""
        self.first = self.done = first
        self._training_began = self._last_save = self._last_log = self.clock()
        self.parts["start"] = self.elapsed - self.parts["rendering"]

    @property
    def reserve(self) -> float:
        """Seconds to keep for the last save, for a batch that is still being made, and for ending the program."""
        return _SLACK * self._slowest_save + self.slowest_batch + min(5.0, 0.03 * self.seconds)

    @property
    def used(self) -> float:
        """Share of the training's time that is over, in [0, 1]: from the first step to where the last save begins."""
        assert self._training_began is not None
        whole = self.began + self.seconds - self.reserve - self._training_began
        return 1.0 if whole <= 0 else min(1.0, (self.clock() - self._training_began) / whole)

    def is_room_for_a_step(self) -> bool:
        """Whether another step, as slow as the slowest of the last ones, ends in time for the save."""
        return self.left - self.reserve > max(self._steps, default=0.0)

    def is_save_due(self) -> bool:
        """After the first step, to learn how long it takes; then at intervals of which it takes a twentieth at most."""
        if not self._saves:
            return True
        interval = max(20 * self._slowest_save, min(_BETWEEN_SAVES, self.seconds / 6))
        return self.clock() - self._last_save >= interval

    def is_log_due(self) -> bool:
        """Every twentieth of the time."""
        if self.clock() - self._last_log < self.seconds / 20:
            return False
        self._last_log = self.clock()
        return True


def closing_line(folder: Path, steps: int, limit: TimeLimit | None, command: list[str]) -> str:
    """How far training went and, where time was up before its last step, how to go on.

    Args:
        folder: the model's.
        steps: of the recipe.
        command: what was typed, without options.
    """
    if limit is None or limit.at_end:
        return f"{folder}: the model after {steps} steps"
    go_on = shlex.join([*command, "--resume", "--minutes", f"{limit.seconds / 60:g}"])
    if not limit.done:
        return f"time was up before the first step; give more --minutes: {go_on}"
    return f"{folder}: the model after {limit.done} of {steps} steps, when time was up; to go on: {go_on}"
