"""Stop and go on: everything that the next step depends on, written so that a cut leaves the last one whole."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.system.processes import rank
from animate_anyone.system.whole_files import unfinished, writing
from animate_anyone.training.config import Recipe
from animate_anyone.training.distributed import is_sharded
from animate_anyone.training.removed_settings import without_removed
from animate_anyone.training.stage import Stage
from animate_anyone.training.temporal_reference_settings import TemporalReferenceSettings

MOVING = "moving.safetensors"
"""The file in a checkpoint that has what steps change beside the trained weights, see ``Stage.moving``."""
SHARDS = "shards"
"""The folder in a checkpoint of a sharded run that has its tensors, see ``sharded_checkpoint``."""

_LOG = logging.getLogger(__name__)

# What reading a damaged checkpoint raises.
_BROKEN = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, UnpicklingError, SafetensorError)
# Puts a checkpoint's tensors into a stage, its optimiser and the moving average.
_Read = Callable[[Stage[Any], Any, EMAModel | None], None]
# Settings that may differ between the first part of a run and the rest.
_MAY_CHANGE = (
    *("steps", "output", "log_every", "checkpoint_every", "accumulate", "max_shard_size", "save_dtype"),
    *("gradient_checkpointing", "monitor", "keep_checkpoints", "sharding"),
)
_MAY_CHANGE_OF_DATA = ("cache", "keep_latents", "workers")
# Settings by which networks are built, and what they were before they had a name: a run goes on as it began, whatever
# the default is by then.
_BEGAN_AS: dict[str, dict[str, Any]] = {"environment": {"blending_place": "attention"}}
# Settings that earlier checkpoints do not have, and what was done then; a recipe must say the same to go on.
_UNNAMED: dict[str, dict[str, Any]] = {
    "optimizer": {"kind": "adamw", "shares": {}},
    "objective": {"min_snr_gamma": None, "noise_offset": 0.0},
    "data": {
        **{"videos": None, "studio_share": 0.0, "shapes": "buckets", "reference": "same_clip"},
        **{"clip_length": None, "framing": "any"},
    },
    "environment": {
        **{"blending_levels": "attention", "object_latents": "alone", "object_weight": 0.0},
        **{"new_objects": False, "guess_objects": 1.0},
        "temporal_reference": asdict(TemporalReferenceSettings()),
    },
    "networks": {"resnet": {}},
}


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write to, which takes the place of ``folder`` when the block ends well.

    A process that is killed between the two renames leaves the one before as ``<name>.old``; the next one that
    writes the folder puts it back first.

    Raises:
        InputError: it cannot be written. The one before stays.
    """
    partial, old = (folder.with_name(f"{folder.name}.{end}") for end in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    with writing(folder), unfinished(partial):
        _put_back(old, folder)
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(old, ignore_errors=True)
        try:
            if folder.exists():
                os.replace(folder, old)
            os.replace(partial, folder)
        except BaseException:
            _put_back(old, folder)
            raise
        with unfinished(old):
            pass


def _put_back(old: Path, folder: Path) -> None:
    if old.exists() and not folder.exists():
        os.replace(old, folder)


class _DamagedError(InputError):
    """A checkpoint cannot be read."""


def checkpoints(output: Path) -> list[Path]:
    """The checkpoints of a run, the newest first; those whose step cannot be read come last."""
    names = [name for name in ("checkpoint", "checkpoint.old") if (output / name).exists()]
    if output.is_dir():
        names += [folder.name for folder in output.iterdir() if re.fullmatch(r"checkpoint-\d+(\.old)?", folder.name)]
    return sorted((output / name for name in names), key=_step_of, reverse=True)


def _step_of(folder: Path) -> int:
    try:
        return int(json.loads((folder / "state.json").read_text())["step"])
    except _BROKEN:
        return -1


def last_checkpoint(output: Path) -> Path | None:
    """The last checkpoint of a run, or ``None``."""
    return next(iter(checkpoints(output)), None)


def save_checkpoint(
    output: Path, step: int, stage: Stage[Any], optimizer: Any, ema: EMAModel | None, recipe: Recipe, processes: int
) -> None:
    """Write a new checkpoint, then remove those that are too many.

    Where weights are sharded, all processes call it; else the first.
    It holds trained weights, their moving average, the optimiser, the step; and of how many clips a step is made:
    ``batch`` times ``processes``.
    """
    state: dict[str, Any] = {"step": step, "ema_step": ema.optimization_step if ema else 0, "processes": processes}
    state["recipe"] = recipe.to_dict()
    folder = output / ("checkpoint" if recipe.keep_checkpoints == 1 else f"checkpoint-{step}")
    if is_sharded(stage):
        _save_sharded(folder, stage, optimizer, ema, state)
    else:
        weights = {name: p.detach().contiguous() for name, p in stage.named_parameters() if p.requires_grad}
        with whole_folder(folder) as partial:
            save_file(weights, partial / "weights.safetensors")
            _save_moving(partial, stage)
            if ema is not None:
                average = {str(i): p.contiguous() for i, p in enumerate(ema.shadow_params)}
                save_file(average, partial / "ema.safetensors")
            with (partial / "optimizer.pt").open("wb") as file:  # an OSError says why it cannot be written
                torch.save(optimizer.state_dict(), file)
            (partial / "state.json").write_text(json.dumps(state, indent=1))
    if rank() == 0:
        _remove_old(folder, recipe.keep_checkpoints)


def _save_sharded(folder: Path, stage: Stage[Any], optimizer: Any, ema: EMAModel | None, state: dict[str, Any]) -> None:
    from animate_anyone.training.sharded_checkpoint import save_shards

    partial = folder.with_name(f"{folder.name}.partial")
    with whole_folder(folder) if rank() == 0 else nullcontext():
        torch.distributed.barrier()  # the folder is there
        save_shards(partial / SHARDS, stage, optimizer, ema)
        if rank() == 0:
            _save_moving(partial, stage)
        torch.distributed.barrier()
        if rank() == 0:
            state["shards"] = len(list((partial / SHARDS).glob("*.safetensors")))
            (partial / "state.json").write_text(json.dumps(state, indent=1))
    torch.distributed.barrier()  # it has its name


def _save_moving(folder: Path, stage: Stage[Any]) -> None:
    if moving := stage.moving():
        save_file({name: tensor.contiguous() for name, tensor in moving.items()}, folder / MOVING)


def _load_moving(folder: Path, stage: Stage[Any]) -> None:
    moving = stage.moving()
    if not moving:
        return
    with safe_open(folder / MOVING, "pt") as file:
        if odds := sorted(set(file.keys()) ^ moving.keys()):
            raise InputError(f"{folder}: its weights are not those of this stage; the first that differs is {odds[0]}")
        for name, tensor in moving.items():
            tensor.copy_(file.get_tensor(name))


def _remove_old(newest: Path, keep: int) -> None:
    """Remove all checkpoints but the newest and ``keep - 1`` before it, and what a killed process has left."""
    for folder in [folder for folder in checkpoints(newest.parent) if folder != newest][keep - 1 :]:
        os.replace(folder, newest.with_name(f"{folder.name}.partial"))  # half removed, it is no checkpoint
    for folder in newest.parent.glob("checkpoint*.partial"):
        shutil.rmtree(folder, ignore_errors=True)


def as_it_began(recipe: Recipe, folder: Path, processes: int) -> Recipe:
    """The recipe that goes on from a checkpoint on so many processes.

    What of :data:`_BEGAN_AS` it leaves at the default is as it was. Its steps are of as many clips as they were: on
    another number of processes they are cut otherwise, into micro-batches that are no larger.

    Raises:
        InputError: so many processes cannot share the clips of a step.
    """
    try:
        state = json.loads((folder / "state.json").read_text())
        before = _named(dict(state["recipe"]))
        recipe = _cut_anew(recipe, folder, before["batch"], state.get("processes", processes), processes)
    except InputError:
        raise
    except _BROKEN:
        return recipe  # `load_checkpoint` says so
    for section, names in _BEGAN_AS.items():
        settings = getattr(recipe, section)
        if settings is None or not before.get(section):
            continue
        default = type(settings)()
        same = {name: before[section][name] for name in names if getattr(settings, name) == getattr(default, name)}
        recipe = replace(recipe, **{section: replace(settings, **same)})
    return recipe


def _cut_anew(recipe: Recipe, folder: Path, batch: int, processes_before: int, processes: int) -> Recipe:
    clips = batch * processes_before
    if processes == processes_before or recipe.batch != batch:  # the recipe says how it is cut
        return recipe
    share, left_over = divmod(clips, processes)
    if left_over or not share:
        raise InputError(
            f"{folder}: its steps are of {clips} clips, which {processes} processes cannot share out equally; "
            f"start a number of processes that divides {clips}"
        )
    least = -(-share // (recipe.batch // recipe.accumulate))
    parts = next(parts for parts in range(least, share + 1) if share % parts == 0)
    _LOG.warning(
        f"{folder}: its steps are of {clips} clips; on {processes} in place of {processes_before} processes it goes on "
        f"with batch={share} accumulate={parts}"
    )
    return replace(recipe, batch=share, accumulate=parts)


def _named(recipe: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's recipe, with those settings of :data:`_BEGAN_AS` and :data:`_UNNAMED` that had no name then."""
    for known in (_BEGAN_AS, _UNNAMED):
        recipe = recipe | {section: old | recipe[section] for section, old in known.items() if recipe.get(section)}
    return recipe


def load_last(
    output: Path, stage: Stage[Any], optimizer: Any, ema: EMAModel | None, recipe: Recipe, processes: int
) -> int:
    """Put the newest whole checkpoint of a run back and return the number of steps done; 0 where there is none.

    Raises:
        InputError: none can be read, or it belongs to another recipe, or its weights are not those of this stage.
    """
    first: _DamagedError | None = None
    for folder in checkpoints(output):
        try:
            done = load_checkpoint(folder, stage, optimizer, ema, recipe, processes)
        except _DamagedError as error:
            first = first or error
            continue
        if first is not None:
            _LOG.warning(f"{first}; going on from {folder}, step {done}")
        return done
    if first is not None:
        raise first
    return 0


def load_checkpoint(
    folder: Path, stage: Stage[Any], optimizer: Any, ema: EMAModel | None, recipe: Recipe, processes: int
) -> int:
    """Put a checkpoint back and return the number of steps done.

    The recipe is that of one of so many processes.

    Raises:
        InputError: it is damaged, belongs to another recipe, or its weights are not those of this stage.
    """
    try:
        state = json.loads((folder / "state.json").read_text())
        before, done, ema_done = _named(dict(state["recipe"])), int(state["step"]), int(state["ema_step"])
        read = _open_sharded(folder, state) if (folder / SHARDS).is_dir() else _open_whole(folder, ema is not None)
    except _BROKEN as error:
        raise _damaged(folder, error) from None
    before, now = without_removed(before, str(folder)), json.loads(json.dumps(recipe.to_dict()))
    for data in (before.get("data", {}), now["data"]):
        for key in _MAY_CHANGE_OF_DATA:
            data.pop(key, None)
    if now["precision"] == "auto":  # as the machine has it, whatever the one before had
        before["precision"] = "auto"
    clips = before["batch"] * state.get("processes", processes)
    if recipe.batch * processes != clips:
        raise InputError(
            f"{folder}: was trained with another batch than the recipe has: {clips} clips a step; give "
            + (f"batch={clips // processes}" if clips % processes == 0 else f"processes that divide {clips}")
            + " or another output"
        )
    for key in now:
        if key not in (*_MAY_CHANGE, "batch") and before.get(key) != now[key]:
            raise InputError(
                f"{folder}: was trained with another {key} than the recipe has; give the old value or another output"
            )
    try:
        read(stage, optimizer, ema)
        _load_moving(folder, stage)
    except InputError:
        raise
    except _BROKEN as error:
        raise _damaged(folder, error) from None
    if ema is not None:
        ema.optimization_step = ema_done
    return done


def _damaged(folder: Path, error: Exception) -> _DamagedError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return _DamagedError(f"{folder}: not a whole checkpoint ({reason[:200]}); remove it to start anew")


def _open_sharded(folder: Path, state: dict[str, Any]) -> _Read:
    from animate_anyone.training.sharded_checkpoint import load_shards

    files = int(state["shards"])
    return lambda stage, optimizer, ema: load_shards(folder / SHARDS, files, stage, optimizer, ema)


def _open_whole(folder: Path, averaged: bool) -> _Read:
    """What puts a checkpoint's tensors back; one at a time, of which a process that holds a share keeps its own."""
    weights = safe_open(folder / "weights.safetensors", "pt")
    average = safe_open(folder / "ema.safetensors", "pt") if averaged else None
    moments = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)

    def read(stage: Stage[Any], optimizer: Any, ema: EMAModel | None) -> None:
        like = _share_of(stage)
        trained = {name: p for name, p in stage.named_parameters() if p.requires_grad}
        if odds := sorted(set(weights.keys()) ^ trained.keys()):
            raise InputError(f"{folder}: its weights are not those of this stage; the first that differs is {odds[0]}")
        with torch.no_grad():
            for name, p in trained.items():
                p.copy_(like(weights.get_tensor(name), p))
        for p, of_p in zip(trained.values(), moments["state"].values(), strict=False):
            of_p |= {key: like(value, p) for key, value in of_p.items() if value.shape == p.shape}
        optimizer.load_state_dict(moments)
        if ema is not None:
            assert average is not None
            whole = (average.get_tensor(str(i)) for i in range(len(trained)))
            ema.shadow_params = [like(t, p) for t, p in zip(whole, trained.values(), strict=True)]

    return read


def _share_of(stage: Stage[Any]) -> Callable[[Tensor, Tensor], Tensor]:
    """What a process keeps of a whole tensor, sharded as another is."""
    if not is_sharded(stage):
        return lambda whole, _: whole
    from animate_anyone.training.sharded_checkpoint import like

    return like
