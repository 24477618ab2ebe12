"""``animate-anyone web``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def web(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of results; a new one, or this page's.")
    ] = Path("animate-anyone-web"),
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0: all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 7860,
    share: Annotated[
        bool, typer.Option("--share", help="Let Gradio make an address that anybody on the internet can open.")
    ] = False,
    auth: Annotated[
        str | None,
        typer.Option(metavar="USER:PASSWORD|FILE", help="Who may open the page; a file has one a line."),
    ] = None,
    model: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="A model folder beside the shipped ones; may be repeated.")
    ] = None,
    max_megabytes: Annotated[int, typer.Option(min=1, max=100_000, help="Size of an upload, at most.")] = 200,
    max_frames: Annotated[int, typer.Option(min=1, help="Frames of a video, at most.")] = 3000,
    max_pixels: Annotated[int, typer.Option(min=4096, help="Pixels of a frame, at most.")] = 4096 * 2304,
) -> None:
    """Show a page in the browser on which videos are made: upload, look, make, cancel, history."""
    from animate_anyone.errors import InputError
    from animate_anyone.web.auth import read_auth
    from animate_anyone.web.limits import Limits
    from animate_anyone.web.serve import Server, serve

    who = read_auth(auth)
    if share and not who:
        raise InputError("--share: anybody who has the address could use this machine; give --auth USER:PASSWORD too")
    limits = Limits(megabytes=max_megabytes, frames=max_frames, pixels=max_pixels)
    serve(Server(output, host, port, share, who, tuple(model or ()), limits))
