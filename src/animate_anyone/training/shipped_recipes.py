"""The recipes that come with the package, by name; nothing heavy is imported to know them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path, PurePath

SUFFIX = ".yaml"


def recipes_folder() -> Path:
    """Where the shipped recipes lie."""
    return Path(str(files("animate_anyone") / "recipes"))


def recipe_names() -> list[str]:
    """The names of all shipped recipes: ``puppet_image``, ``ablation/clip``."""
    folder = recipes_folder()
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob(f"*{SUFFIX}"))


def find_recipe(given: str | Path) -> Path:
    """The file that is meant: one that is there, else the shipped recipe of that name.

    ``recipes/NAME.yaml``, as it is written beside a checkout, means the shipped one too. A name that is none is
    returned as a path: to a file that is not there.
    """
    path = Path(given)
    if path.is_file():
        return path
    name = PurePath(given).as_posix()
    if name.startswith("recipes/"):
        name = name.removeprefix("recipes/").removesuffix(SUFFIX)
    return recipes_folder() / f"{name}{SUFFIX}" if name in recipe_names() else path
