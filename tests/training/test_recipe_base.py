"""A recipe that says what it changes of another."""

from __future__ import annotations

from pathlib import Path

import pytest

from animate_anyone.errors import InputError
from animate_anyone.training.recipe_file import load_recipe


def write(folder: Path, **files: str) -> None:
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(content)


def test_what_a_recipe_has_counts_before_its_base(tmp_path: Path) -> None:
    """Sections are put together; a base beside the file, over two files; the command line before all."""
    write(
        tmp_path,
        one="stage: image\noutput: a\nsteps: 5\ndata: {size: 64, clips: 3}\noptimizer: {betas: [0.1, 0.2]}\n",
        two="base: one.yaml\noutput: b\ndata: {clips: 4}\noptimizer: {betas: [0.3, 0.4]}\n",
        three="base: two.yaml\nsteps: 6\n",
    )
    recipe = load_recipe(tmp_path / "three.yaml", ["data.size=128"])
    assert (recipe.stage, recipe.output, recipe.steps) == ("image", "b", 6)
    assert (recipe.data.size, recipe.data.clips, recipe.optimizer.betas) == (128, 4, (0.3, 0.4))


def test_a_shipped_recipe_is_a_base_from_anywhere(tmp_path: Path) -> None:
    write(tmp_path, mine="base: ablation/reference_net\noutput: mine\n")
    shipped = load_recipe("ablation/reference_net").to_dict()
    assert load_recipe(tmp_path / "mine.yaml").to_dict() == {**shipped, "output": "mine"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("base: 3\n", r"base is 3; give a file beside it, or a shipped recipe's name"),
        ("base: nowhere\n", r"nowhere: no such recipe"),
        ("base: mine.yaml\n", r"mine.yaml: it is its own base"),
    ],
)
def test_a_base_that_is_none(content: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, mine=content)
    with pytest.raises(InputError, match=message) as refused:
        load_recipe(tmp_path / "mine.yaml")
    assert "\n" not in str(refused.value)
