"""Where the work is run: in this process, or in a pool of processes on this machine. Results are in files."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

from animate_anyone.errors import InputError
from animate_anyone.preparation.stage import Resources
from animate_anyone.system.child_processes import begin_child, interrupts_blocked
from animate_anyone.system.whole_files import remove_unfinished

Job = TypeVar("Job")
Result = TypeVar("Result")

TRIES = 2
"""How often a job is begun at most, where the process that works on it dies."""

ONE_CORE = Resources()
_STARTS = 3  # processes on end that die before they take a job, after which no more are started
_END_SECONDS = 5.0  # that processes are given to end


@dataclass(frozen=True)
class Lost(Generic[Job]):
    """A job that has no result: the process that worked on it died, each of :data:`TRIES` times."""

    job: Job


class Engine(Protocol):
    """Runs a function on many jobs, in whatever order and place."""

    def each(
        self, function: Callable[[Job], Result], jobs: Iterable[Job], needs: Resources = ONE_CORE
    ) -> Iterator[Result | Lost[Job]]:
        """The results, as they are ready. ``jobs`` is read lazily: what waits does not grow with their number.

        Args:
            function: importable, as it may run in another process.
            jobs: what it is called with.
            needs: what a process that runs it keeps busy.

        Raises whatever ``function`` raises, and :class:`InputError` where no process can be started.
        """
        ...


class InProcess:
    """One job after another, in this process."""

    def each(
        self, function: Callable[[Job], Result], jobs: Iterable[Job], needs: Resources = ONE_CORE
    ) -> Iterator[Result | Lost[Job]]:
        """See :class:`Engine`."""
        return map(function, jobs)


class Worker(Protocol):
    """A process that works on one job at a time."""

    def begin(self) -> Future[Any]:
        """Start it; done when it can take a job. An :class:`InputError` there ends the work on all jobs."""
        ...

    def submit(self, function: Callable[[Job], Result], job: Job) -> Future[Result]:
        """Give it a job."""
        ...

    def end(self) -> None:
        """Tell it to end now; it removes what is half written."""
        ...

    def wait_end(self, seconds: float) -> None:
        """Wait until it has ended; kill it after so many seconds."""
        ...


@dataclass(frozen=True)
class Pool:
    """Processes, each with one job at a time; one that dies is replaced.

    Attributes:
        start: makes a process.
        size: how many there are at most.
        died: errors that say that a process is gone.
        starting: what is done around :meth:`start` and :meth:`Worker.begin`.
    """

    start: Callable[[], Worker]
    size: int
    died: tuple[type[BaseException], ...]
    starting: Callable[[], AbstractContextManager[None]] = interrupts_blocked

    def each(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result | Lost[Job]]:
        """See :meth:`Engine.each`."""
        unread = iter(jobs)
        queue: deque[tuple[Job, int]] = deque()  # each with how often it was begun
        workers: list[Worker] = []
        idle: list[Worker] = []
        starting: dict[Future[Any], Worker] = {}
        working: dict[Future[Result], tuple[Worker, Job, int]] = {}
        failed_starts = 0
        try:
            while True:
                queue.extend((job, 0) for job in itertools.islice(unread, max(0, self.size - len(queue))))
                while queue and idle:
                    worker, (job, begun) = idle.pop(), queue.popleft()
                    working[worker.submit(function, job)] = worker, job, begun + 1
                if not queue and not working:
                    return
                while len(workers) < self.size and len(starting) < len(queue):
                    with self.starting():
                        workers.append(self.start())
                        starting[workers[-1].begin()] = workers[-1]
                for future in wait([*starting, *working], return_when=FIRST_COMPLETED).done:
                    dead = isinstance(future.exception(), self.died)
                    worker = starting[future] if future in starting else working[future][0]
                    if dead:
                        workers.remove(worker)
                    else:
                        idle.append(worker)
                    if starting.pop(future, None) is not None:
                        failed_starts = failed_starts + 1 if dead else 0
                        if not dead or failed_starts == _STARTS:
                            _check_start(future)
                        continue
                    _, job, begun = working.pop(future)
                    if not dead:
                        yield future.result()
                    elif begun < TRIES:
                        queue.append((job, begun))
                    else:
                        yield Lost(job)
        finally:
            for worker in workers:
                worker.end()
            for worker in workers:
                worker.wait_end(_END_SECONDS)


def _check_start(future: Future[Any]) -> None:
    error = future.exception()
    if error is None or isinstance(error, InputError):
        future.result()
        return
    why = " ".join(str(error).split()) or type(error).__name__
    raise InputError(f"processes that prepare clips end before they begin: {why[:300]}") from error


class LocalPool:
    """``workers`` processes on this machine, started anew; they end with this one."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def each(
        self, function: Callable[[Job], Result], jobs: Iterable[Job], needs: Resources = ONE_CORE
    ) -> Iterator[Result | Lost[Job]]:
        """See :class:`Engine`."""
        return Pool(_LocalWorker, self._workers, (BrokenProcessPool,)).each(function, jobs)


class _LocalWorker:
    """A pool of one process: it is known which job it died of."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(1, mp_context=spawn, initializer=_begin)

    def begin(self) -> Future[Any]:
        """See :class:`Worker`."""
        future = self._executor.submit(os.getpid)
        self._processes = list((self._executor._processes or {}).values())
        return future

    def submit(self, function: Callable[[Job], Result], job: Job) -> Future[Result]:
        """See :class:`Worker`."""
        try:
            return self._executor.submit(function, job)
        except BrokenProcessPool as error:  # it died while it had nothing to do
            future: Future[Result] = Future()
            future.set_exception(error)
            return future

    def end(self) -> None:
        """See :class:`Worker`."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.terminate()

    def wait_end(self, seconds: float) -> None:
        """See :class:`Worker`."""
        for process in self._processes:
            process.join(seconds)
            if process.is_alive():
                process.kill()


def _begin() -> None:
    """What each process does first: Ctrl-C is the parent's, nothing half written stays, and it ends with its parent."""
    signal.signal(signal.SIGTERM, _stop)
    begin_child(remove_unfinished)


def _stop(number: int, frame: FrameType | None) -> None:
    remove_unfinished()
    os._exit(128 + number)
