"""``animate-anyone evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    suite: Annotated[str, typer.Option(help="puppet: held-out synthetic characters.")] = "puppet",
    model: Annotated[str, typer.Option(help="A shipped model's name or a model folder.")] = "puppet",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures there.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Contact sheet (.png); default: beside the JSON file.", show_default=False)
    ] = None,
    characters: Annotated[int, typer.Option(min=1, help="How many characters of the suite.")] = 24,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps; default: the model's.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; default: the model's.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Of the initial noise.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
) -> None:
    """Measure a model on a suite whose truth is known."""
    from animate_anyone.cli.options import shown_progress
    from animate_anyone.errors import InputError
    from animate_anyone.evaluation.suites import evaluate_puppet, suite_table
    from animate_anyone.media import check_writable, whole_file, write_picture
    from animate_anyone.sampling.models import load_pipeline

    if suite != "puppet":
        raise InputError(f"--suite {suite}: not known; there is: puppet")
    if json_file is not None:
        check_writable(json_file, (".json",))
        sheet = sheet or json_file.with_suffix(".png")
    if sheet is not None:
        check_writable(sheet, (".png",))
    with shown_progress() as progress:
        pipeline = load_pipeline(model, device, dtype)
        report, picture = evaluate_puppet(
            pipeline,
            characters=characters,
            steps=steps,
            guidance=guidance,
            seed=seed,
            progress=progress,
        )
    report = {"model_name": model, **report}
    if json_file is not None:
        with whole_file(json_file) as part:
            part.write_text(json.dumps(report, indent=1))
    if sheet is not None:
        write_picture(sheet, picture)
    print(suite_table(report))
