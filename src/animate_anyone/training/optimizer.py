"""Which optimiser a recipe names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from animate_anyone.errors import InputError
from animate_anyone.optional import require
from animate_anyone.training.config import Optimizer

MOMENTS = {"adamw": 8.0, "adamw8bit": 2 + 8 / 256}
"""Bytes that an optimiser keeps of a trained weight: two moments; in 8 bits with a scale for 256 of each."""


def build_optimizer(settings: Optimizer, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a recipe for these parameters.

    Raises:
        InputError: it needs a package that is not there.
    """
    options: dict[str, Any] = {"lr": settings.lr, "betas": settings.betas, "weight_decay": settings.weight_decay}
    if settings.kind == "adamw":
        return torch.optim.AdamW(parameters, **options)
    library = require("bitsandbytes.optim", extra="bitsandbytes")
    made: torch.optim.Optimizer = library.AdamW8bit(parameters, **options)
    return made


def check_optimizer(settings: Optimizer, device: torch.device) -> None:
    """Take one step of the optimiser on ``device``, with a few numbers, before anything long begins.

    Raises:
        InputError: it is not there or does not go on this device.
    """
    if settings.kind == "adamw":
        return
    parameter = nn.Parameter(torch.zeros(64, 256, device=device))  # smaller ones are not kept in 8 bits
    parameter.grad = torch.ones_like(parameter)
    optimizer = build_optimizer(settings, [parameter])
    try:
        optimizer.step()
    except Exception as error:  # kernels of a package that is not ours raise errors of any class
        raise InputError(
            f"recipe: optimizer.kind is {settings.kind!r}, which does not go on {device.type} here "
            f"({' '.join(str(error).split())[:200]}); give optimizer.kind=adamw"
        ) from error
