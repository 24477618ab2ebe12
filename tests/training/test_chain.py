"""Several recipes in one call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_recipes import FILES, OF_STAGE, SMALL, STAGES, same, tensors

from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.sampling.loading import load_network, load_pipeline
from animate_anyone.training.chain import DONE, train_file
from animate_anyone.training.recipe_file import load_recipe
from conftest import REPOSITORY

SHIPPED = REPOSITORY / "recipes" / "puppet_gpu.yaml"


def small_settings(output: Path) -> list[str]:
    """The shipped chain made small."""
    everywhere = {name: value for name, value in SMALL.items() if name != "init"}
    settings = [f"{name}={json.dumps(value)}" for name, value in everywhere.items()]
    for stage, changes in ((stage, OF_STAGE[stage]) for stage in STAGES):
        settings += [f"{stage}.{name}={json.dumps(value)}" for name, value in changes.items()]
    return [*settings, f"output={output}"]


def test_the_shipped_chain_from_nothing_and_then_from_its_model(tmp_path: Path) -> None:
    output = tmp_path / "first"
    line = train_file(SHIPPED, small_settings(output), minutes=3)
    assert line.startswith(
        f"{output / 'motion' / 'model'}: the model after the stages autoencoder, image_encoder, image"
    )
    assert json.loads((output / DONE).read_text()) == list(STAGES)
    model = output / "motion" / "model"
    load_pipeline(model, "cpu")
    history = json.loads((model / "training.json").read_text())
    assert [entry["recipe"]["stage"] for entry in history] == list(STAGES)
    assert all(entry["steps_done"] == 2 for entry in history)

    again = train_file(SHIPPED, [*small_settings(tmp_path / "second"), f"init={model}"])
    assert "after the stages image, motion" in again and not (tmp_path / "second" / "autoencoder").exists()
    # Temporal layers stand by while single frames are trained.
    image = load_network(DenoisingUNet, tmp_path / "second" / "image" / "model" / "denoising_unet").state_dict()
    before = load_network(DenoisingUNet, model / "denoising_unet").state_dict()
    temporal = {name for name in before if "motion_modules" in name}
    assert temporal and image.keys() == before.keys()
    changed = {name for name in before if not image[name].equal(before[name])}
    assert changed and not changed & temporal


def test_a_chain_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train_file(SHIPPED, small_settings(whole))
    from animate_anyone.training import chain

    def until(recipe: Any, *rest: Any, **more: Any) -> Path:
        if recipe.stage == "image":
            raise KeyboardInterrupt
        return real(recipe, *rest, **more)

    real = chain.run
    monkeypatch.setattr(chain, "run", until)
    with pytest.raises(KeyboardInterrupt):
        train_file(SHIPPED, small_settings(stopped))
    assert json.loads((stopped / DONE).read_text()) == ["autoencoder", "image_encoder"]
    monkeypatch.setattr(chain, "run", real)
    with pytest.raises(InputError, match="holds a run already; type --resume"):
        train_file(SHIPPED, small_settings(stopped))
    train_file(SHIPPED, small_settings(stopped), resume=True)
    assert same(tensors(whole / "motion" / "model"), tensors(stopped / "motion" / "model"))


def test_a_single_recipe_is_trained_as_ever(tmp_path: Path) -> None:
    settings = [f"{n}={json.dumps(v)}" for n, v in (SMALL | OF_STAGE["autoencoder"]).items()]
    line = train_file(FILES["autoencoder"], [*settings, f"output={tmp_path / 'out'}"])
    assert line == f"{tmp_path / 'out' / 'model'}: the model after 2 steps"


@pytest.mark.parametrize(
    ("tree", "settings", "message"),
    [
        ({"stages": {}}, [], "output is not given"),
        ({"output": "x", "stages": {}}, [], "no stage is left"),
        ({"output": "x", "stages": {"a": {"recipe": "missing.yaml"}}}, [], "missing.yaml: no such recipe"),
        ({"output": "x", "stages": {"a": {"share": 2}}}, [], "stages.a.recipe is not given"),
        ({"output": "x", "stages": {"a": {"recipe": "r.yaml", "part": 2}}}, [], "unknown setting stages.a.part"),
        ({"output": "x", "stages": {"a": {"recipe": "r.yaml", "share": 0}}}, [], "share is 0.0"),
        ({"output": "x", "stages": {"a": "r.yaml"}}, ["a.stepz=2"], "unknown setting stepz; did you mean steps"),
        ({"output": "x", "stages": {"a": {"recipe": "r.yaml", "from_nothing": True}}}, ["init=m"], "no stage is left"),
    ],
)
def test_mistakes(tmp_path: Path, tree: dict[str, Any], settings: list[str], message: str) -> None:
    (tmp_path / "r.yaml").write_text("stage: autoencoder\n")
    (tmp_path / "chain.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(InputError, match=message):
        train_file(tmp_path / "chain.yaml", settings)


def test_too_little_time_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"stage autoencoder: its share of the time.*give more --minutes: x --resume"):
        train_file(SHIPPED, small_settings(tmp_path / "out"), minutes=1e-5, command=["x"])


def test_every_stage_of_the_shipped_chain_is_a_recipe_of_its_size() -> None:
    for name, values in yaml.safe_load(SHIPPED.read_text())["stages"].items():
        recipe = load_recipe(
            SHIPPED.parent / values["recipe"], [f"{k}={json.dumps(v)}" for k, v in values["settings"].items()]
        )
        assert recipe.stage == name and recipe.data.cache is None
        assert recipe.data.size == (128 if name == "image_encoder" else 256)
