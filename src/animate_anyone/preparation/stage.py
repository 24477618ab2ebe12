"""Stages: small classes that say what they need and what they give, and know nothing of the engine that runs them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from animate_anyone.engines.engine import Resources


class Stage(Protocol):
    """One step of the work on an item, a record whose fields are filled one after another.

    Attributes:
        name: for the user.
        inputs: fields of the item that must be filled before.
        outputs: fields that are filled afterwards.
        resources: what it keeps busy.
    """

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    outputs: ClassVar[tuple[str, ...]]
    resources: ClassVar[Resources]

    def __call__(self, item: Any) -> None:
        """Fill the outputs. Raises :class:`DroppedError` where the item is of no use."""
        ...


class DroppedError(Exception):
    """An item that is of no use, and why.

    Attributes:
        reason: a name in :mod:`reasons`.
        detail: the figure that decided, for the user; empty where there is none.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def check_stages(stages: Sequence[Stage], given: Sequence[str]) -> None:
    """See that each stage finds its inputs, with the fields ``given`` filled at the start. Raises ``ValueError``."""
    filled = set(given)
    for stage in stages:
        missing = set(stage.inputs) - filled
        if missing:
            raise ValueError(f"stage {stage.name!r} needs {', '.join(sorted(missing))}, which no stage before it gives")
        filled |= set(stage.outputs)


def needs(stages: Sequence[Stage]) -> Resources:
    """What a process that runs stages one after another keeps busy."""
    return Resources(max(s.resources.cpus for s in stages), max(s.resources.gpus for s in stages))


def run_stages(stages: Sequence[Stage], item: Any, seconds: dict[str, float]) -> None:
    """Take an item through stages; the time of each is added to ``seconds``. Raises :class:`DroppedError`."""
    for stage in stages:
        began = time.perf_counter()
        try:
            stage(item)
        finally:
            seconds[stage.name] = seconds.get(stage.name, 0.0) + time.perf_counter() - began
