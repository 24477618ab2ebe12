"""``animate-anyone train``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from animate_anyone.cli.options import shown_progress


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, e.g. recipes/puppet_image.yaml.", show_default=False)],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings instead of the recipe's.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    minutes: Annotated[
        float | None,
        typer.Option(help="Stop in time, rendering and saving included; --resume goes on.", show_default=False),
    ] = None,
) -> None:
    """Train by a recipe; writes checkpoints, a log and the resulting model folder."""
    began = time.monotonic()
    from animate_anyone.training.config import load_recipe
    from animate_anyone.training.stages import run
    from animate_anyone.training.time_limit import TimeLimit, closing_line

    limit = None if minutes is None else TimeLimit(minutes, began=began)
    loaded = load_recipe(recipe, settings or [])
    with shown_progress() as progress:
        folder = run(loaded, resume, progress, limit)
    print(closing_line(folder, loaded.steps, limit, ["animate-anyone", "train", str(recipe), *(settings or [])]))
