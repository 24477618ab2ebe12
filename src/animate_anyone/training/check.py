"""``train RECIPE --check``: what a run will train, need and find, before it begins; it touches nothing."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from animate_anyone.sampling.memory import memory_of, readable
from animate_anyone.system import processes
from animate_anyone.training.checkpoint import as_it_began, last_checkpoint
from animate_anyone.training.clip_cache import SHARD, shard_folder
from animate_anyone.training.config import DENOISING_STAGES, Data, Recipe
from animate_anyone.training.loop import number_type
from animate_anyone.training.monitor import check_monitor
from animate_anyone.training.optimizer import check_optimizer
from animate_anyone.training.render_pool import count_workers
from animate_anyone.training.step_memory import StepMemory, stage_without_values, step_memory
from animate_anyone.training.step_time import SLACK, measure_rate, step_seconds

if TYPE_CHECKING:
    from animate_anyone.training.video_clips import VideoClips


def check_lines(recipe: Recipe, name: str = "") -> list[str]:
    """What ``--check`` prints of a recipe; ``name`` is its stage's in a chain.

    Nothing is rendered, no weight is read, no folder or file is made. This machine's speed is measured.

    Raises:
        InputError: what the recipe starts from is not there or does not fit it, as when it is trained.
    """
    device, count = processes.device(), processes.count()
    check_optimizer(recipe.optimizer, device)
    check_monitor(recipe.monitor)
    recipe = replace(recipe, precision=number_type(recipe.precision, device))
    if (checkpoint := last_checkpoint(Path(recipe.output))) is not None:
        recipe = as_it_began(recipe, checkpoint, count)
    title = f"{name}: stage {recipe.stage}" if name and name != recipe.stage else f"stage {recipe.stage}"
    lines = [f"{title}, {recipe.precision}, {recipe.optimizer.kind}, on {device.type}; output {recipe.output}"]
    videos = _videos(recipe, device)
    lines += [_steps(recipe, count, videos), *_data(recipe.data, videos)]
    other = replace(recipe, gradient_checkpointing=not recipe.gradient_checkpointing)
    largest = None if videos is None else max(videos.sizes, key=math.prod)
    needs, otherwise = (step_memory(one, device, count, largest) for one in (recipe, other))
    lines += [*_parts(needs), *_memory(recipe, needs, otherwise, device)]
    return [*lines, *_time(recipe, needs, device)]


def _time(recipe: Recipe, needs: StepMemory, device: torch.device) -> list[str]:
    """What a step computes, and how long this and all that are left will take here."""
    operations = needs.flops.total * recipe.accumulate
    line = f"a step: {operations / 1e12:.3g} TFLOP on each process (convolutions, matrix products, attention)"
    if not needs.levels:
        return [f"{line}; how long it takes is not foretold for stage {recipe.stage}"]
    try:
        rate = measure_rate(needs.levels, needs.samples, recipe.precision, device)
    except torch.OutOfMemoryError:
        return [f"{line}; how long it takes was not measured: no memory is free on {device.type}"]
    least, most = step_seconds(operations, rate)
    left = max(0, recipe.steps - (_steps_done(recipe) or 0))
    return [
        f"{line}, {_span(least, most)}; {left} steps: {_span(left * least, left * most)}, without data and saving",
        f"at {rate / 1e12:.3g} TFLOP/s, of blocks of these networks timed here; steps were up to {SLACK:g} times "
        "slower or faster on a CPU, on GPUs that is assumed",
    ]


def _span(least: float, most: float) -> str:
    """A range of seconds in the unit that suits its end."""
    units = {"d": 86400, "h": 3600, "min": 60}
    unit, seconds = next(((unit, s) for unit, s in units.items() if most >= 2 * s), ("s", 1))
    return f"{least / seconds:.2g} to {most / seconds:.2g} {unit}"


def _steps_done(recipe: Recipe) -> int | None:
    """Steps of a run that began; 0 where none did, ``None`` where its checkpoint does not tell."""
    checkpoint = last_checkpoint(Path(recipe.output))
    if checkpoint is None:
        return 0
    with suppress(OSError, ValueError, KeyError):
        return int(json.loads((checkpoint / "state.json").read_text())["step"])
    return None


def missing_start(recipe: Recipe, name: str) -> list[str]:
    """What can be said of a chain's stage that starts from the model of one that is not trained yet."""
    return [
        f"{name}: stage {recipe.stage}; output {recipe.output}",
        _steps(recipe, processes.count(), None),
        *_data(recipe.data, None),
        f"parts and memory: known when {recipe.init} is there",
    ]


def _videos(recipe: Recipe, device: torch.device) -> VideoClips | None:
    """The recipe's prepared videos, where it has any."""
    if recipe.data.source != "videos":
        return None
    from animate_anyone.training.video_clips import VideoClips  # where packages for videos are needed

    with stage_without_values(recipe, device) as stage:
        wanted = stage.wanted
    assert wanted is not None  # the recipe says so
    return VideoClips(recipe.data, recipe.seed, wanted)


def _steps(recipe: Recipe, count: int, videos: VideoClips | None) -> str:
    """Steps, those that are done, and what each is made of."""
    clips = recipe.batch * count
    line = f"steps: {recipe.steps}, of {clips} clips each"
    if recipe.accumulate > 1 or count > 1:
        line += f" ({count} processes x {recipe.accumulate} micro-batches x {recipe.batch // recipe.accumulate})"
    if recipe.stage in DENOISING_STAGES:
        frames = recipe.data.frames_per_clip if recipe.in_a_row else recipe.objective.targets_per_reference
        line += f", {frames} frames a clip"
    if videos is not None:
        line += f"; {recipe.steps * clips * (1 - recipe.data.studio_share) / len(videos.clips):.3g} times through them"
    elif recipe.data.source == "studio":
        line += f"; {recipe.steps * clips / recipe.data.clips:.3g} times through the data"
    if (done := _steps_done(recipe)) != 0:
        line += f"; {'some' if done is None else done} are done already: --resume goes on"
    return line


def _data(data: Data, videos: VideoClips | None) -> list[str]:
    """Clips that are there and those that are to be rendered."""
    if data.source == "videos":
        lines = [f"data: clips of videos in {data.videos}"] if videos is None else videos.lines()
        return [*lines, *([f"{data.studio_share:.0%} of the steps: {_studio(data)}"] if data.studio_share else [])]
    return [_studio(data)]


def _studio(data: Data) -> str:
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
    return [*lines, "memory is computed from the shapes of the networks, not measured"]
