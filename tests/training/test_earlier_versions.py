"""What earlier versions began goes on: their checkpoints, with the same batches and noise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from small_recipes import log, small
from small_recipes import start as start
from test_loop import fit
from test_stage_environment import small as small_environment

from animate_anyone.errors import InputError
from animate_anyone.training.config import Recipe
from animate_anyone.training.stages import run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

# Four of the six steps of test_loop.fit(noise=1.0, ema=0.9), and where all six led.
CHECKPOINT = Path(__file__).with_name("earlier_checkpoint")
WEIGHT, AVERAGE = [1.0419005, -0.4910932], [0.8757, -0.6430]

OPTIONS = {"reference_pose": True, "reference_latents": True, "carried_reference": True}
DROPPED: dict[str, Any] = {
    "objective__condition_dropout": 0.4,
    "objective__person_weight": 3.0,
    "networks__pipeline": OPTIONS,
}
AS_THEN = {"environment__blending_place": "attention"}  # the setting had no name
IN_A_ROW = {"data__frames_per_clip": 3, "data__consecutive": True}
LOSSES = {  # of the first two steps
    "autoencoder": [4.283106, 5.019529],
    "image_encoder": [0.620597, 1.271796],
    "image": [0.096265, 0.408133],  # since the first guess is made in layers; before it 0.097051, 0.404321
    "motion": [0.12037, 0.087631],
    "environment": [0.291962, 0.523147],
    "environment in a row": [0.556256, 0.593542],
}


def recipe(name: str, start: Path, output: Path) -> Recipe:
    settings: dict[str, Any] = {"data__size": 32, "optimizer__lr": 1e-3}
    if name == "autoencoder":
        return small(name, output, **settings, objective__crop=None)
    if name == "image_encoder":
        return small(name, output, start, **settings)
    if name == "image":
        return small(name, output, start, **settings, **DROPPED)
    if name == "motion":
        return small(name, output, start / "model", **settings, objective__condition_dropout=0.4)
    changes = IN_A_ROW if name == "environment in a row" else {}
    return small_environment(output, start, **settings, **DROPPED, **changes, **AS_THEN)


@pytest.mark.parametrize("name", LOSSES)
def test_losses(start: Path, tmp_path: Path, name: str) -> None:
    """Batches, noise, timesteps, dropped conditions and what errors count: all go into them."""
    run(recipe(name, start, tmp_path))
    assert [line["loss"] for line in log(tmp_path)] == pytest.approx(LOSSES[name], rel=1e-3)


def test_a_checkpoint_goes_on(tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINT, tmp_path / "checkpoint")
    stage = fit(tmp_path, noise=1.0, ema=0.9, resume=True)
    assert stage.asked == [(4, 0, 1), (5, 0, 1)]
    assert stage.weight.tolist() == pytest.approx(WEIGHT, rel=1e-5)
    average = load_file(tmp_path / "model/line.safetensors")["weight"]
    assert average.tolist() == pytest.approx(AVERAGE, abs=1e-4)


def test_a_checkpoint_of_settings_that_were_removed(tmp_path: Path) -> None:
    """At values without effect it goes on, as above; else it is refused and stays as it is."""
    shutil.copytree(CHECKPOINT, tmp_path / "checkpoint")
    file = tmp_path / "checkpoint" / "state.json"
    state = json.loads(file.read_text())
    assert state["recipe"]["objective"]["object_weight"] == 1
    state["recipe"]["objective"]["object_weight"] = 20.0
    file.write_text(json.dumps(state))
    with pytest.raises(InputError, match=f"^{tmp_path}/checkpoint: objective.object_weight is 20.0; the setting was"):
        fit(tmp_path, noise=1.0, ema=0.9, resume=True)
    assert json.loads(file.read_text()) == state
