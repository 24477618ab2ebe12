"""Stop and go on: everything that the next step depends on, written so that a cut leaves the last one whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from animate_anyone.errors import InputError
from animate_anyone.system.whole_files import unfinished, writing
from animate_anyone.training.config import Recipe
from animate_anyone.training.removed_settings import without_removed

# What reading a damaged checkpoint raises.
_BROKEN = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, UnpicklingError, SafetensorError)
# Settings that may differ between the first part of a run and the rest.
_MAY_CHANGE = (
    *("steps", "output", "log_every", "checkpoint_every", "accumulate", "max_shard_size", "save_dtype"),
    *("gradient_checkpointing", "monitor"),
)
_MAY_CHANGE_OF_DATA = ("cache", "keep_latents", "workers")
# Settings by which networks are built, and what they were before they had a name: a run goes on as it began, whatever
# the default is by then.
_BEGAN_AS: dict[str, dict[str, Any]] = {"environment": {"blending_place": "attention"}}
# Settings that earlier checkpoints do not have, and what was done then; a recipe must say the same to go on.
_UNNAMED: dict[str, dict[str, Any]] = {
    "optimizer": {"kind": "adamw"},
    "objective": {"min_snr_gamma": None, "noise_offset": 0.0},
    "data": {"videos": None, "studio_share": 0.0, "shapes": "buckets"},
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


def last_checkpoint(output: Path) -> Path | None:
    """The last checkpoint of a run, or ``None``."""
    return next((folder for name in ("checkpoint", "checkpoint.old") if (folder := output / name).exists()), None)


def save_checkpoint(
    folder: Path, step: int, stage: nn.Module, optimizer: Any, ema: EMAModel | None, recipe: Recipe
) -> None:
    """Write ``folder`` anew: trained weights, their moving average, the optimiser, the step."""
    weights = {name: p.detach().contiguous() for name, p in stage.named_parameters() if p.requires_grad}
    state = {"step": step, "ema_step": ema.optimization_step if ema else 0, "recipe": recipe.to_dict()}
    with whole_folder(folder) as partial:
        save_file(weights, partial / "weights.safetensors")
        if ema is not None:
            save_file({str(i): p.contiguous() for i, p in enumerate(ema.shadow_params)}, partial / "ema.safetensors")
        with (partial / "optimizer.pt").open("wb") as file:  # an OSError says why it cannot be written
            torch.save(optimizer.state_dict(), file)
        (partial / "state.json").write_text(json.dumps(state, indent=1))


def as_it_began(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe that goes on from a checkpoint: what of :data:`_BEGAN_AS` it leaves at the default is as it was."""
    try:
        before = _named(dict(json.loads((folder / "state.json").read_text())["recipe"]))
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


def _named(recipe: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's recipe, with those settings of :data:`_BEGAN_AS` and :data:`_UNNAMED` that had no name then."""
    known = _BEGAN_AS | _UNNAMED
    return recipe | {section: old | recipe[section] for section, old in known.items() if recipe.get(section)}


def load_checkpoint(
    folder: Path, stage: nn.Module, optimizer: torch.optim.Optimizer, ema: EMAModel | None, recipe: Recipe
) -> int:
    """Put a checkpoint back and return the number of steps done.

    Raises:
        InputError: it is damaged, belongs to another recipe, or its weights are not those of this stage.
    """
    try:
        state = json.loads((folder / "state.json").read_text())
        before, done, ema_done = _named(dict(state["recipe"])), int(state["step"]), int(state["ema_step"])
        weights = load_file(folder / "weights.safetensors")
        moments = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
        average = {} if ema is None else load_file(folder / "ema.safetensors")
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{folder}: not a whole checkpoint ({reason[:200]}); remove it to start anew") from None
    before, now = without_removed(before, str(folder)), json.loads(json.dumps(recipe.to_dict()))
    for data in (before.get("data", {}), now["data"]):
        for key in _MAY_CHANGE_OF_DATA:
            data.pop(key, None)
    if now["precision"] == "auto":  # as the machine has it, whatever the one before had
        before["precision"] = "auto"
    for key in now:
        if key not in _MAY_CHANGE and before.get(key) != now[key]:
            raise InputError(
                f"{folder}: was trained with another {key} than the recipe has; give the old value or another output"
            )
    trained = {name: p for name, p in stage.named_parameters() if p.requires_grad}
    if weights.keys() != trained.keys():
        odd = sorted(weights.keys() ^ trained.keys())[0]
        raise InputError(f"{folder}: its weights are not those of this stage; the first that differs is {odd}")
    with torch.no_grad():
        for name, p in trained.items():
            p.copy_(weights[name])
    optimizer.load_state_dict(moments)
    if ema is not None:
        ema.shadow_params = [average[str(i)] for i in range(len(average))]
        ema.optimization_step = ema_done
    return done
