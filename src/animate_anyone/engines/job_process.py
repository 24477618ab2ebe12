"""One process on this machine for one job after another; it tells how far a job is, and can be ended in the middle."""

from __future__ import annotations

import json
import multiprocessing
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from animate_anyone.engines.local_pool import begin_worker
from animate_anyone.errors import InputError
from animate_anyone.system.child_processes import interrupts_blocked

Tell = Callable[[Mapping[str, Any]], None]
"""Takes what a job says while it works: a JSON object."""

Work = Callable[[dict[str, Any], Tell], dict[str, Any]]
"""Does a job: a JSON object in, one out. A function of a module, which the process imports."""

END_SECONDS = 3.0
"""After so long a process that was told to end is killed."""
_LONGEST_REASON = 300  # letters


class EndedError(Exception):
    """The process was ended, or died, before the job was done."""


class JobProcess:
    """A process that is started when it gets its first job, and again when it has ended.

    What passes between the two processes is JSON: what the other one says is data and nothing else.

    Args:
        work: does a job.
        environment: what the process's environment says besides this one's.
    """

    def __init__(self, work: Work, environment: Mapping[str, str] | None = None) -> None:
        self._work, self._environment = work, dict(environment or {})
        self._process: Any = None
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def run(self, job: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
        """Do a job and wait for it; ``tell`` is called, in this thread, with what it says.

        Raises:
            InputError: what the job raised.
            EndedError: the process was ended meanwhile, or died.
            RuntimeError: the job failed otherwise; one line.
        """
        with self._lock:
            if self._process is None or not self._process.is_alive():
                self._start()
            process, connection = self._process, self._connection
        assert connection is not None
        try:
            connection.send_bytes(json.dumps(job).encode())
            while True:
                if connection not in wait([connection, process.sentinel]):
                    raise EndedError
                kind, content = json.loads(connection.recv_bytes())
                if kind == "done":
                    return content
                if kind == "input error":
                    raise InputError(content)
                if kind == "error":
                    raise RuntimeError(content)
                tell(content)
        except (EOFError, OSError, EndedError):
            self.end()
            raise EndedError from None

    def end(self) -> None:
        """End the process, whatever it does; returns when it is gone. May be called from any thread."""
        with self._lock:
            process, connection, self._process, self._connection = self._process, self._connection, None, None
        if process is None:
            return
        with suppress(OSError, ValueError):
            process.terminate()
        process.join(END_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        if connection is not None and not connection.closed:
            connection.close()

    @property
    def is_alive(self) -> bool:
        """Whether there is a process, at work or waiting."""
        with self._lock:
            return self._process is not None and self._process.is_alive()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(self._work, self._environment, there), daemon=True)
        with interrupts_blocked():
            process.start()
        there.close()
        self._process, self._connection = process, here


def _serve(work: Work, environment: Mapping[str, str], connection: Connection) -> None:
    """What the process does: job after job, until the other end is closed."""
    begin_worker(environment)

    def say(kind: str, content: Any) -> None:
        connection.send_bytes(json.dumps([kind, content]).encode())

    while True:
        try:
            job = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            say("done", work(job, lambda said: say("told", said)))
        except InputError as error:
            say("input error", str(error))
        except Exception as error:
            reason = " ".join(str(error).split())[:_LONGEST_REASON]
            say("error", f"{type(error).__name__}: {reason}" if reason else type(error).__name__)
