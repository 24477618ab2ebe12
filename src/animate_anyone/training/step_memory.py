"""How much memory a recipe's steps will need, computed before anything is loaded. An estimate, never a measurement.

One step, forward and backward, is run by the stage itself on tensors without values (PyTorch's ``FakeTensorMode``), and
the bytes of all tensors that are alive are added up at every operation: autocast, attention's kernels and gradient
checkpointing are as on the device that trains. What that cannot see is scratch space within kernels and gaps between
tensors; benchmarks/train_memory.py holds the result against measured peaks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from animate_anyone.progress import SILENT, Progress
from animate_anyone.sampling.alive_bytes import AliveBytes
from animate_anyone.sampling.loading import without_values
from animate_anyone.sampling.memory import MARGIN, PROCESS
from animate_anyone.structures import Size
from animate_anyone.system.processes import per_machine
from animate_anyone.training.config import Recipe
from animate_anyone.training.distributed import layers_apart, replicated
from animate_anyone.training.lora import add_adapters, check_start
from animate_anyone.training.objective import step_generator
from animate_anyone.training.optimizer import MOMENTS
from animate_anyone.training.stage import Stage
from animate_anyone.training.stage_kinds import STAGES
from animate_anyone.training.starting_folder import init_folder
from animate_anyone.training.step_flops import CountFlops, Flops
from animate_anyone.training.step_time import Level, levels_of

HEAP = 0.5 * 2**30
"""Bytes that glibc's heap keeps on a CPU in pieces, of freed tensors below 32 MiB. Measured: 0.36 to 0.67 GiB, 0.52 in
the mean.
"""


@dataclass(frozen=True)
class Part:
    """A network of a stage: how many weights it has, and how many of them are trained."""

    weights: int
    trained: int


@dataclass(frozen=True)
class StepMemory:
    """What a step needs where it computes, in bytes.

    Attributes:
        parts: the stage's networks by name.
        weights: of all networks, buffers included.
        gradients, moments, average: of what is trained; its gradients, the optimiser's state, the moving average.
        gathered: weights that are whole during the passes where they are sharded, beside this process's share.
        buckets: copies of gradients that several processes exchange; 0 for one.
        kept: what a forward pass of one micro-batch keeps for the backward pass.
        step: the most that is alive beside weights, moments and average in the passes: activations and gradients.
        update: the same while the optimiser steps.
        process: the libraries, assumed (``sampling.memory.PROCESS``), and on a CPU :data:`HEAP`.
        margin: times :attr:`step`, for scratch space within kernels (``sampling.memory.MARGIN``, measured on CPUs).
        flops: what one micro-batch computes, see ``step_flops``.
        samples: pictures in a micro-batch. levels: of the denoising UNet; empty where the stage has none.
    """

    parts: dict[str, Part]
    weights: int
    gradients: int
    moments: int
    average: int
    gathered: int
    buckets: int
    kept: int
    step: int
    update: int
    process: int
    margin: float
    flops: Flops
    samples: int
    levels: tuple[Level, ...]

    @property
    def resident(self) -> int:
        """What stays from step to step."""
        return self.weights + self.moments + self.average + self.buckets

    @property
    def tensors(self) -> int:
        """All tensors at the peak, nothing allowed for."""
        return self.resident + max(self.gathered + self.step, self.update)

    @property
    def peak(self) -> int:
        """The most at once."""
        return self.process + self.resident + round(max(self.gathered + self.margin * self.step, self.update))


@dataclass(frozen=True)
class _Shares:
    """Which weights are sharded, among how many processes; see ``distributed.Shards``.

    Attributes:
        number: of processes; 1: nothing is sharded.
        sharded: the weights that are.
        apart: those of them that are whole only while their layer computes.
        largest: bytes of the largest such layer.
    """

    number: int
    sharded: set[nn.Parameter]
    apart: set[nn.Parameter]
    largest: int

    @classmethod
    def of(cls, stage: nn.Module, recipe: Recipe, processes: int) -> _Shares:
        number = min(processes, per_machine()) if recipe.sharding == "hsdp" else processes
        if recipe.sharding == "none" or number == 1:
            return cls(1, set(), set(), 0)
        sharded, apart, largest = set(stage.parameters()) - set(replicated(stage)), set[nn.Parameter](), 0
        for layer in layers_apart(stage):
            own = set(layer.parameters()) - apart
            largest = max(largest, _bytes(own))
            apart |= own
        return cls(number, sharded, apart, largest)

    def of_all(self, size: float) -> int:
        """What of all that is trained falls to a process."""
        return math.ceil(size / self.number)

    @property
    def spared(self) -> int:
        """Bytes of weights that this process does not hold."""
        return _bytes(self.sharded) - self.of_all(_bytes(self.sharded))

    @property
    def gathered(self) -> int:
        """All but those apart, and two layers of these: one computes and the next is fetched."""
        return 0 if self.number == 1 else _bytes(self.sharded - self.apart) + 2 * self.largest

    def share_gradients(self, kept: list[Tensor]) -> None:
        """In the backward pass each gradient of a layer apart gives way to this process's share, in ``kept``."""

        def reduce(parameter: Tensor) -> None:
            kept.append(parameter.new_empty(self.of_all(parameter.numel())))
            parameter.grad = None

        for parameter in self.apart:
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(reduce)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


class WithoutClips:
    """Stands before a stage's class: its networks, no clips."""

    def make_clips(self, progress: Progress = SILENT) -> None:
        """Nothing is rendered, nothing is written."""


@contextmanager
def stage_without_values(recipe: Recipe, device: torch.device) -> Iterator[Stage[Any]]:
    """The recipe's stage with networks that have shapes and no values; nothing is rendered, nothing written.

    Raises:
        InputError: as the stage does.
    """
    kind = STAGES[recipe.stage]
    made = type(kind.__name__, (WithoutClips, kind), {})
    random = torch.get_rng_state()
    try:
        if recipe.lora is not None:
            check_start(recipe, init_folder(recipe))
        with FakeTensorMode(allow_non_fake_inputs=True) as fake, torch.device(device), without_values():
            stage: Stage[Any] = made(replace(recipe, lora=None))
        if recipe.lora is not None:  # PEFT cannot move tensors without values
            add_adapters(stage, recipe.lora, fake)
        yield stage
    finally:
        torch.set_rng_state(random)


def step_memory(recipe: Recipe, device: torch.device, processes: int = 1, frames: Size | None = None) -> StepMemory:
    """What a step of a recipe needs on ``device`` of each of so many processes; ``recipe.precision`` is not ``auto``.

    ``frames``: their ``(width, height)``; ``None``: squares of ``data.size``.

    Raises:
        InputError: as the stage does.
    """
    recipe = replace(recipe, objective=replace(recipe.objective, condition_dropout=0.0))  # no condition is spared
    with stage_without_values(recipe, device) as stage:
        trained = [p for p in stage.parameters() if p.requires_grad]
        count = sum(p.numel() for p in trained)
        shares, reduced = _Shares.of(stage, recipe, processes), list[Tensor]()
        alive = AliveBytes((*stage.parameters(), *stage.buffers()))
        with alive, CountFlops() as counted:
            if recipe.accumulate > 1:
                for parameter in trained:
                    parameter.grad = torch.zeros_like(parameter)
            else:
                shares.share_gradients(reduced)
            before = alive.now
            batch = blank_batch(stage, device, trained[0].fake_mode, frames)  # type: ignore[attr-defined]
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                loss = stage(batch, step_generator(recipe.seed, 0, 0, recipe.accumulate))["loss"]
            kept = alive.now - before
            loss.backward()
            # What is not apart is reduced at the end, by way of a copy.
            copied = _bytes(p for p in shares.sharded - shares.apart if p.requires_grad)
            step = max(alive.peak, alive.now + copied)
        scratch = (
            shares.of_all(4 * count) if device.type != "cpu" and recipe.optimizer.kind == "adamw" else 0
        )  # all weights at once
        return StepMemory(
            parts={name: _part(network) for name, network in stage.named_children()},
            weights=_bytes((*stage.parameters(), *stage.buffers())) - shares.spared,
            gradients=shares.of_all(4 * count),
            moments=shares.of_all(MOMENTS[recipe.optimizer.kind] * count),
            average=shares.of_all(4 * count) if recipe.ema else 0,
            gathered=shares.gathered,
            buckets=4 * count if processes > 1 and shares.number == 1 else 0,
            kept=kept,
            step=step,
            update=shares.of_all(4 * count) + scratch,
            process=round(PROCESS["cpu"] + HEAP if device.type == "cpu" else PROCESS["gpu"]),
            margin=MARGIN["denoising"],
            flops=counted.flops,
            samples=stage.num_clips(0) * getattr(stage, "targets", 1),
            levels=_levels(stage),
        )


def blank_batch(
    stage: Stage[Any], device: torch.device, pictures_in: AbstractContextManager[Any], frames: Size | None = None
) -> Any:
    """One micro-batch of the stage; masks are true everywhere: all that can be computed is.

    ``pictures_in``: the context in which all but the masks is made; it may make tensors without values. ``frames``: as
    :func:`step_memory` has it.
    """
    recipe, data = stage.recipe, stage.recipe.data
    b, k = stage.num_clips(3), getattr(stage, "targets", 1)  # step 3: of whole frames in stage `autoencoder`
    side = (data.size, data.size) if frames is None else (frames[1], frames[0])
    pose = (side[0] * data.pose_scale, side[1] * data.pose_scale)
    cells = (side[0] // getattr(stage, "factor", 8), side[1] // getattr(stage, "factor", 8))
    latents = recipe.stage in ("image", "motion", "distil") and data.cache is not None and data.keep_latents
    of_stage = {"autoencoder": (b, *side, 3), "image_encoder": (b, 2, *side, 3)}
    pictures = of_stage.get(recipe.stage, (b, k, *side, 3))
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype] | None] = {
        "frames": None if latents else (pictures, torch.uint8),
        "masks": (pictures[:-1], torch.bool),
        "reference": ((b, *side, 3), torch.uint8),
        "reference_pose": ((b, *pose, 3), torch.uint8),
        "poses": ((b, k, *pose, 3), torch.uint8),
        "carried": (pictures, torch.uint8) if _carries(stage) else None,
        "latents": ((b, 1 + k, _latent_channels(stage), *cells), torch.float16) if latents else None,
        "environment": (pictures, torch.uint8),
        "objects": (pictures, torch.uint8),
        "object_masks": (pictures[:-1], torch.bool),
        "region_cells": ((b, k, *cells), torch.bool),
        "object_cells": ((b, k, *cells), torch.bool),
        "depth": ((b, k, *pose), torch.float32),
    }
    if before := getattr(stage, "num_before", 0):
        shapes |= {
            "before": ((b, before, *side, 3), torch.uint8),
            "poses_before": ((b, before, *pose, 3), torch.uint8),
            "depth_before": ((b, before, *pose), torch.float32),
            "given_before": ((b,), torch.bool),
        }
    given: dict[str, Tensor | None] = {}
    for field in fields(stage.record):
        shape = shapes.get(field.name)
        if shape is None:
            given[field.name] = None
        elif shape[1] == torch.bool:  # with values: how much is encoded depends on them
            given[field.name] = torch.ones(shape[0], dtype=torch.bool, device=device)
        else:
            with pictures_in:
                given[field.name] = torch.zeros(shape[0], dtype=shape[1], device=device)
    return stage.record(**given)


def _carries(stage: Stage[Any]) -> bool:
    guessing = getattr(stage, "guessing", None)
    return guessing is not None and guessing.carried_reference


def _latent_channels(stage: Any) -> int:
    channels: int = stage.vae.config["latent_channels"]
    return channels


def _levels(stage: Stage[Any]) -> tuple[Level, ...]:
    unet, factor = getattr(stage, "denoising_unet", None), getattr(stage, "factor", 8)
    return () if unet is None else levels_of(unet, stage.recipe.data.size // factor)


def _part(network: nn.Module) -> Part:
    parameters = list(network.parameters())
    return Part(sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad))
