"""A Markdown report that is whole at every moment, and parts of it that keep to a time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rows = Iterable[list[str]]


class TimeIsUp(BaseException):
    """Raised in the midst of a unit when no time is left. Not an ``Exception``: no library may catch it."""


class Clock:
    """How much of the given time is left.

    Args:
        seconds: how long the whole run may take.
        since: when it began, by ``now``.
        now: a clock that only goes forward, seconds.
    """

    def __init__(self, seconds: float, since: float | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since = now() if since is None else since
        self.seconds = seconds

    def gone(self) -> float:
        """Seconds since the beginning."""
        return self._now() - self._since

    def left(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self.seconds - self.gone())

    def fits(self, seconds: float) -> bool:
        """Whether so much time is left."""
        return seconds <= self.left()

    def part(self, share: float) -> Clock:
        """The clock of a part that may take so large a share of the whole time, from now on and within it."""
        now = self._now()
        return Clock(min(share * self.seconds, self.left()), now, self._now)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raise :class:`TimeIsUp` inside when the time is over, where the system has interval timers."""
        if not hasattr(signal, "setitimer"):
            yield
            return

        def ring(*_: Any) -> None:
            raise TimeIsUp

        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, max(self.left(), 0.01))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Unit:
    """The smallest piece that is measured or skipped.

    Attributes:
        name: the first cell of its row where there is nothing else to say.
        seconds: how long it is expected to take.
        rows: measures, and yields rows of the part's table as they come.
    """

    name: str
    seconds: float
    rows: Callable[[], Rows]


@dataclass(frozen=True)
class Part:
    """A section of the report: a heading, what its figures mean, and one table.

    ``share`` of the whole time is the most that it may take: what comes first must not starve what follows.
    """

    title: str
    text: str
    columns: Sequence[str]
    units: Sequence[Unit]
    share: float = 1.0


class Report:
    """Written anew, as a whole, with every line that is added: whoever ends the run early keeps what is there.

    Args:
        file: the Markdown file.
        show: is given every addition too.
    """

    def __init__(self, file: Path, show: Callable[[str], Any] = print) -> None:
        self.file, self._show, self._text = file, show, ""
        file.parent.mkdir(parents=True, exist_ok=True)

    def add(self, text: str) -> None:
        """Add a paragraph or a table's line."""
        self._show(text)
        self._text += text + "\n"
        whole = self.file.with_name(f".{self.file.name}.part")
        with whole.open("w", encoding="utf-8") as file:
            file.write(self._text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(whole, self.file)


def row(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in cells) + " |"


def run(parts: Iterable[Part], report: Report, clock: Clock, after: Callable[[], None] = lambda: None) -> None:
    """Measure the parts in order. What does not fit the time is skipped, what fails is reported; the next goes on.

    Args:
        after: called after every unit: frees memory.
    """
    for part in parts:
        before, own = clock.gone(), clock.part(part.share)
        report.add(f"\n## {part.title}\n\n{part.text}\n")
        report.add(row(part.columns))
        report.add(row(["---", *["---:"] * (len(part.columns) - 1)]))
        for unit in part.units:
            said = _measure(unit, report, own)
            if said:
                report.add(row([unit.name, said, *[""] * (len(part.columns) - 2)]))
            after()
        report.add(f"\nIn {clock.gone() - before:.1f} s.")


def _measure(unit: Unit, report: Report, clock: Clock) -> str:
    """Add a unit's rows; what is to be said beside them, or nothing."""
    if not clock.fits(unit.seconds):
        return f"skipped: about {unit.seconds:.0f} s, and {clock.left():.0f} s are left"
    try:
        with clock.held():
            for cells in unit.rows():
                report.add(row(cells))
    except TimeIsUp:
        return "cut off: its time is over"
    except Exception as error:  # whatever a GPU and its libraries raise: the next unit is measured all the same
        return f"failed: {brief(error)}"
    return ""


def brief(error: BaseException) -> str:
    """Class and message of an error, at most some 300 characters on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}{'…' if len(text) > 300 else ''}"
