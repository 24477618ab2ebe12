"""Processes that render clips while the training process computes.

They are started anew, not forked, so that each may use a GPU. What they make is a function of the clip's number, so
how many there are changes nothing but the time.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar, cast

import torch

from animate_anyone.errors import InputError
from animate_anyone.system.child_processes import begin_child, interrupts_blocked
from animate_anyone.system.processes import share_of_cores
from animate_anyone.training.config import Data

MOST = 16  # each process with a GPU keeps half a gigabyte of its memory

Result = TypeVar("Result")


def count_workers(data: Data) -> int:
    """How many processes render: as ``data.workers`` says, or as many as there are cores for."""
    return min(MOST, share_of_cores()) if data.workers is None else data.workers


def may_start() -> bool:
    """Whether this process may start others; a data loader's worker may not."""
    return not multiprocessing.current_process().daemon


class RenderPool:
    """``workers`` processes that call functions; it ends with its owner or with :meth:`close`."""

    def __init__(self, workers: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin)

    def each(
        self, function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], in_order: bool = True
    ) -> Iterator[Result]:
        """``function(*job)`` of every job, all of them begun at once; in their order, or as they are ready.

        Raises:
            InputError: a process was killed, as happens where memory is short.
        """
        with interrupts_blocked():
            futures = [self._executor.submit(function, *job) for job in jobs]
        try:
            for future in futures if in_order else as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise InputError(
                "a process that renders clips was killed, probably for want of memory; give fewer data.workers"
            ) from None

    def close(self) -> None:
        """End the processes; what they have begun is not finished."""
        begun, results = list((self._executor._processes or {}).values()), cast(Any, self._executor._result_queue)
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in begun:
            process.terminate()
        # The executor's thread waits for the rest of a result that a process was sending, and this process, when it
        # ends, for that thread: without a writer left the result ends here.
        if results is not None:
            results._writer.close()

    def __enter__(self) -> RenderPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:  # all is done; threads of the executor must not be about where a process is forked later
            self._executor.shutdown(wait=True)
        else:
            self.close()


def _begin() -> None:
    """What each process does first: one thread, Ctrl-C ignored, and an end when the training process has ended."""
    torch.set_num_threads(1)
    begin_child()
