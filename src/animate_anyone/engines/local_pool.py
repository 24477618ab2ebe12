"""A pool of processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from animate_anyone.engines.engine import ONE_CORE, Job, Lost, Resources, Result
from animate_anyone.engines.pool import Pool
from animate_anyone.system.child_processes import begin_child
from animate_anyone.system.cores import usable_cores
from animate_anyone.system.whole_files import remove_unfinished

_SIGNALS = frozenset(signal.Signals)
_METHOD = "spawn"  # a process forked from one with threads, or with a GPU in use, may hang


class LocalPool:
    """Processes on this machine, started anew; they end with this one.

    Args:
        workers: how many; 0: one for each GPU, or one in all, for work that takes GPUs where there are any.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def each(
        self, function: Callable[[Job], Result], jobs: Iterable[Job], needs: Resources = ONE_CORE
    ) -> Iterator[Result | Lost[Job]]:
        """See :class:`~animate_anyone.engines.engine.Engine`.

        With ``needs.or_cores`` each process sees one GPU alone or, where there is none, takes its share of the cores.
        """
        gpus = usable_gpus() if needs.or_cores else []
        size = self._workers or len(gpus) or 1
        shares = [share_of_machine(number, size, gpus) if needs.or_cores else {} for number in range(size)]
        return Pool(lambda number: _LocalWorker(shares[number]), size, (BrokenProcessPool,)).each(function, jobs)


def usable_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch  # not before it is asked for: processes that need no GPU start faster

    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    count = torch.cuda.device_count()
    return names[:count] if len(names) >= count and names[0] else [str(number) for number in range(count)]


def share_of_machine(number: int, size: int, gpus: list[str]) -> dict[str, str]:
    """What the environment of one of ``size`` processes says, before it loads anything."""
    if gpus:
        return {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]}
    if size == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, usable_cores() // size))}


class _LocalWorker:
    """A pool of one process: it is known which job it died of."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context(_METHOD)
        self._executor = ProcessPoolExecutor(1, mp_context=context, initializer=begin_worker, initargs=(environment,))

    def begin(self) -> Future[Any]:
        """See :class:`~animate_anyone.engines.pool.Worker`."""
        future = self._executor.submit(os.getpid)
        self._processes = list((self._executor._processes or {}).values())
        return future

    def submit(self, function: Callable[[Job], Result], job: Job) -> Future[Result]:
        """See :class:`~animate_anyone.engines.pool.Worker`."""
        try:
            return self._executor.submit(function, job)
        except BrokenProcessPool as error:  # it died while it had nothing to do
            future: Future[Result] = Future()
            future.set_exception(error)
            return future

    def end(self) -> None:
        """See :class:`~animate_anyone.engines.pool.Worker`."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.terminate()

    def wait_end(self, seconds: float) -> None:
        """See :class:`~animate_anyone.engines.pool.Worker`."""
        for process in self._processes:
            process.join(seconds)
            if process.is_alive():
                process.kill()

    def cause(self) -> str:
        """See :class:`~animate_anyone.engines.pool.Worker`."""
        codes = [process.exitcode for process in self._processes if process.exitcode is not None]
        if not codes:
            return ""
        return f"of {signal.Signals(-codes[0]).name}" if -codes[0] in _SIGNALS else f"with exit code {codes[0]}"


def begin_worker(environment: Mapping[str, str]) -> None:
    """What each process does first: Ctrl-C is the parent's, nothing half written stays, and it ends with its parent."""
    os.environ.update(environment)
    begin_child(remove_unfinished)
