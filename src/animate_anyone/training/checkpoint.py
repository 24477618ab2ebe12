"""Stop and go on: everything that the next step depends on, written so that a cut leaves the last one whole."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import nn

from animate_anyone.errors import InputError
from animate_anyone.training.config import Recipe

# Settings that may differ between the first part of a run and the rest.
_MAY_CHANGE = ("steps", "output", "log_every", "checkpoint_every", "accumulate")


def save_checkpoint(
    folder: Path, step: int, stage: nn.Module, optimizer: Any, ema: EMAModel | None, recipe: Recipe
) -> None:
    """Write ``folder`` anew: trained weights, their moving average, the optimiser, the step."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    weights = {name: p.detach().contiguous() for name, p in stage.named_parameters() if p.requires_grad}
    save_file(weights, partial / "weights.safetensors")
    if ema is not None:
        save_file({str(i): p.contiguous() for i, p in enumerate(ema.shadow_params)}, partial / "ema.safetensors")
    torch.save(optimizer.state_dict(), partial / "optimizer.pt")
    state = {"step": step, "ema_step": ema.optimization_step if ema else 0, "recipe": recipe.to_dict()}
    (partial / "state.json").write_text(json.dumps(state, indent=1))
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    folder: Path, stage: nn.Module, optimizer: torch.optim.Optimizer, ema: EMAModel | None, recipe: Recipe
) -> int:
    """Put a checkpoint back and return the number of steps done.

    Raises:
        InputError: it belongs to another recipe, or its weights are not those of this stage.
    """
    try:
        state = json.loads((folder / "state.json").read_text())
        weights = load_file(folder / "weights.safetensors")
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: not a checkpoint ({error}); remove it to start anew") from None
    before, now = state["recipe"], json.loads(json.dumps(recipe.to_dict()))
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
    optimizer.load_state_dict(torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True))
    if ema is not None:
        average = load_file(folder / "ema.safetensors")
        ema.shadow_params = [average[str(i)] for i in range(len(average))]
        ema.optimization_step = state["ema_step"]
    return int(state["step"])
