"""``animate-anyone batch``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from animate_anyone.cli import options

_MOST_NAMED = 50  # mistakes of a jobs file


def batch(
    jobs: Annotated[
        Path,
        typer.Argument(
            metavar="JOBS.jsonl",
            help='A line for each video: {"character": ..., "driving": ..., "output": ...} and any options.',
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder of the videos, new or to go on with.", show_default=False)
    ],
    workers: Annotated[
        int,
        typer.Option(min=0, help="Processes, each with a model; 0: one a GPU; without GPUs one, by Ray one a machine."),
    ] = 0,
    ray: options.Ray = None,
    dry_run: options.DryRun = False,
) -> None:
    """Make many videos, on one machine or many; goes on where it was stopped.

    Ends with 0 when all videos are there, 2 where inputs kept some from being made, 1 for other faults.
    """
    from animate_anyone.engines.engine import Engine
    from animate_anyone.engines.local_pool import LocalPool
    from animate_anyone.engines.ray_engine import RayEngine
    from animate_anyone.workflows.batch import batch as make
    from animate_anyone.workflows.batch import plan
    from animate_anyone.workflows.batch_jobs import MistakesError, read_jobs

    try:
        read = read_jobs(jobs, output)
    except MistakesError as error:
        for mistake in error.mistakes[:_MOST_NAMED]:
            print(f"error: {mistake}", file=sys.stderr)
        if len(error.mistakes) > _MOST_NAMED:
            print(f"error: and {len(error.mistakes) - _MOST_NAMED} more", file=sys.stderr)
        raise typer.Exit(2) from None
    if dry_run:
        print(*plan(read, output), sep="\n")
        return
    with ExitStack() as stack:
        engine: Engine = LocalPool(workers)
        if ray is not None:
            folders = {path.parent for job in read for path in job.inputs() if path.parent.is_dir()}
            engine = stack.enter_context(RayEngine(ray, workers, output, sorted(folders)))
        progress = stack.enter_context(options.shown_progress())
        summary = make(read, output, engine, progress)
    print(*summary.lines(), sep="\n")
    if summary.status:
        raise typer.Exit(summary.status)
