"""The most memory that this process has had so far, measured."""

from __future__ import annotations

import sys

import torch


def peak_of_gpu(device: torch.device) -> int | None:
    """Bytes of tensors on a CUDA GPU; ``None`` for other devices."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def peak_of_process() -> int | None:
    """Bytes of the machine's memory (resident set); ``None`` where the system does not tell."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
