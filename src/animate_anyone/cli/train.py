"""``animate-anyone train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, e.g. recipes/puppet_image.yaml.", show_default=False)],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings instead of the recipe's.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
) -> None:
    """Train by a recipe; writes checkpoints, a log and the resulting model folder."""
    from animate_anyone.cli.options import shown_progress
    from animate_anyone.training.config import load_recipe
    from animate_anyone.training.stages import run

    loaded = load_recipe(recipe, settings or [])
    with shown_progress() as progress:
        folder = run(loaded, resume=resume, progress=progress)
    print(f"{folder}: the model after {loaded.steps} steps")
