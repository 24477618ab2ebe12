"""Processes forked from the one that runs the tests: what is imported here they need not import, which takes seconds.

They are as other processes are, but for that: a folder, streams, signals and an exit status of their own.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn

import torch

from animate_anyone.system.signals import SIGNALS

# Where there is a GPU, neither it nor a backward pass works past a fork.
TRAINS = hasattr(os, "fork") and not torch.cuda.is_available()


class Forked:
    """A process that calls a function and ends; the part of :class:`subprocess.Popen` that tests need.

    Args:
        work: what it does; returns the exit status, none for 0.
        folder: where it runs.
        errors: takes what it says as errors; a file of its own unless given.
    """

    def __init__(self, work: Callable[[], int | None], folder: Path, errors: IO[Any] | None = None) -> None:
        self.returncode: int | None = None
        self._said = errors or tempfile.TemporaryFile("w+")  # noqa: SIM115 - they are open while the process runs
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _run(work, folder, write, self._said.fileno())
        os.close(write)
        self.stdout: IO[str] = open(read)  # noqa: SIM115

    def poll(self) -> int | None:
        """The exit status; ``None`` while it runs."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        """The exit status, when it has ended."""
        status = self._wait(0)
        assert status is not None
        return status

    def _wait(self, options: int) -> int | None:
        if self.returncode is None and (found := os.waitpid(self.pid, options))[0]:
            self.returncode = os.waitstatus_to_exitcode(found[1])
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All that it says until it ends, on standard output and as errors; it is killed after these seconds."""
        timer = threading.Timer(timeout, self.kill) if timeout is not None else None
        if timer is not None:
            timer.start()
        out = self.stdout.read()
        self.wait()
        if timer is not None:
            timer.cancel()
        self._said.seek(0)
        return out, self._said.read()

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, with all that it started."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)


def command_line(*arguments: object) -> Callable[[], None]:
    """The command line as work of a process."""

    def work() -> None:
        from animate_anyone.cli.main import main

        sys.argv = ["animate-anyone", *map(str, arguments)]
        main()

    return work


def _run(work: Callable[[], int | None], folder: Path, out: int, err: int) -> NoReturn:
    status = 1
    try:
        gc.freeze()  # what is garbage here may belong to threads that are not there any more: it is never collected
        os.setsid()
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for descriptor, stream in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
            os.dup2(descriptor, stream)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
        faulthandler.enable(file=sys.stderr)  # pytest's own writes to a stream that the test does not read
        # What pytest has put in their place.
        sys.unraisablehook, sys.excepthook, threading.excepthook = (
            sys.__unraisablehook__,
            sys.__excepthook__,
            threading.__excepthook__,
        )
        warnings.showwarning = warnings._showwarning_orig  # type: ignore[attr-defined]
        os.chdir(folder)
        torch.set_num_threads(1)
        status = work() or 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
