"""A recipe's stage is built and trained."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate.utils import convert_file_size_to_int

from animate_anyone.errors import InputError
from animate_anyone.progress import SILENT, Progress
from animate_anyone.system import processes
from animate_anyone.training.checkpoint import as_it_began, last_checkpoint
from animate_anyone.training.config import Recipe
from animate_anyone.training.loop import train
from animate_anyone.training.monitor import check_monitor
from animate_anyone.training.optimizer import check_optimizer
from animate_anyone.training.stage import Stage
from animate_anyone.training.stage_kinds import STAGES as STAGES
from animate_anyone.training.time_limit import TimeLimit
from animate_anyone.training.timed_cache import clips_in_time

LARGEST_SHARD = "14MB"
"""Of the weights that training with a time limit writes."""


def build_stage(recipe: Recipe, progress: Progress = SILENT) -> Stage[Any]:
    """The stage that a recipe names, with its networks built and its clips at hand."""
    return STAGES[recipe.stage](recipe, progress)


def run(recipe: Recipe, resume: bool = False, progress: Progress = SILENT, limit: TimeLimit | None = None) -> Path:
    """Train a recipe to its end, or to that of its time, and return the folder of the resulting model.

    With a time limit as much of the cache is filled as fits (see ``timed_cache``), the result's files are small enough
    to be carried anywhere, and ``report.md`` in the output folder says how far it went.

    Raises:
        InputError: the output folder cannot be made or holds another run, or what the stage starts from is not there.
    """
    output = Path(recipe.output)
    check_optimizer(recipe.optimizer, processes.device())
    check_monitor(recipe.monitor)
    checkpoint = last_checkpoint(output)
    if checkpoint is not None and resume:
        recipe = as_it_began(recipe, checkpoint, processes.count())
    elif checkpoint is not None:
        raise InputError(f"output {output}: holds a run already; type --resume to go on, or give another output=FOLDER")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output {output}: cannot be made ({error.strerror}); give a folder") from None
    built = recipe
    try:
        if limit is not None:
            recipe = replace(recipe, max_shard_size=_smaller(recipe.max_shard_size, LARGEST_SHARD))
            with limit.measured("rendering"):
                data = clips_in_time(recipe, limit, progress)
            built = replace(recipe, data=data)
        stage = build_stage(built, progress)
    except InputError:
        with suppress(OSError):  # only if nothing is in it
            output.rmdir()
        raise
    return train(recipe, stage, resume=resume, progress=progress, limit=limit)


def _smaller(one: str, other: str) -> str:
    try:
        return min(one, other, key=convert_file_size_to_int)
    except ValueError:
        raise InputError(f"recipe: max_shard_size is {one!r}; give a size such as 14MB") from None
