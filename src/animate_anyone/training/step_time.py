"""How long a recipe's step will take on this machine: its operations, over what the machine does of such in a second.

The rate is measured, in a few seconds, with single blocks of the widths that the networks have: two residual layers'
convolutions, normalisation and a transformer layer, forward and backward, in the recipe's precision. Wide blocks come
near to what the processor can do, narrow ones on large grids wait for memory; each width counts alike. What is told is
a range, as wide as real steps were found beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from statistics import harmonic_mean, median
from typing import Any

import torch
from diffusers.models.unets.unet_2d_blocks import CrossAttnDownBlock2D
from torch import Tensor

from animate_anyone.training.step_flops import CountFlops

SLACK = 1.25
"""By what factor steps may be slower or faster than the blocks, measured on a CPU (benchmarks/train_time.py)."""

_SECONDS = 0.4  # of timed calls for each width
_MOST = 6.0  # seconds; widths that are left then are not timed
_CONTEXT = 32  # channels of the one token that blocks attend to


@dataclass(frozen=True)
class Level:
    """One resolution of a UNet: ``width`` channels on a grid of ``side`` squared cells, ``heads`` of attention."""

    width: int
    side: int
    heads: int
    groups: int


def step_seconds(operations: float, rate: float) -> tuple[float, float]:
    """The least and the most that so many operations are expected to take at a rate of :func:`measure_rate`."""
    return operations / rate / SLACK, operations / rate * SLACK


def levels_of(unet: Any, side: int) -> tuple[Level, ...]:
    """The levels of a denoising UNet whose latents have ``side`` squared cells; of equal widths the finest."""
    levels: dict[int, Level] = {}
    widths = unet.config["block_out_channels"]
    for number, width in enumerate(widths):
        heads = unet.config["num_attention_heads"]
        heads = heads if isinstance(heads, int) else heads[number]
        groups = unet.config["norm_num_groups"] or 1
        levels.setdefault(width, Level(width, max(1, side >> number), heads, groups))
    return tuple(levels.values())


@lru_cache(maxsize=32)
def measure_rate(levels: tuple[Level, ...], samples: int, precision: str, device: torch.device) -> float:
    """Operations a second on ``device``: blocks of these levels are timed, each of as many operations.

    Args:
        samples: pictures in a micro-batch; as many at most are computed together.
        precision: ``float32`` or ``bfloat16`` (autocast).
    """
    began, rates = time.perf_counter(), list[float]()
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
        budget = _SECONDS * _probe(device, autocast) / 3  # blocks do a third of it, or more
        for level in levels:
            if not rates or time.perf_counter() - began < _MOST:
                rates.append(_rate(level, samples, budget, device, autocast))
    return harmonic_mean(rates)


def _probe(device: torch.device, autocast: AbstractContextManager[Any]) -> float:
    """Operations a second of a small matrix product."""
    side = 512 if device.type == "cpu" else 4096
    with autocast, torch.no_grad():
        square = torch.randn(side, side, device=device)
        times = list(_times(lambda: square @ square, device, 0.05))
    return 2 * side**3 / min(times)


def _rate(
    level: Level, samples: int, budget: float, device: torch.device, autocast: AbstractContextManager[Any]
) -> float:
    """Operations a second, forward and backward, of a block at a level, smaller where ``budget`` is."""
    each = 228 * level.width**2  # operations for a cell, forward and backward, attention left out
    side = level.side
    while side > 8 and each * side**2 > budget:
        side //= 2
    count = max(1, min(samples, int(budget / (each * side**2))))
    block = CrossAttnDownBlock2D(
        in_channels=level.width,
        out_channels=level.width,
        temb_channels=level.width,
        num_layers=1,
        resnet_groups=level.groups,
        num_attention_heads=level.heads,
        cross_attention_dim=_CONTEXT,
        add_downsample=False,
    ).to(device)
    given = torch.randn(count, level.width, side, side, device=device, requires_grad=True)
    emb, token = torch.randn(count, level.width, device=device), torch.randn(count, 1, _CONTEXT, device=device)

    def step() -> None:
        with autocast:
            out: Tensor = block(given, emb, token)[0]
        out.float().mean().backward()

    with CountFlops() as counted:
        step()
    return counted.flops.total / median(_times(step, device, _SECONDS))


def _times(work: Callable[[], object], device: torch.device, seconds: float) -> Iterator[float]:
    """Seconds of single calls, for about so long in all, after one that is not timed; two at least."""
    wait = (lambda: None) if device.type == "cpu" else lambda: torch.accelerator.synchronize(device)
    work()
    wait()
    whole, number = time.perf_counter(), 0
    while number < 2 or time.perf_counter() - whole < seconds:
        began = time.perf_counter()
        work()
        wait()
        yield time.perf_counter() - began
        number += 1
