"""The shipped recipes, shrunk until two steps take no time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import tiny
from animate_anyone.training.config import Recipe
from animate_anyone.training.recipe_file import load_recipe
from conftest import REPOSITORY

STAGES = ("autoencoder", "image_encoder", "image", "motion")
FILES = {stage: REPOSITORY / "recipes" / f"puppet_{stage}.yaml" for stage in (*STAGES, "distil")}

SMALL: dict[str, Any] = {
    "init": None,
    "steps": 2,
    "batch": 2,
    "precision": "float32",
    "save_dtype": "float32",
    "ema": 0.5,
    "log_every": 1,
    "checkpoint_every": 100,
    "optimizer.warmup_steps": 0,
    "data.size": 64,
    "data.frames_per_clip": 5,
    "data.clips": 3,
    "data.first_seed": 0,
    "data.supersample": 1,
    "data.workers": 1,
    "data.cache": None,
}
OF_STAGE: dict[str, dict[str, Any]] = {
    "autoencoder": {"networks.vae": tiny.VAE, "objective.crop": 32},
    "image_encoder": {"networks.image_encoder": tiny.IMAGE_ENCODER},
    "image": {
        "networks.unet": tiny.UNET,
        "networks.motion": tiny.MOTION,
        "networks.pose_guider": {"layout": "paper", "block_out_channels": [4, 8, 8, 8]},
        "objective.targets_per_reference": 2,
    },
    "motion": {"data.frames_per_clip": 4},
    "distil": {"data.frames_per_clip": 4},
}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE and an image encoder, and a whole ``model``."""
    root, made = tmp_path_factory.mktemp("start"), tiny.pipeline()
    made.save_pretrained(root / "model")
    for part in ("vae", "image_encoder"):
        getattr(made, part).save_pretrained(root / part)
    return root


def small(stage: str, output: Path, init: Path | None = None, **changes: Any) -> Recipe:
    """A shipped recipe made small; a change's dots are written as double underscores."""
    settings = {**SMALL, **OF_STAGE[stage], "output": str(output)}
    if init is not None:
        settings["init"] = str(init)
    settings |= {name.replace("__", "."): value for name, value in changes.items()}
    return load_recipe(FILES[stage], [f"{name}={json.dumps(value)}" for name, value in settings.items()])


def few_clips_a_shard(patch: pytest.MonkeyPatch, clips: int = 4) -> None:
    """Shards of a cache hold so many clips where they otherwise hold 64: a cache of few clips renders a whole one."""
    for name, module in list(sys.modules.items()):
        if name.startswith("animate_anyone.training.") and hasattr(module, "SHARD"):
            patch.setattr(module, "SHARD", clips)


def tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's safetensors files, by file and name."""
    files = sorted(folder.rglob("*.safetensors"))
    assert files
    return {f"{file.relative_to(folder)}:{name}": t for file in files for name, t in load_file(file).items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two sets of tensors are alike, bit for bit."""
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def alike(one: dict[str, Tensor], other: dict[str, Tensor], rate: float = 1e-3) -> bool:
    """Whether two models trained alike differ by rounding alone.

    Adam makes a step of the learning rate ``rate`` of a gradient that is rounding noise itself, on some machines for
    more elements than on others: a few elements of each tensor may differ, and none by more than one step.
    """
    assert one.keys() == other.keys() and one
    apart = [(one[name].float() - other[name].float()).abs() for name in one]
    return all(d.max() < rate and (d > rate / 100).sum() <= 2 + d.numel() / 100 for d in apart)


def log(output: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
