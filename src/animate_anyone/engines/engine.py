"""What runs a function on many jobs, and what it may count on. Results are in files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

TRIES = 2
"""How often a job is begun at most, where the process that works on it dies."""


@dataclass(frozen=True)
class Resources:
    """What a process keeps busy.

    Attributes:
        cpus: cores.
        gpus: GPUs; a fraction shares one.
        or_cores: where there are no GPUs, an even share of all cores in their place.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    or_cores: bool = False


ONE_CORE = Resources()
ONE_MODEL = Resources(gpus=1.0, or_cores=True)
"""A process that holds a model: a GPU of its own. Without GPUs there is one process on each machine, with all of its
cores, unless more are asked for: several would hold the model several times and compute no faster."""


@dataclass(frozen=True)
class Lost(Generic[Job]):
    """A job that has no result: the process that worked on it died, each of :data:`TRIES` times.

    Attributes:
        cause: what of, the last time, as "of SIGSEGV"; "" where that is not known.
    """

    job: Job
    cause: str = ""

    @property
    def reason(self) -> str:
        """What happened, for the user."""
        died = f"the process that worked on it died{self.cause and ' ' + self.cause}, {TRIES} times"
        return died if self.cause not in ("", "of SIGKILL") else f"{died}; it may want more memory"


class SpoiltProcessError(Exception):
    """Raised by a function that runs jobs: its process can do no more work. It is ended, and the job is taken for one
    whose process died.
    """


class Engine(Protocol):
    """Runs a function on many jobs, in whatever order and place."""

    def each(
        self, function: Callable[[Job], Result], jobs: Iterable[Job], needs: Resources = ONE_CORE
    ) -> Iterator[Result | Lost[Job]]:
        """The results, as they are ready. ``jobs`` is read lazily: what waits does not grow with their number.

        A process works on many jobs, one after another: what the function keeps in its module, such as a model, is
        there for the next one.

        Args:
            function: importable, as it may run in another process.
            jobs: what it is called with.
            needs: what a process that runs it keeps busy.

        Raises whatever ``function`` raises, but for :class:`SpoiltProcessError` in other processes, and
        :class:`InputError` where no process can be started.
        """
        ...


class InProcess:
    """One job after another, in this process."""

    def each(
        self, function: Callable[[Job], Result], jobs: Iterable[Job], needs: Resources = ONE_CORE
    ) -> Iterator[Result | Lost[Job]]:
        """See :class:`Engine`."""
        return map(function, jobs)
