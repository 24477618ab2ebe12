"""``animate-anyone models``: what there is, what is in it, and how published weights come here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from animate_anyone.cli.options import bars, shown_progress

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Weights: what there is, and getting more.")


@app.command("list")
def list_models() -> None:
    """Show what is shipped, what is known, and what is already here."""
    from animate_anyone.interop.model_facts import listing

    print(*listing(), sep="\n")


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="A shipped or known name, or a folder.", show_default=False)],
    digest: Annotated[bool, typer.Option(help="Read all weights files once to digest them.")] = True,
) -> None:
    """Show what a model is made of, or what published weights are. Reads headers and settings; loads nothing."""
    from animate_anyone.interop.model_facts import describe

    with shown_progress() as progress:
        lines = describe(model, digest, progress)
    print(*lines, sep="\n")


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="A known name; see: models list.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder; default: below ~/.cache/animate-anyone.", show_default=False),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit, in place of the one that the folder records.", show_default=False),
    ] = None,
) -> None:
    """Download published weights. Goes on where it was stopped; every file's digest is checked."""
    from animate_anyone.errors import InputError
    from animate_anyone.interop import catalog, source
    from animate_anyone.interop.pull import fetch, plan
    from animate_anyone.models.shipped import SHIPPED

    if name in SHIPPED:
        raise InputError(f"{name}: is shipped and needs no download; type: animate-anyone models show {name}")
    entry = catalog.find(name, SHIPPED)
    folder = output or source.default_folder(entry)

    try:
        with bars() as progress:
            what = plan(entry, folder, revision, progress)
        for line in what.lines:  # none between bars
            print(line, flush=True)
        with bars() as progress:
            done = fetch(what, progress)
    except KeyboardInterrupt:
        print("what came so far is kept; type the same command to go on", file=sys.stderr)
        raise
    print(*done, sep="\n")
    if entry.model and what.missing:
        print(
            f"to make a model of it, type: animate-anyone models convert {name if output is None else folder} -o FOLDER"
        )


@app.command()
def convert(
    weights: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A folder of published files, or a pulled name.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model folder to write.", show_default=False)],
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16 or bfloat16; default: as they are.", show_default=False)
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="linear or scaled_linear betas; default: the project's.", show_default=False)
    ] = None,
    motion_heads: Annotated[
        int | None,
        typer.Option(min=1, help="Heads of the temporal layers; default: 8, as in all published.", show_default=False),
    ] = None,
) -> None:
    """Make a model folder of published weights."""
    from animate_anyone.interop.model_facts import pulled_folder

    folder = pulled_folder(weights)
    from animate_anyone.interop.convert import convert_folder

    with shown_progress() as progress:
        lines = convert_folder(folder, output, dtype, progress, beta_schedule=schedule, motion_heads=motion_heads)
    print(*lines, sep="\n")
