"""A pool of processes, wherever they run: each with one job at a time, replaced when it dies."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from animate_anyone.engines.engine import TRIES, Job, Lost, Result, SpoiltProcessError
from animate_anyone.errors import InputError
from animate_anyone.system.child_processes import interrupts_blocked

_STARTS = 3  # processes on end that die before they take a job, after which no more are started
_END_SECONDS = 5.0  # that processes are given to end


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

    def cause(self) -> str:
        """Of one that has died by itself, what of, as :attr:`Lost.cause` has it."""
        ...


@dataclass(frozen=True)
class Pool:
    """Processes, each with one job at a time; one that dies is replaced.

    Attributes:
        start: makes a process, given its number below ``size``; no two that live have the same.
        size: how many there are at most.
        died: errors that say that a process is gone.
        starting: what is done around :meth:`start` and :meth:`Worker.begin`.
    """

    start: Callable[[int], Worker]
    size: int
    died: tuple[type[BaseException], ...]
    starting: Callable[[], AbstractContextManager[None]] = interrupts_blocked

    def each(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result | Lost[Job]]:
        """See :meth:`~animate_anyone.engines.engine.Engine.each`."""
        unread = iter(jobs)
        queue: deque[tuple[Job, int]] = deque()  # each with how often it was begun
        workers: dict[Worker, int] = {}
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
                        number = min(set(range(self.size)) - set(workers.values()))
                        worker = self.start(number)
                        workers[worker] = number
                        starting[worker.begin()] = worker
                for future in wait([*starting, *working], return_when=FIRST_COMPLETED).done:
                    dead = isinstance(future.exception(), (*self.died, SpoiltProcessError))
                    worker = starting[future] if future in starting else working[future][0]
                    if dead:
                        worker.end()
                        worker.wait_end(_END_SECONDS)
                        del workers[worker]
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
                        yield Lost(job, "" if isinstance(future.exception(), SpoiltProcessError) else worker.cause())
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
    raise InputError(f"the processes that do the work end before they begin: {why[:300]}") from error
