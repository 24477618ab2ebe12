"""How long work tells how far it is. Library functions take a ``Progress``; the default says nothing.

    def encode(frames, progress: Progress = SILENT):
        for frame in progress.track(frames, total=len(frames), description="encode"):
            ...

The command line hands in a :class:`TerminalProgress`; a program can hand in its own subclass. In a notebook
:func:`suiting` gives a :class:`NotebookProgress`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Item = TypeVar("Item")


class Progress:
    """Passes items through and shows nothing; the base of those that show something."""

    def track(self, items: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
        """Yield every item, unchanged and in order.

        Args:
            items: what to go through; it is read lazily.
            total: how many there are; ``None`` takes ``len(items)`` where there is one.
            description: one or two words for the person who waits.
        """
        yield from items

    def preview(self, make: Callable[[], NDArray[np.uint8]]) -> None:
        """Show a frame as it will be by what is known now, or leave it.

        Args:
            make: computes it, ``(height, width, 3)``; that takes a moment, and changes nothing.
        """


SILENT = Progress()


class TerminalProgress(Progress):
    """Bars on the standard error stream, one per ``track``; they may be nested.

    Use it as a context manager: the bars live inside the ``with``.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def track(self, items: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
        """As :meth:`Progress.track`, with a bar."""
        yield from self._bars.track(items, total=total, description=description)


class NotebookProgress(Progress):
    """Bars below the cell of a notebook: widgets where ``ipywidgets`` is installed, else text."""

    def track(self, items: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
        """As :meth:`Progress.track`, with a bar."""
        from tqdm.auto import tqdm

        yield from tqdm(items, description, total, leave=None, unit="")  # the outermost stays


def suiting(progress: Progress | None) -> Progress:
    """What is given; where nothing is, bars in a notebook and silence elsewhere."""
    if progress is not None:
        return progress
    return NotebookProgress() if in_notebook() else SILENT


def in_notebook() -> bool:
    """Whether this is the process of a notebook's cells; a terminal's IPython is not."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel")
