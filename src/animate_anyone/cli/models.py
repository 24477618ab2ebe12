"""``animate-anyone models``: what there is, what is in it, and how published weights come here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from animate_anyone.cli.options import bars, shown_progress

if TYPE_CHECKING:
    from animate_anyone.interop.catalog import Entry
    from animate_anyone.interop.pull import Plan

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
    from animate_anyone.models.shipped import SHIPPED

    if name in SHIPPED:
        raise InputError(f"{name}: is shipped and needs no download; type: animate-anyone models show {name}")
    entry = catalog.find(name, SHIPPED)
    folder = output or source.default_folder(entry)

    what = _pull(entry, folder, revision)
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


@app.command()
def start(
    what: Annotated[str, typer.Argument(metavar="aa1|aa2", help="What is to be trained.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
    stable_diffusion: Annotated[
        str | None,
        typer.Option(help="Folder, file or known name of Stable Diffusion 1.5; default: pulled.", show_default=False),
    ] = None,
    vae: Annotated[
        str | None,
        typer.Option(help="The autoencoder; default: as given with Stable Diffusion, else pulled.", show_default=False),
    ] = None,
    image_encoder: Annotated[
        str | None, typer.Option(help="The CLIP image encoder; default: pulled.", show_default=False)
    ] = None,
) -> None:
    """Put together what training at the papers' size starts from; what is not here is pulled first."""
    from animate_anyone.interop.start import check_output, find_sources, make_start

    check_output(what, output)
    sources = find_sources({"unet": stable_diffusion, "vae": vae, "image_encoder": image_encoder})
    for entry, folder in sources.absent:
        _pull(entry, folder)
    with shown_progress() as progress:
        lines = make_start(what, sources.places, output, progress)
    print(*lines, sep="\n")


@app.command("diffusers")
def write_diffusers(
    model: Annotated[str, typer.Argument(help="A model folder.", show_default=False)],
    repository: Annotated[
        str | None,
        typer.Option("--repo", metavar="OWNER/NAME", help="Where on the Hub modular pipelines load the networks from."),
    ] = None,
) -> None:
    """Write what diffusers alone loads a model folder with; folders that this version saves have it already."""
    from animate_anyone.models.diffusers_files import write_diffusers_files

    print(*write_diffusers_files(model, repository), sep="\n")


@app.command("card")
def write_model_card(
    model: Annotated[str, typer.Argument(help="A model folder.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file (.md).", show_default="README.md in the folder")
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="As the Hub names it, such as apache-2.0.", show_default=False)
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="On the Hub, that it was made from.", show_default=False)
    ] = None,
) -> None:
    """Write a model card for the Hub, of what the folder's files say; text by hand beside it stays."""
    from animate_anyone.workflows.model_card import write_card

    print(*write_card(model, output, license, base_model), sep="\n")


def _pull(entry: Entry, folder: Path, revision: str | None = None) -> Plan:
    """Say what will be downloaded, and do it."""
    from animate_anyone.interop.pull import fetch, plan

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
    return what
