"""Where is computed, and stopping what runs."""

from __future__ import annotations

import torch

_stopped = False


def get_torch_device() -> torch.device:
    """Where ComfyUI computes."""
    return torch.device("cpu")


class InterruptProcessingException(Exception):  # noqa: N818 - ComfyUI's own name
    """The user stopped it."""


def interrupt_current_processing(value: bool = True) -> None:
    """Stop at the next chance."""
    global _stopped
    _stopped = value


def throw_exception_if_processing_interrupted() -> None:
    """The chance."""
    global _stopped
    if _stopped:
        _stopped = False
        raise InterruptProcessingException
