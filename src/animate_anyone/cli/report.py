"""``animate-anyone report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT.json...", help="Files of evaluate --generated; names become rows.")
    ],
    table: Annotated[
        str | None,
        typer.Option(help="Published rows: ubc, tiktok, aa2-character, ...; default: by --layout.", show_default=False),
    ] = None,
) -> None:
    """Print measured figures among the published ones, as Markdown."""
    from animate_anyone.evaluation.report import choose_table, markdown, read_result

    read = [(file.stem, read_result(file)) for file in results]
    print(markdown(read, choose_table(table, [result for _, result in read])))
