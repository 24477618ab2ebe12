"""``animate-anyone train``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from animate_anyone.cli.options import shown_progress


def _recipes(incomplete: str) -> list[str]:
    """Shipped names, and YAML files and folders here, that begin so, for the shell."""
    from glob import escape, glob

    from animate_anyone.training.shipped_recipes import SUFFIX, recipe_names

    here = sorted(glob(f"{escape(incomplete)}*"))
    files = [f"{path}/" if Path(path).is_dir() else path for path in here if Path(path).suffix in (SUFFIX, ".yml", "")]
    return [*(name for name in recipe_names() if name.startswith(incomplete)), *files]


def train(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="A recipe or a chain of them: a file, or a shipped one's name, e.g. puppet_image.",
            show_default=False,
            autocompletion=_recipes,
        ),
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings instead of the recipe's.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    minutes: Annotated[
        float | None,
        typer.Option(help="Stop in time, rendering and saving included; --resume goes on.", show_default=False),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Print what it will train and need (memory, data, steps); do nothing.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the recipe's file, to write one like it.")] = False,
) -> None:
    """Train by a recipe; writes checkpoints, a log and the resulting model folder."""
    began = time.monotonic()
    if show:
        from animate_anyone.training.recipe_file import read_settings_file
        from animate_anyone.training.shipped_recipes import find_recipe

        read_settings_file(recipe)
        print(find_recipe(recipe).read_text(), end="")
        return
    from animate_anyone.training.chain import check_file, train_file

    given = settings or []
    if check:
        print(check_file(recipe, given))
        return
    command = ["animate-anyone", "train", str(recipe), *given]
    with shown_progress() as progress:
        line = train_file(
            recipe, given, resume=resume, minutes=minutes, began=began, progress=progress, command=command
        )
    print(line)
