"""``train RECIPE --check``: what a run will train, need and find, before it begins; it touches nothing."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from animate_anyone.sampling.memory import memory_of, readable
from animate_anyone.training import processes
from animate_anyone.training.checkpoint import as_it_began, last_checkpoint
from animate_anyone.training.clip_cache import SHARD, shard_folder
from animate_anyone.training.config import Data, Recipe
from animate_anyone.training.loop import number_type
from animate_anyone.training.optimizer import check_optimizer
from animate_anyone.training.render_pool import count_workers
from animate_anyone.training.step_memory import StepMemory, step_memory


def check_lines(recipe: Recipe, name: str = "") -> list[str]:
    """What ``--check`` prints of a recipe; ``name`` is its stage's in a chain.

    Nothing is rendered, no weight is read, no folder or file is made.

    Raises:
        InputError: what the recipe starts from is not there or does not fit it, as when it is trained.
    """
    device, count = processes.device(), processes.count()
    check_optimizer(recipe.optimizer, device)
    recipe = replace(recipe, precision=number_type(recipe.precision, device))
    if (checkpoint := last_checkpoint(Path(recipe.output))) is not None:
        recipe = as_it_began(recipe, checkpoint, count)
    title = f"{name}: stage {recipe.stage}" if name and name != recipe.stage else f"stage {recipe.stage}"
    lines = [f"{title}, {recipe.precision}, {recipe.optimizer.kind}, on {device.type}; output {recipe.output}"]
    lines += [_steps(recipe, count), _data(recipe.data)]
    other = replace(recipe, gradient_checkpointing=not recipe.gradient_checkpointing)
    needs, otherwise = (step_memory(one, device, count) for one in (recipe, other))
    return [*lines, *_parts(needs), *_memory(recipe, needs, otherwise, device)]


def missing_start(recipe: Recipe, name: str) -> list[str]:
    """What can be said of a chain's stage that starts from the model of one that is not trained yet."""
    return [
        f"{name}: stage {recipe.stage}; output {recipe.output}",
        _steps(recipe, processes.count()),
        _data(recipe.data),
        f"parts and memory: known when {recipe.init} is there",
    ]


def _steps(recipe: Recipe, count: int) -> str:
    """Steps, those that are done, and what each is made of."""
    clips = recipe.batch * count
    line = f"steps: {recipe.steps}, of {clips} clips each"
    if recipe.accumulate > 1 or count > 1:
        line += f" ({count} processes x {recipe.accumulate} micro-batches x {recipe.batch // recipe.accumulate})"
    if recipe.stage in ("image", "motion", "environment"):
        in_a_row = recipe.stage == "motion" or (recipe.data.consecutive and recipe.stage == "environment")
        frames = recipe.data.frames_per_clip if in_a_row else recipe.objective.targets_per_reference
        line += f", {frames} frames a clip"
    line += f"; {recipe.steps * clips / recipe.data.clips:.3g} times through the data"
    checkpoint = last_checkpoint(Path(recipe.output))
    if checkpoint is not None:
        done = "some"
        with suppress(OSError, ValueError, KeyError):
            done = str(json.loads((checkpoint / "state.json").read_text())["step"])
        line += f"; {done} are done already: --resume goes on"
    return line


def _data(data: Data) -> str:
    """Clips that are there and those that are to be rendered."""
    line = (
        f"data: {data.clips} clips of the {data.domain} studio, {data.size}x{data.size}, {data.frames_per_clip} frames"
    )
    if data.cache is None:
        return f"{line}; rendered as they are needed, by {count_workers(data)} processes"
    shards = -(-data.clips // SHARD)
    there = sum(shard_folder(Path(data.cache), number).exists() for number in range(shards))
    left = f"; {shards - there} are to be rendered first" if there < shards else ""
    return f"{line}; cache {data.cache}: {there} of {shards} shards of {SHARD} clips are there{left}"


def _parts(needs: StepMemory) -> list[str]:
    width = max(len(name) for name in needs.parts)
    lines = ["parameters" + " " * (width - 6) + f"{'trained':>16}{'frozen':>16}"]
    for name, part in needs.parts.items():
        lines.append(f"  {name:<{width}}  {part.trained:>16,}{part.weights - part.trained:>16,}")
    return lines


def _memory(recipe: Recipe, needs: StepMemory, other: StepMemory, device: torch.device) -> list[str]:
    spared, plain = (needs, other) if recipe.gradient_checkpointing else (other, needs)
    sizes = {"weights": needs.weights, "gradients": needs.gradients, "optimiser": needs.moments}
    sizes |= {"moving average": needs.average, "gradients exchanged": needs.buckets}
    sizes |= {"sharded weights, gathered in the passes": needs.gathered}
    sizes |= {"libraries": needs.process}
    told = ", ".join(f"{name} {readable(size)}" for name, size in sizes.items() if size)
    now, otherwise = ("with", "without") if recipe.gradient_checkpointing else ("without", "with")
    lines = [
        f"memory: {told}",
        f"activations of a micro-batch: {readable(plain.kept)}; with gradient_checkpointing {readable(spared.kept)}",
        f"peak: {readable(needs.peak)} {now} gradient_checkpointing; {readable(other.peak)} {otherwise}",
    ]
    there = memory_of(device)
    if there is not None:
        fits = "it fits" if needs.peak <= there[0] else "it does not fit"
        lines[-1] += f"; {readable(there[0])} of {readable(there[1])} are free on {device.type}: {fits}"
        if needs.peak > there[0]:
            lines[-1] += "; try gradient_checkpointing=true, a larger accumulate, optimizer.kind=adamw8bit"
    return [*lines, "computed from the shapes of the networks, not measured; how long it takes is not foretold"]
