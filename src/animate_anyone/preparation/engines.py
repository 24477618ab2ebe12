"""Where the work is run: in this process, or in a pool of processes on this machine. Results are in files."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from types import FrameType
from typing import Protocol, TypeVar

from animate_anyone.errors import InputError
from animate_anyone.system.child_processes import begin_child, interrupts_blocked
from animate_anyone.system.whole_files import remove_unfinished

Job = TypeVar("Job")
Result = TypeVar("Result")

_AHEAD = 2  # jobs that are begun or wait in the pool, for each of its processes
_END_SECONDS = 5.0  # that a process is given to end


class Engine(Protocol):
    """Runs a function on many jobs, in whatever order and place."""

    def each(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """The results, as they are ready. ``jobs`` is read lazily: what waits does not grow with their number.

        Raises whatever ``function`` raises, and :class:`InputError` where a process was killed.
        """
        ...


class InProcess:
    """One job after another, in this process."""

    def each(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """See :class:`Engine`."""
        return map(function, jobs)


class LocalPool:
    """``workers`` processes on this machine, started anew; they end with this one."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def each(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """See :class:`Engine`."""
        spawn = multiprocessing.get_context("spawn")
        waiting, running = iter(jobs), set[Future[Result]]()
        executor = ProcessPoolExecutor(self._workers, mp_context=spawn, initializer=_begin)
        try:
            while True:
                with interrupts_blocked():
                    for job in itertools.islice(waiting, self._workers * _AHEAD - len(running)):
                        running.add(executor.submit(function, job))
                if not running:
                    break
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool:
            raise InputError(
                "a process that prepares clips was killed, probably for want of memory; give fewer --workers, and "
                "call again: what is done stays"
            ) from None
        except BaseException:
            _end(executor)
            raise
        executor.shutdown(wait=True)


def _end(executor: ProcessPoolExecutor) -> None:
    """End the processes of a pool; they remove what is half written."""
    begun = list((executor._processes or {}).values())
    executor.shutdown(wait=False, cancel_futures=True)
    for process in begun:
        process.terminate()
    for process in begun:
        process.join(_END_SECONDS)
        if process.is_alive():
            process.kill()


def _begin() -> None:
    """What each process does first: Ctrl-C is the parent's, nothing half written stays, and it ends with its parent."""
    signal.signal(signal.SIGTERM, _stop)
    begin_child(remove_unfinished)


def _stop(number: int, frame: FrameType | None) -> None:
    remove_unfinished()
    os._exit(128 + number)
