"""Ctrl-C and other people's ``kill``: a command ends the ordinary way, with exit status 128 + the signal's number.

The first signal becomes an exception, so that all blocks end and remove what is half written. Libraries can swallow
such an exception, above all while they are imported: that a signal came is remembered, and told again until the
command ends. This module is imported before all others, and imports little.
"""

from __future__ import annotations

import _signal  # ``signal`` without its enumerations, whose import takes longer than that of this module
import _thread
import os
import sys
import time

TYPE_CHECKING = False  # as in ``typing``, which is not imported for it
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

SIGNALS = tuple(
    getattr(_signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(_signal, name)
)
AGAIN = 0.2  # seconds after which a signal is told again
WORDS = "stopped; nothing half-written is left"
_SHOW_CURSOR = "\x1b[?25h"  # progress bars hide it


class Stopped(KeyboardInterrupt):
    """A signal asks this process to end. Libraries take it for Ctrl-C, whichever signal it was."""


class Signals:
    """What the signals of this process do, from :meth:`catch` on.

    Attributes:
        caught: the first signal that came, or ``None``.
        is_unfinished: whether something is half written.
        remove_unfinished: removes that without ending any block.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self.is_unfinished: Callable[[], bool] = bool
        self.remove_unfinished: Callable[[], object] = bool
        self._process, self._thread = os.getpid(), _thread.get_ident()
        self._status: int | None = None
        self._told_again = False
        self._stderr = 2

    def catch(self) -> None:
        """From now on signals end the command. One that is ignored, as ``nohup`` has it, stays ignored."""
        for number in SIGNALS:
            if _signal.getsignal(number) != _signal.SIG_IGN:
                try:
                    _signal.signal(number, self._handle)
                except ValueError:  # not the main thread, which alone may do this
                    return
        try:  # noqa: SIM105 - contextlib is not imported for it
            self._stderr = os.dup(2)  # libraries in C are silenced by turning descriptor 2 elsewhere for a while
        except OSError:  # there is none
            pass
        shown = sys.unraisablehook

        def show(unraisable: Any) -> None:  # what a destructor or a library in C has swallowed comes again
            if not issubclass(unraisable.exc_type, Stopped):
                shown(unraisable)

        sys.unraisablehook = show

    def end(self, status: int) -> None:
        """The exit status is decided: a signal that comes now ends the process with it."""
        self._status = status

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a child made by fork has nothing of its own to remove
            _signal.signal(number, _signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        again, self._told_again = self._told_again, False
        if self._status is not None:
            if not again:
                os._exit(self._status)
            return
        if self.caught is None:
            self.caught = number
            _thread.start_new_thread(self._tell_again, ())  # not ``threading``, whose locks may be held right here
        elif not again:  # a second signal: do not wait for blocks to end
            self._leave()
        if not _is_importing(frame):
            if not _is_unwinding():
                raise Stopped
        elif not self.is_unfinished():
            self._leave()

    def _leave(self) -> None:
        """End this process now, without ending any block."""
        assert self.caught is not None
        self.remove_unfinished()
        try:
            os.write(self._stderr, f"{_SHOW_CURSOR if os.isatty(self._stderr) else ''}{WORDS}\n".encode())
        finally:
            os._exit(128 + self.caught)

    def _tell_again(self) -> None:
        assert self.caught is not None
        while True:
            time.sleep(AGAIN)
            if self._status is not None:  # what is left to do, such as ending other processes, is done the ordinary way
                return
            self._told_again = True
            if hasattr(_signal, "pthread_kill"):  # this one also ends a wait of the main thread
                _signal.pthread_kill(self._thread, self.caught)
            else:
                _signal.raise_signal(self.caught)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported: its code, or what imports it, may swallow any exception."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            return True
        frame = frame.f_back
    return False


def _is_unwinding() -> bool:
    """Whether blocks are being ended by a :class:`Stopped` that was raised before."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, Stopped):
        error = error.__context__
    return error is not None
