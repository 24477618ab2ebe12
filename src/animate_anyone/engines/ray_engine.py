"""Ray: processes on this machine or on those of a cluster, each with the cores and GPUs that the work asks for.

Results are files, so that all machines of a cluster need what is read and what is written under the same paths, in a
shared folder. Each process looks before its first job whether it has them.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from animate_anyone.engines.engine import ONE_CORE, Job, Lost, Resources, Result
from animate_anyone.engines.pool import Pool
from animate_anyone.errors import InputError, shortened
from animate_anyone.optional import require
from animate_anyone.system.child_processes import interrupts_blocked
from animate_anyone.system.cores import usable_cores
from animate_anyone.system.whole_files import hidden_beside, remove_unfinished, writing

LOCAL = "local"
"""The address for a Ray of this machine alone, which is started and ended."""

_UNWIND_SECONDS = 2.0  # that blocks are given to end, once they are told
_ANSWER_SECONDS = 10.0  # within which the head of a cluster answers
_STORE = 300 * 1024**2  # bytes for what goes between processes of a local Ray; results are files
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # it would send figures about its use
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what it says of processes that died goes to its own logs
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # processes without a GPU see those of the machine, as Ray will have it
}


class RayEngine:
    """Ray; a context manager. See :class:`~animate_anyone.engines.engine.Engine`.

    Args:
        address: :data:`LOCAL`, ``auto`` for the cluster of this machine, or ``HOST:PORT`` of a cluster.
        workers: processes at most; 0: as many as there is room for.
        folder: where the results are written; made where it is not there.
        inputs: what is read.

    Raises:
        InputError: an address that cannot be, Ray is not installed, or no cluster answers (from ``with``).
    """

    def __init__(self, address: str, workers: int, folder: Path, inputs: Sequence[Path] = ()) -> None:
        if address not in (LOCAL, "auto") and not re.fullmatch(r"[^\s:/]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}", address):
            raise InputError(f"--ray {shortened(address)}: give local, auto, or HOST:PORT of a cluster's head")
        self._address, self._workers = address, workers
        self._folder, self._inputs = folder, inputs
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        self._ray = require("ray", extra="ray")
        self._mine = False

    def __enter__(self) -> RayEngine:
        if not self._ray.is_initialized():  # else whoever did so ends it
            self._mine = True
            try:
                _connect(self._ray, self._address, self._workers)
            except BaseException:
                self._ray.shutdown()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._mine:
            with interrupts_blocked():
                self._ray.shutdown()

    def each(
        self, function: Callable[[Job], Result], jobs: Iterable[Job], needs: Resources = ONE_CORE
    ) -> Iterator[Result | Lost[Job]]:
        """See :class:`~animate_anyone.engines.engine.Engine`."""
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if needs.or_cores and not any(machine.get("GPU", 0.0) >= needs.gpus for machine in machines):
            needs = _shares([machine.get("CPU", 0.0) for machine in machines], self._workers)
        room = sum(_room(machine, needs) for machine in machines)
        if not room:
            raise InputError(
                f"--ray {self._address}: no machine there has {needs.cpus:g} CPUs and {needs.gpus:g} GPUs; "
                "give another cluster"
            )
        errors = self._ray.exceptions
        died = (errors.RayActorError, errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError)
        actor = self._ray.remote(concurrency_groups={_END: 1})(_Actor)
        options = actor.options(num_cpus=needs.cpus, num_gpus=needs.gpus, max_restarts=0, max_task_retries=0)
        with _shown(self._folder, self._inputs) as shown:
            size = min(self._workers or room, room)
            yield from Pool(lambda _: _RayWorker(self._ray, options, shown), size, died).each(function, jobs)


_END = "end"


class _Actor:
    """What runs in a process of Ray; ``end`` is called in a thread beside that of the work."""

    def __init__(self) -> None:
        self._thread: int | None = None  # that has worked, or does
        self._is_idle = threading.Event()

    def begin(self, folder: str, shown: Mapping[str, str]) -> None:
        """Paths are those of the machine that asks. Raises :class:`InputError` where what it shows is not here."""
        with suppress(OSError):
            os.chdir(folder)
        for path, content in shown.items():
            try:
                here = Path(path).read_text() == content if content else os.path.exists(path)
            except (OSError, UnicodeDecodeError):
                here = False
            if not here:
                raise InputError(
                    f"{os.path.dirname(path) if content else path}: {socket.gethostname()} has no such folder or "
                    "another one; on several machines what is read and what is written must lie in a folder that "
                    "they share, under the same paths on each"
                )

    def work(self, function: Callable[[Job], Result], job: Job) -> Result:
        self._is_idle.clear()
        self._thread = threading.get_ident()
        try:
            return function(job)
        finally:
            self._is_idle.set()

    def end(self) -> None:
        """Raise in the thread that works, as Ctrl-C does: it could make anew what is only removed beside it."""
        if self._thread is not None:
            thread, interrupt = ctypes.c_ulong(self._thread), ctypes.py_object(KeyboardInterrupt)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, interrupt)
            self._is_idle.wait(_UNWIND_SECONDS)
        remove_unfinished()
        os._exit(0)


class _RayWorker:
    """An actor."""

    def __init__(self, ray: ModuleType, options: Any, shown: Mapping[str, str]) -> None:
        self._ray, self._shown = ray, shown
        self._actor = options.remote()
        self._begun: Future[Any] | None = None
        self._ended: Any = None

    def begin(self) -> Future[Any]:
        """See :class:`~animate_anyone.engines.pool.Worker`."""
        self._begun = self._future(self._actor.begin.remote(os.getcwd(), self._shown))
        return self._begun

    def submit(self, function: Callable[[Job], Result], job: Job) -> Future[Result]:
        """See :class:`~animate_anyone.engines.pool.Worker`."""
        return self._future(self._actor.work.remote(function, job))

    def end(self) -> None:
        """See :class:`~animate_anyone.engines.pool.Worker`."""
        if self._begun is not None and self._begun.done():
            self._ended = self._actor.end.options(concurrency_group=_END).remote()

    def wait_end(self, seconds: float) -> None:
        """See :class:`~animate_anyone.engines.pool.Worker`."""
        if self._ended is not None:
            self._ray.wait([self._ended], timeout=seconds)
        self._ray.kill(self._actor)

    def cause(self) -> str:
        """See :class:`~animate_anyone.engines.pool.Worker`; Ray tells it in its own logs alone."""
        return ""

    def _future(self, reference: Any) -> Future[Any]:
        """Its errors are those that the function raised, or Ray's own."""
        future: Future[Any] = Future()

        def pass_on(done: Future[Any]) -> None:
            error = done.exception()
            if error is None:
                future.set_result(done.result())
            else:
                future.set_exception(error.cause if isinstance(error, self._ray.exceptions.RayTaskError) else error)

        reference.future().add_done_callback(pass_on)
        return future


def _connect(ray: ModuleType, address: str, workers: int) -> None:
    """Start a local Ray, or join one."""
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == LOCAL:
        settings |= {
            "num_cpus": max(workers, usable_cores()),
            "include_dashboard": False,
            "object_store_memory": _STORE,
        }
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address not in (LOCAL, "auto"):  # Ray itself would try for many minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
        with interrupts_blocked():
            ray.init(address=address, **settings)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise InputError(
            f"--ray {address}: no Ray answers there ({why}); start one with `ray start --head`, or give --ray local"
        ) from error
    finally:
        with suppress(ValueError):  # not the main thread, where Ray puts no handler of its own
            signal.signal(signal.SIGTERM, before)


def _room(machine: dict[str, float], needs: Resources) -> int:
    """How many processes a machine has room for."""
    wanted = {"CPU": needs.cpus, "GPU": needs.gpus}
    return int(min(machine.get(name, 0.0) // amount for name, amount in wanted.items() if amount))


def _shares(cores: Sequence[float], workers: int) -> Resources:
    """Equal shares of the cores of machines, whole ones, as large as so many can be; 0: all cores of the smallest."""
    some = [int(number) for number in cores if number >= 1]
    if not workers or not some:
        return Resources(cpus=min(some, default=1))
    sizes = range(1, max(some) + 1)
    return Resources(cpus=max((size for size in sizes if sum(n // size for n in some) >= workers), default=1))


@contextmanager
def _shown(folder: Path, inputs: Sequence[Path]) -> Iterator[dict[str, str]]:
    """What each process must see: paths of files and folders, each with the content of the file, where that is told."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with hidden_beside(folder / "ray") as trial:
            trial.write_text(token := secrets.token_hex(16))
            yield {os.path.abspath(path): "" for path in inputs} | {os.path.abspath(trial): token}
