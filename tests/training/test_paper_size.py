"""The recipes of paper size, one after the other, with tiny networks in Stable Diffusion's place."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from diffusers import AutoencoderKL, DDIMScheduler
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

import reference_paths
import tiny
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.training.config import Recipe
from animate_anyone.training.recipe_file import load_recipe
from animate_anyone.training.stages import run
from conftest import REPOSITORY

SMALL = {"steps": 2, "log_every": 1, "precision": "float32", "data.size": 64, "data.clips": 4, "data.workers": 1}


def recipe(name: str, **changes: Any) -> Recipe:
    """A recipe of paper size as it is shipped, or with other settings."""
    return load_recipe(REPOSITORY / "recipes" / f"{name}.yaml", [f"{k}={json.dumps(v)}" for k, v in changes.items()])


def test_settings_are_the_papers() -> None:
    """Animate Anyone, section 4.1."""
    first, second = recipe("aa1_stage1"), recipe("aa1_stage2")
    for stage in (first, second):
        assert stage.data.size == 768
        assert stage.optimizer.lr == 1e-5
        assert stage.objective.person_weight == 1
        assert "reference_pose" not in stage.networks.pipeline
    gpus = 4  # a recipe's batch is that of each
    assert (first.stage, first.steps, first.batch * gpus) == ("image", 30_000, 64)
    assert (second.stage, second.steps, second.batch * gpus, second.data.frames_per_clip) == ("motion", 10_000, 4, 24)
    assert second.init == f"{first.output}/model"
    assert second.networks.pipeline == first.networks.pipeline
    assert second.data.skeleton_style == first.data.skeleton_style


def test_both_stages_run_from_a_folder_of_stable_diffusions_parts(tmp_path: Path) -> None:
    start, first, second = (tmp_path / name for name in ("start", "first", "second"))
    # Motion modules as wide as AnimateDiff's have 32 groups and 8 heads.
    tiny.unet2d(block_out_channels=[32, 32]).save_pretrained(start / "unet")
    AutoencoderKL(**tiny.VAE).save_pretrained(start / "vae")
    CLIPVisionModelWithProjection(CLIPVisionConfig(**tiny.IMAGE_ENCODER)).save_pretrained(start / "image_encoder")
    run(recipe("aa1_stage1", init=str(start), output=str(first), batch=2, accumulate=2, **SMALL))
    run(recipe("aa1_stage2", init=str(first / "model"), output=str(second), batch=1, accumulate=1, **SMALL))

    pipeline = load_pipeline(second / "model", "cpu", "float32")
    assert pipeline.config["size"] == [64, 64]
    assert pipeline.config["reference_pose"] is False
    assert pipeline.denoising_unet.config["use_motion_module"]
    assert [part["steps_done"] for part in json.loads((second / "model" / "training.json").read_text())] == [2, 2]
    # As the published weights have it: velocity, zero terminal SNR, trailing timesteps.
    schedule = DDIMScheduler.from_pretrained(second / "model" / "scheduler")
    assert schedule.config["prediction_type"] == "v_prediction"
    assert schedule.config["timestep_spacing"] == "trailing"
    assert schedule.alphas_cumprod[-1] == 0


def documented() -> list[list[str]]:
    """Settings of stage one that docs/training.md gives for the designs of the ablation and for predicting noise."""
    lines = (REPOSITORY / "docs" / "training.md").read_text().splitlines()
    start = "animate-anyone train recipes/aa1_stage1.yaml "
    found = [shlex.split(line.removeprefix(start)) for line in lines if line.startswith(f"{start}output=runs/aa1_")]
    return found + [shlex.split(line.removeprefix(start)) for line in lines if line.startswith(f"{start}networks.")]


@pytest.mark.parametrize("settings", documented(), ids=lambda settings: settings[0].rpartition("/")[2])
def test_designs_of_the_ablation_run_at_paper_size(settings: list[str], tmp_path: Path) -> None:
    """Each command of the page, with tiny networks in Stable Diffusion's place and few frames."""
    start, output = tmp_path / "start", tmp_path / "run"
    tiny.unet2d(block_out_channels=[32, 32]).save_pretrained(start / "unet")
    AutoencoderKL(**tiny.VAE).save_pretrained(start / "vae")
    CLIPVisionModelWithProjection(CLIPVisionConfig(**tiny.IMAGE_ENCODER)).save_pretrained(start / "image_encoder")
    changes: dict[str, Any] = {**SMALL, "init": str(start), "output": str(output), "batch": 2, "accumulate": 1}
    changes |= {"init_motion": None, "networks.resnet": reference_paths.RESNET}
    if "stage=motion" in settings:
        changes["data.frames_per_clip"] = 3
    given = [*settings, *(f"{name}={json.dumps(value)}" for name, value in changes.items())]
    run(load_recipe(REPOSITORY / "recipes" / "aa1_stage1.yaml", given))
    pipeline = load_pipeline(output / "model", "cpu", "float32")
    wanted = dict(setting.split("=", 1) for setting in settings)
    assert pipeline.config["reference_path"] == wanted.get("networks.pipeline.reference_path", "reference_net")
    assert pipeline.denoising_unet.config["use_motion_module"] == ("stage" in wanted)
    kind = wanted.get("networks.scheduler.prediction_type", "v_prediction")
    assert pipeline.scheduler.config["prediction_type"] == kind


def test_the_page_has_them_all() -> None:
    assert len(documented()) == 6
