"""Shipped recipes by name, wherever one stands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from animate_anyone.cli.train import _recipes
from animate_anyone.errors import InputError
from animate_anyone.training.chain import check_file
from animate_anyone.training.recipe_file import load_recipe, read_settings_file
from animate_anyone.training.shipped_recipes import find_recipe, recipe_names, recipes_folder
from conftest import REPOSITORY


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_there_is_one_copy() -> None:
    assert (REPOSITORY / "recipes").resolve() == recipes_folder().resolve()
    assert {"puppet_image", "aa1_stage1", "ablation/clip", "ablation_environment/box"} <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_each_is_found_by_its_name_and_by_its_path_in_a_checkout(name: str) -> None:
    wanted = recipes_folder() / f"{name}.yaml"
    assert find_recipe(name) == find_recipe(f"recipes/{name}.yaml") == find_recipe(f"./recipes/{name}") == wanted
    assert wanted.is_file()
    if "stages" not in read_settings_file(name):
        assert load_recipe(name, ["steps=7"]).steps == 7


def test_a_file_that_is_there_is_meant_first() -> None:
    Path("recipes").mkdir()
    shutil.copy(recipes_folder() / "puppet_motion.yaml", "recipes/puppet_image.yaml")
    shutil.copy(recipes_folder() / "puppet_motion.yaml", "puppet_image")
    assert load_recipe("recipes/puppet_image.yaml").stage == load_recipe("puppet_image").stage == "motion"
    Path("puppet_image").unlink()
    Path("puppet_image").mkdir()  # a folder is no recipe
    assert load_recipe("puppet_image").stage == "image"


def test_a_chain_finds_its_recipes() -> None:
    assert "stage" in check_file("puppet_gpu", ["steps=2"])


@pytest.mark.parametrize("name", ["puppet_imag", "recipes/puppet_imag.yaml", "puppet_image.yaml", "my/puppet_imag"])
def test_a_name_that_is_almost_one_is_asked_about(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}: no such recipe; did you mean puppet_image\?$"):
        load_recipe(name)


@pytest.mark.parametrize("name", ["dance", "../weights/puppet/README", "/etc/hostname.yaml", "recipes/../config", ""])
def test_other_names_list_what_there_is(name: str) -> None:
    with pytest.raises(InputError, match=r"one of: aa1_distil, .*puppet_image|not a recipe"):
        load_recipe(name)


def test_the_shell_is_told_names_and_files() -> None:
    assert _recipes("puppet_image") == ["puppet_image", "puppet_image_encoder", "puppet_image_wide"]
    Path("puppet_mine.yaml").touch()
    Path("puppet.mp4").touch()
    Path("puppets").mkdir()
    assert {"puppet_mine.yaml", "puppets/", "puppet_gpu"} <= set(_recipes("pupp"))
    assert "puppet.mp4" not in _recipes("pupp")
