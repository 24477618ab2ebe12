"""``animate-anyone train``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from animate_anyone.cli.options import shown_progress


def train(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe or a chain of them, e.g. recipes/puppet_image.yaml.", show_default=False)
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
) -> None:
    """Train by a recipe; writes checkpoints, a log and the resulting model folder."""
    began = time.monotonic()
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
