"""Which of a run's processes this is, as torchrun and accelerate tell it, and which device is its own."""

from __future__ import annotations

import os

import torch

from animate_anyone.system.cores import usable_cores


def rank() -> int:
    """Number of this process among all of the run, from 0."""
    return _number_of("RANK", 0)


def count() -> int:
    """How many processes the run has, on all machines together."""
    return max(1, _number_of("WORLD_SIZE", 1))


def per_machine() -> int:
    """How many processes of the run this machine has."""
    return max(1, _number_of("LOCAL_WORLD_SIZE", 1))


def device() -> torch.device:
    """What this process computes on, known before the training loop is set up and in every thread.

    The GPU of its place among the machine's processes, else the CPU.
    """
    if not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes"):
        return torch.device("cpu")
    return torch.device("cuda", _number_of("LOCAL_RANK", 0) % torch.cuda.device_count())


def share_of_cores() -> int:
    """How many of the machine's processor cores fall to this process, at least 1."""
    return max(1, usable_cores() // per_machine())


def _number_of(name: str, default: int) -> int:
    """An environment variable, ``default`` where it is not there or no number."""
    try:
        return int(os.environ.get(name, default))
    except ValueError:
        return default
