"""Which optimiser a recipe names, and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from animate_anyone.errors import InputError
from animate_anyone.optional import require
from animate_anyone.training.config import Optimizer, Recipe

MOMENTS = {"adamw": 8.0, "adamw8bit": 2 + 8 / 256}
"""Bytes that an optimiser keeps of a trained weight: two moments; in 8 bits with a scale for 256 of each."""
SHARE = "share"
"""In a parameter group: its share of the learning rate."""


def build_optimizer(settings: Optimizer, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a recipe for these parameters, by name.

    Raises:
        InputError: it needs a package that is not there, or a share is of no parameter.
    """
    groups: dict[str, list[nn.Parameter]] = {"": [], **{part: [] for part in settings.shares}}
    for name, parameter in parameters.items():
        groups[next((part for part in settings.shares if part in name), "")].append(parameter)
    for part in settings.shares:
        if not groups[part]:
            raise InputError(
                f"recipe: optimizer.shares: nothing that is trained has {part!r} in its name; leave it out"
            )
    given = [{"params": some, SHARE: settings.shares.get(part, 1.0)} for part, some in groups.items() if some]
    options: dict[str, Any] = {"lr": settings.lr, "betas": settings.betas, "weight_decay": settings.weight_decay}
    if settings.kind == "adamw":
        return torch.optim.AdamW(given, **options)
    library = require("bitsandbytes.optim", extra="bitsandbytes")
    made: torch.optim.Optimizer = library.AdamW8bit(given, **options)
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
    optimizer = build_optimizer(replace(settings, shares={}), {"": parameter})
    try:
        optimizer.step()
    except Exception as error:  # kernels of a package that is not ours raise errors of any class
        raise InputError(
            f"recipe: optimizer.kind is {settings.kind!r}, which does not go on {device.type} here "
            f"({' '.join(str(error).split())[:200]}); give optimizer.kind=adamw"
        ) from error


def learning_rate(recipe: Recipe, step: int, first: int = 0, used: float | None = None) -> float:
    """The learning rate of a step: linear warm-up, then constant or cosine down to a tenth.

    Args:
        first: with a time limit, the call's first step.
        used: with a time limit, the share of the call's training time that is over. The warm-up then takes a tenth of
            the time at most, and a cosine goes from where the recipe has it at ``first`` to its end while ``used``
            goes from 0 to 1, or the recipe's steps to their end, whichever is sooner.
    """
    o = recipe.optimizer
    if step < o.warmup_steps and used is None:
        return o.lr * (step + 1) / o.warmup_steps
    warm = 1.0 if step >= o.warmup_steps or used is None else min(1.0, max((step + 1) / o.warmup_steps, 10 * used))
    if o.schedule == "constant":
        return o.lr * warm

    def share(of: int) -> float:
        return min(1.0, max(0, of - o.warmup_steps) / max(1, recipe.steps - o.warmup_steps))

    over = share(step) if used is None else max(share(step), share(first) + (1 - share(first)) * used)
    return o.lr * warm * (0.55 + 0.45 * math.cos(math.pi * over))
