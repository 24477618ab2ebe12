"""Batches made ahead of the steps that take them.

A batch is a function of its step and part alone, so who makes it changes nothing but the time:

- Where a GPU trains and clips are read from a cache, processes of a ``DataLoader`` make batches.
- Where a GPU trains and clips are rendered as they are needed, such processes render them too. They are started anew
  and not forked, so that they can use the GPU, and get a copy of the stage without its weights.
- Where they have too little shared memory, threads make batches, of clips that other processes render.
- Where the CPU trains, one thread does: all cores are at work already.
"""

from __future__ import annotations

import copy
import multiprocessing
import shutil
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from animate_anyone.system.processes import share_of_cores
from animate_anyone.training.batch import Batch

Place = tuple[int, int, int]  # step, part, parts

_MOST_PROCESSES, _MOST_THREADS = 16, 16
_RECENT = 32
_SHARED_MEMORY = 1 << 30  # bytes that processes need to hand over batches


class Source(Protocol):
    """What makes batches."""

    def batch(self, step: int, part: int, parts: int) -> Batch:
        """The clips of one micro-batch on the CPU."""
        ...


@dataclass(frozen=True)
class BatchMakers:
    """Who makes batches: ``processes`` of a data loader or, where there are none, ``threads`` of this process.

    ``renders``: the processes render what they make batches of.
    """

    processes: int = 0
    threads: int = 1
    renders: bool = False


def choose_makers(device: torch.device, renderers: int, batch: int) -> BatchMakers:
    """Who makes batches on this machine.

    Args:
        device: where training computes.
        renderers: processes that render clips as they are needed; 0: clips are read from a cache.
        batch: clips in a micro-batch.
    """
    if device.type == "cpu":
        return BatchMakers()
    enough = _shared_memory() >= _SHARED_MEMORY
    if renderers and enough:
        return BatchMakers(processes=renderers, renders=True)
    if renderers:  # enough clips at once for every process, and a batch more
        return BatchMakers(threads=min(_MOST_THREADS, 1 + -(-renderers // batch)))
    if "fork" in multiprocessing.get_all_start_methods() and enough:
        return BatchMakers(processes=min(_MOST_PROCESSES, max(1, share_of_cores() - 1)))
    return BatchMakers(threads=2)


def without_weights(source: Source) -> Source:
    """A copy that makes the same batches in another process; networks in it have shapes and no weights."""
    if not isinstance(source, nn.Module):
        return source
    known: dict[int, Any] = {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in source.parameters()}
    known |= {id(buffer): buffer.to("meta") for buffer in source.buffers()}
    # Data-parallel and mixed-precision wrappers put a `forward` of their own there, which does not travel.
    known |= {id(source.__dict__[name]): None for name in ("forward", "_original_forward") if name in source.__dict__}
    return copy.deepcopy(source, known)


def _shared_memory() -> int:
    try:
        return shutil.disk_usage("/dev/shm").free
    except OSError:
        return 0


class Batches:
    """The batches of some places, in order, several of them made ahead. Close it, or use it in a ``with``.

    Args:
        order: read lazily.
        pinned: in memory from which a GPU is copied to while it computes.

    """

    def __init__(self, source: Source, order: Iterable[Place], makers: BatchMakers, pinned: bool = False) -> None:
        self._took: deque[float] = deque(maxlen=_RECENT)
        self._source, self._pinned = source, pinned
        made = self._by_processes(order, makers) if makers.processes else self._by_threads(order, makers)
        self._made: Iterator[Batch] = iter(made)

    def __iter__(self) -> Iterator[Batch]:
        return self._made

    def __next__(self) -> Batch:
        return next(self._made)

    @property
    def slowest(self) -> float:
        """Seconds that the slowest of the last batches took to make: for so long closing may wait."""
        return max(self._took, default=0.0)

    def close(self) -> None:
        """Make no more; waits for what is being made."""
        self._made.close()  # type: ignore[attr-defined]  # a generator

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _by_threads(self, order: Iterable[Place], makers: BatchMakers) -> Iterator[Batch]:
        places, waiting = iter(order), deque[Future[Batch]]()
        pool = ThreadPoolExecutor(makers.threads)
        try:
            while True:
                while len(waiting) < 2 * makers.threads and (place := next(places, None)) is not None:
                    waiting.append(pool.submit(self._make, place))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, place: Place) -> Batch:
        batch, took = _Places(self._source)[place]
        if self._pinned:
            batch = batch.pin_memory()
        self._took.append(took)
        return batch

    def _by_processes(self, order: Iterable[Place], makers: BatchMakers) -> Iterator[Batch]:
        # Forked, the networks beside `batch` are neither copied nor used.
        source, context = (without_weights(self._source), "spawn") if makers.renders else (self._source, "fork")
        made = DataLoader(
            _Places(source),
            batch_size=None,
            sampler=order,
            num_workers=makers.processes,
            multiprocessing_context=context,
            pin_memory=self._pinned,
            worker_init_fn=_ignore_interrupts,
            generator=torch.Generator(),  # it draws from one; not from that of the program
        )
        for batch, took in made:
            self._took.append(took)
            yield batch


class _Places(Dataset[tuple[Batch, float]]):
    """The batch of a place, and how many seconds it took to make."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, place: Place) -> tuple[Batch, float]:
        began = time.monotonic()
        batch = self.source.batch(*place)
        return batch, time.monotonic() - began


def _ignore_interrupts(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training process ends its workers
