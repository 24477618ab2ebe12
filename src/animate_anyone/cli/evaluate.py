"""``animate-anyone evaluate``: a model on a suite, or videos beside the true ones."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from animate_anyone.cli.options import Device, DType, Guidance, Steps, bars, shown_progress
from animate_anyone.cli.records import takes_records, values
from animate_anyone.errors import InputError

SUITES = ("puppet", "puppet-environment")
_OF_PUPPET = ("side", "long_clips", "compare_motion")
_OF_ENVIRONMENT = ("guess_objects", "another_body")


@dataclass(frozen=True)
class SuiteOptions:
    """Options of a suite alone."""

    sheet: Annotated[
        Path | None, typer.Option(help="Contact sheet (.png); default: beside the JSON file.", show_default=False)
    ] = None
    characters: Annotated[int, typer.Option(min=1, help="How many characters of the suite.")] = 24
    side: Annotated[
        int | None, typer.Option(min=64, max=1024, help="Of the square frames; default: as the model was trained.")
    ] = None
    steps: Steps = None
    guidance: Guidance = None
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Of the initial noise.")] = 0
    long_clips: Annotated[int, typer.Option(min=0, help="Of how many characters a long clip, to see its seams.")] = 2
    compare_motion: Annotated[
        bool, typer.Option("--compare-motion", help="Flicker without the temporal layers, too.")
    ] = False
    guess_objects: Annotated[
        bool, typer.Option("--guess-objects/--no-guess-objects", help="Whether the first guess holds the objects.")
    ] = True
    another_body: Annotated[bool, typer.Option("--another-body", help="Scenes of a character of another body.")] = False


@dataclass(frozen=True)
class VideoOptions:
    """Options of videos alone."""

    protocol: Annotated[str, typer.Option(help="clean, or disco-legacy: as the papers.")] = "clean"
    metrics: Annotated[
        str | None, typer.Option(help="Some of psnr,ssim,l1,lpips,fid,fid-vid,fvd; default: all.", show_default=False)
    ] = None
    split: Annotated[Path | None, typer.Option(help="Text file: names to measure, one a line.", show_default=False)] = (
        None
    )
    layout: Annotated[str, typer.Option(help="Of the folders: plain, ubc or tiktok.")] = "plain"
    metric_weights: Annotated[
        Path | None,
        typer.Option(help="Weights of LPIPS, FID, FID-VID and FVD.", show_default="~/.cache/animate-anyone/metrics"),
    ] = None


@takes_records
def evaluate(
    context: typer.Context,
    *,
    suite: Annotated[str, typer.Option(help="puppet, or puppet-environment: characters in scenes.")] = "puppet",
    model: Annotated[
        str | None, typer.Option(help="A shipped model's name or a model folder.", show_default="the suite's name")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures there.")] = None,
    of_suite: SuiteOptions,
    device: Device = "auto",
    dtype: DType = "auto",
    generated: Annotated[
        Path | None, typer.Option(help="Instead of a suite: a folder of videos to measure.", show_default=False)
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="The true videos, under the same names.", show_default=False)
    ] = None,
    of_videos: VideoOptions,
) -> None:
    """Measure a model on a suite whose truth is known, or videos (--generated) beside the true ones (--truth)."""
    from animate_anyone.media import check_writable, whole_file

    if json_file is not None:
        check_writable(json_file, (".json",))
    if generated is None and truth is None:
        _refuse_given(context, values(of_videos), "goes with --generated and --truth; give both")
        if suite == "puppet-environment":
            _refuse_given(context, _OF_PUPPET, "goes with --suite puppet; leave it out")
        if suite == "puppet":
            _refuse_given(context, _OF_ENVIRONMENT, "goes with --suite puppet-environment; leave it out")
        report, table = _evaluate_suite(suite, model or suite, json_file, of_suite, (device, dtype))
    elif generated is None or truth is None:
        given, wanted = ("--generated", "--truth") if truth is None else ("--truth", "--generated")
        raise InputError(f"{given} alone: there is nothing to compare with; give {wanted} too")
    else:
        only_suite = ("suite", "model", *values(of_suite), "dtype")
        _refuse_given(context, only_suite, "goes with a suite, not with --generated; leave it out")
        from animate_anyone.evaluation.protocols import find_protocol, parse_metrics
        from animate_anyone.evaluation.video_metrics import evaluate_videos, video_table

        how = values(of_videos)
        rules, chosen = find_protocol(how.pop("protocol")), parse_metrics(how.pop("metrics"))
        with bars() as progress:
            report = evaluate_videos(generated, truth, rules, chosen, device=device, progress=progress, **how)
        table = video_table(report)
    if json_file is not None:
        with whole_file(json_file) as part:
            part.write_text(json.dumps(report, indent=1, allow_nan=False))
    print(table)


def _evaluate_suite(
    suite: str, model: str, json_file: Path | None, options: SuiteOptions, placed: tuple[str, str]
) -> tuple[dict[str, Any], str]:
    """Figures and their table; the contact sheet is written, beside ``json_file`` where it is not named."""
    from animate_anyone.evaluation.environment_suite import environment_table, evaluate_environment
    from animate_anyone.evaluation.suites import evaluate_puppet, suite_table
    from animate_anyone.media import check_writable, write_picture
    from animate_anyone.sampling.loading import load_pipeline

    if suite not in SUITES:
        raise InputError(f"--suite {suite}: not known; there is: {', '.join(SUITES)}")
    how = values(options)
    sheet = how.pop("sheet")
    if json_file is not None:
        sheet = sheet or json_file.with_suffix(".png")
    if sheet is not None:
        check_writable(sheet, (".png",))
    with shown_progress() as progress:
        pipeline = load_pipeline(model, *placed)
        if suite == "puppet":
            how = {name: value for name, value in how.items() if name not in _OF_ENVIRONMENT}
            report, picture = evaluate_puppet(pipeline, progress=progress, **how)
            as_table = suite_table
        else:
            animator = load_pipeline("puppet", *placed)
            how = {name: value for name, value in how.items() if name not in _OF_PUPPET}
            report, picture = evaluate_environment(pipeline, animator, progress=progress, **how)
            as_table = environment_table
    report = {"model_name": model, **report}
    if sheet is not None:
        write_picture(sheet, picture)
    return report, as_table(report)


def _refuse_given(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Refuse options that were typed though they say nothing here."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(f"--{name.replace('_', '-')} {why}")
