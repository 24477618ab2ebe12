"""Recipes: what is read, and what is refused in which words."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from animate_anyone.errors import InputError
from animate_anyone.models.shipped import shipped_folder
from animate_anyone.training.config import Data, Objective, Recipe
from animate_anyone.training.recipe_file import load_recipe
from conftest import REPOSITORY

CHAINS = ("puppet_gpu",)  # of recipes, see test_chain.py
RECIPES = sorted(path for path in (REPOSITORY / "recipes").glob("*.yaml") if path.stem not in CHAINS)
GOOD = "stage: image\noutput: somewhere\ndata: {frames_per_clip: 6}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(GOOD)
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_shipped_recipes_are_read(path: Path) -> None:
    recipe, written = load_recipe(path), yaml.safe_load(path.read_text())
    assert recipe.stage == written["stage"]
    told = json.loads(json.dumps(recipe.to_dict()))
    for key, value in written.items():
        for name, inner in value.items() if isinstance(value, dict) else [(None, value)]:
            assert (told[key] if name is None else told[key][name]) == inner, (key, name)


def test_there_is_a_recipe_for_every_stage() -> None:
    assert {load_recipe(path).stage for path in RECIPES} >= {"autoencoder", "image_encoder", "image", "motion"}


def test_what_is_not_given_has_its_default(file: Path) -> None:
    recipe = load_recipe(file)
    assert recipe == Recipe(stage="image", output="somewhere")
    assert recipe.data == Data()
    assert recipe.objective == Objective()


def test_nothing_is_written_to_later(file: Path) -> None:
    recipe = load_recipe(file)
    for record, name in ((recipe, "steps"), (recipe.data, "size"), (recipe.optimizer, "lr")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, name, 1)


def test_overrides(file: Path) -> None:
    changes = [
        "steps=7",
        "optimizer.lr=1e-4",
        "data.cache=null",
        "networks.unet={sample_size: 8}",
        "data.consecutive=yes",
    ]
    recipe = load_recipe(file, [*changes, "networks.motion.motion_max_seq_length=16", "optimizer.betas=[0.8, 0.9]"])
    assert recipe.steps == 7
    assert recipe.optimizer.lr == 1e-4
    assert recipe.optimizer.betas == (0.8, 0.9)
    assert recipe.data.cache is None
    assert recipe.data.consecutive is True
    assert recipe.data.frames_per_clip == 6  # what the file says beside it stays
    assert recipe.networks.unet == {"sample_size": 8}
    assert recipe.networks.motion == {"motion_max_seq_length": 16}
    assert load_recipe(file, ["output=a=b"]).output == "a=b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("step=7", "unknown setting step; did you mean steps?"),
        ("data.siez=64", "unknown setting data.siez; did you mean data.size?"),
        ("objective.zzz=1", "unknown setting objective.zzz; there are: condition_dropout"),
        ("steps=many", "steps is 'many'; it must be int"),
        ("steps=1.5", "steps is 1.5; it must be int"),
        ("steps=true", "steps is True; it must be int"),
        ("steps=", "steps is None; it must be int"),
        ("ema=high", "ema is 'high'; it must be float"),
        ("ema=true", "ema is True; it must be float"),
        ("data.consecutive=1", "data.consecutive is 1; it must be bool"),
        ("output=5", "output is 5; it must be str"),
        ("stage=video", "stage is 'video'; it must be 'autoencoder' or 'image_encoder' or 'image' or 'motion'"),
        ("precision=float16", "precision is 'float16'; it must be 'bfloat16' or 'float32'"),
        ("optimizer.betas=[0.9]", r"optimizer.betas is \[0.9\]"),
        ("optimizer=fast", "optimizer is 'fast'; it holds settings"),
        ("networks.unet=5", "networks.unet is 5; it must be"),
        ("data.size.width=5", "'data.size.width=5': size holds a value|data.size"),
        ("steps.more=5", "steps is {'more': 5}; it must be int"),
        ("output.more=5", "'output.more=5': output holds a value, not settings"),
        ("steps", "'steps' is not KEY=VALUE"),
        ("data.size=[64", r"'data.size=\[64': the value is no YAML"),
        ("steps=" + "9" * 5000, r"'steps=9{34}\.\.\.': the value is no YAML"),
        ("steps=0", "steps is 0; it must be at least 1"),
        ("batch=0", "batch is 0; it must be at least 1"),
        ("checkpoint_every=0", "checkpoint_every is 0"),
        ("accumulate=3", "batch 8 cannot be cut into accumulate=3"),
        ("ema=1", r"ema is 1.0; it must lie in \[0, 1\)"),
        ("objective.min_snr_gamma=0", "objective.min_snr_gamma is 0.0; it must be above 0"),
        ("objective.min_snr_gamma=.nan", "objective.min_snr_gamma is nan; it must be above 0"),
        ("objective.noise_offset=-0.1", "objective.noise_offset is -0.1; it must be at least 0"),
        ("optimizer.kind=lion", "optimizer.kind is 'lion'; it must be 'adamw' or 'adamw8bit'"),
        ("objective.condition_dropout=1", r"condition_dropout is 1.0; it must lie in \[0, 1\)"),
        ("data.size=60", "data.size is 60; it must be a multiple of 8, at least 32"),
        ("data.size=24", "data.size is 24"),
        ("data.clips=0", "data.clips is 0; it must be at least 1"),
        ("data.workers=0", "data.workers is 0; it must be at least 1"),
        ("data.supersample=0", "data.supersample is 0; it must be at least 1"),
        ("data.skeleton_style=neon", "data.skeleton_style must be .*scaled"),
        ("objective.targets_per_reference=6", "data.frames_per_clip is 6; this needs 7"),
        ("objective.crop=300", "objective.crop is 300; give a multiple of 8"),
        ("stage=motion", "stage motion needs frames in a row"),
    ],
)
def test_mistakes_are_told(file: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_recipe(file, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n- b\n", "not a recipe; give a YAML mapping"),
        ("", "not a recipe; give a YAML mapping"),
        ("stage: [image\noutput: x\n", "not a recipe: while parsing"),
        ("steps: " + "9" * 5000, "not a recipe: Exceeds the limit"),
        ("made: 2020-99-99\n", "not a recipe: month must be in"),
        ("[" * 5000, "not a recipe: "),
        ("output: x\n", "recipe: stage is not given and has no default"),
        ("stage: image\n", "recipe: output is not given and has no default"),
        ("stage: image\noutput: x\ndata:\n", "recipe: data is None; it holds settings"),
        ("!!python/object/apply:os.system [id]\n", "not a recipe: could not determine a constructor"),
    ],
)
def test_files_that_are_no_recipes(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_recipe(file)
    assert "\n" not in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.yaml: no such recipe"):
        load_recipe(tmp_path / "nothing.yaml")
    with pytest.raises(InputError, match="not a recipe"):
        load_recipe(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="not a recipe"):
        load_recipe(tmp_path / "bytes.yaml")


REMOVED = {"object_dropout": (0.0, 0.3), "object_weight": (1.0, 20.0), "decoder_only": (False, True)}


@pytest.mark.parametrize("name", REMOVED)
def test_settings_that_were_removed(file: Path, name: str) -> None:
    """Without effect they are passed over; else one line says that it no longer goes."""
    neutral, other = REMOVED[name]
    assert load_recipe(file, [f"objective.{name}={neutral}"]) == load_recipe(file)
    with pytest.raises(InputError, match=f"^recipe: objective.{name} is {other}; the setting was removed") as caught:
        load_recipe(file, [f"objective.{name}={other}"])
    assert "\n" not in str(caught.value)


def test_a_shipped_models_name_is_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(REPOSITORY / "recipes/puppet_videos.yaml")
    assert recipe.init == "puppet" and recipe.init_folder == shipped_folder("puppet")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "puppet").mkdir()  # somebody's own
    assert recipe.init_folder == Path("puppet")
