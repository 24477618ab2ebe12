"""A training step and the saving of every stage on a pretended GPU: no tensor of the CPU meets one of the GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_recipes import small
from test_stage_environment import small as small_environment

import tiny
from animate_anyone.training.autoencoder import AutoencoderStage
from animate_anyone.training.config import Recipe
from animate_anyone.training.stage import Stage, to_pixels
from animate_anyone.training.stages import build_stage
from pretended_gpu import pretended_gpu

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
CARRIED = {"reference_pose": True, "reference_latents": True, "carried_reference": True}
STAGES: dict[str, tuple[str, dict[str, Any]]] = {  # the recipe and what is changed in it
    "autoencoder": ("autoencoder", {}),
    "image_encoder": ("image_encoder", {}),
    "image": ("image", {"networks__pipeline": {"reference_pose": True}}),
    "image_carried": ("image", {"networks__pipeline": CARRIED, "save_dtype": "float16"}),
    "motion": ("motion", {"networks__pipeline": {"reference_pose": True, "shared_noise": True}}),
    "environment": ("environment", {}),
    "environment_in_a_row": (
        "environment",
        {"data__frames_per_clip": 3, "data__consecutive": True, "networks__pipeline": CARRIED},
    ),
}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model to start from, and ``parts``: its VAE and image encoder alone."""
    root = tmp_path_factory.mktemp("start")
    made = tiny.pipeline()
    made.save_pretrained(root / "model")
    for part in ("vae", "image_encoder"):
        getattr(made, part).save_pretrained(root / "parts" / part)
    return root


def recipe_of(name: str, start: Path, output: Path) -> Recipe:
    stage, changes = STAGES[name]
    if stage == "environment":
        return small_environment(output, start / "parts", **changes)
    init = {"image": "parts", "motion": "model"}.get(stage)
    return small(stage, output, None if init is None else start / init, **changes)


def step(stage: Stage[Any], gpu: torch.device) -> None:
    """What the training loop does with a batch."""
    stage.to(gpu)
    optimizer = torch.optim.AdamW([p for p in stage.parameters() if p.requires_grad], lr=0.01)
    losses = stage(stage.batch(0, 0, 1).to(gpu), torch.Generator().manual_seed(0))
    assert all(value.is_cuda for value in losses.values())
    losses["loss"].backward()
    optimizer.step()


@pytest.mark.parametrize("name", STAGES)
def test_a_step_and_the_result(start: Path, tmp_path: Path, name: str) -> None:
    with pretended_gpu() as gpu:
        stage = build_stage(recipe_of(name, start, tmp_path))
        step(stage, gpu)
        stage.save(tmp_path / "model")
    assert list((tmp_path / "model").rglob("*.safetensors"))


def test_latents_of_a_cache(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("animate_anyone.training.clip_cache.SHARD", 2)
    recipe = small("image", tmp_path, start / "parts", data__cache=str(tmp_path / "clips"), data__clips=2,
                   networks__pipeline={"reference_pose": True})  # fmt: skip
    with pretended_gpu() as gpu:
        stage = build_stage(recipe)
        assert stage.vae.device == gpu
        step(stage, gpu)
    assert list((tmp_path / "clips").rglob("latents-*.npy"))


def test_frames_of_the_cpu_are_seen(tmp_path: Path) -> None:
    """The mistake that these tests are there for."""
    with pretended_gpu() as gpu:
        stage = build_stage(small("autoencoder", tmp_path)).to(gpu)
        assert isinstance(stage, AutoencoderStage)
        frames = stage.batch(-1, 0, 1).frames
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            stage.vae.encode(to_pixels(frames))
