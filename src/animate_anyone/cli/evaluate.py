"""``animate-anyone evaluate``: a model on a suite or a published benchmark, or videos beside the true ones."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from animate_anyone.cli.options import (
    Align,
    Device,
    DType,
    Guidance,
    Layout,
    PoseEstimatorName,
    Steps,
    bars,
    shown_progress,
)
from animate_anyone.cli.records import takes_records, values
from animate_anyone.errors import InputError

SUITES = ("puppet", "puppet-environment")
_OF_PUPPET = ("side", "long_clips", "compare_motion", "reference_from")
_OF_ENVIRONMENT = ("guess_objects", "another_body")
_OF_SUITE = ("sheet", "characters")
_WITHOUT_TRUTH = ("reference", "driving", "align", "segments")
_WITH_TRUTH = ("protocol", "metrics", "layout", "metric_weights")


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
    reference_from: Annotated[
        str, typer.Option(help="A frame of the same_clip, or of a clip of the same character elsewhere.")
    ] = "same_clip"
    guess_objects: Annotated[
        bool, typer.Option("--guess-objects/--no-guess-objects", help="Whether the first guess holds the objects.")
    ] = True
    another_body: Annotated[bool, typer.Option("--another-body", help="Scenes of a character of another body.")] = False


@dataclass(frozen=True)
class VideoOptions:
    """Options of videos alone."""

    generated: Annotated[
        Path | None, typer.Option(help="Instead of a suite: a folder of videos to measure.", show_default=False)
    ] = None
    truth: Annotated[Path | None, typer.Option(help="The true videos, under the same names.", show_default=False)] = (
        None
    )
    reference: Annotated[
        Path | None,
        typer.Option(help="Without truth: the character's picture, or a folder of them by name.", show_default=False),
    ] = None
    driving: Annotated[
        Path | None,
        typer.Option(help="Without truth: what drove them, a video or poses, or a folder by name.", show_default=False),
    ] = None
    align: Align = True
    segments: Annotated[int, typer.Option(min=1, max=99, help="Without truth: parts in time, to see drift.")] = 4
    protocol: Annotated[
        str | None,
        typer.Option(help="clean, or disco-legacy: as the papers.", show_default="clean; of a benchmark disco-legacy"),
    ] = None
    metrics: Annotated[
        str | None, typer.Option(help="Some of psnr,ssim,l1,lpips,fid,fid-vid,fvd; default: all.", show_default=False)
    ] = None
    split: Annotated[
        Path | None,
        typer.Option(help="Text file: names, one a line; of a benchmark, references too.", show_default=False),
    ] = None
    layout: Layout = "plain"
    metric_weights: Annotated[
        Path | None,
        typer.Option(help="Weights of LPIPS, FID, FID-VID and FVD.", show_default="~/.cache/animate-anyone/metrics"),
    ] = None


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of a benchmark alone."""

    folder: Annotated[
        Path | None, typer.Argument(help="The data set of --benchmark, as it is published.", show_default=False)
    ] = None
    benchmark: Annotated[
        str | None, typer.Option(help="tiktok, ubc or ted: make its test clips and measure them.", show_default=False)
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of a benchmark's results, new or to go on with.", show_default=False
        ),
    ] = None
    background: Annotated[
        str | None,
        typer.Option(
            help="own, reference, uniform or pasted: what is behind the person.",
            show_default="own; reference for Animate Anyone 2 on TikTok",
        ),
    ] = None
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Of the results; default: the model's.")] = None
    most_frames: Annotated[
        int | None, typer.Option(min=1, help="The first so many frames of each clip; default: all.", show_default=False)
    ] = None
    workers: Annotated[int, typer.Option(min=0, help="Processes, as of batch.")] = 0
    pose_estimator: PoseEstimatorName = "mediapipe"


@takes_records
def evaluate(
    context: typer.Context,
    *,
    of_benchmark: BenchmarkOptions,
    suite: Annotated[str, typer.Option(help="puppet, or puppet-environment: characters in scenes.")] = "puppet",
    model: Annotated[
        str | None, typer.Option(help="A shipped model's name or a model folder.", show_default="the suite's name")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures there.")] = None,
    of_suite: SuiteOptions,
    device: Device = "auto",
    dtype: DType = "auto",
    of_videos: VideoOptions,
) -> None:
    """Measure a model on a suite or a --benchmark; or videos (--generated) beside the true ones (--truth), or, where
    there are none, beside what they were made from (--reference, --driving).

    A benchmark ends with 0 when all clips are measured, 2 where inputs kept some from being made, 1 for other faults.
    """
    from animate_anyone.media import check_writable, whole_file

    if json_file is not None:
        check_writable(json_file, (".json",))
    made, status = of_videos, 0
    if of_benchmark.benchmark is None:
        if of_benchmark.folder is not None:
            raise InputError(
                f"{of_benchmark.folder}: a folder goes with --benchmark; give that, or leave the folder out"
            )
        _refuse_given(context, values(of_benchmark), "goes with --benchmark; give that, or leave it out")
    if of_benchmark.benchmark is not None:
        only_others = (
            "suite",
            "generated",
            "truth",
            *_WITHOUT_TRUTH,
            "layout",
            *_OF_SUITE,
            *_OF_PUPPET,
            *_OF_ENVIRONMENT,
        )
        _refuse_given(context, only_others, "does not go with --benchmark; leave it out")
        report, table, status = _benchmark(model, (of_benchmark, of_suite, of_videos), (device, dtype))
    elif made.generated is None and made.truth is None:
        _refuse_given(context, values(of_videos), "goes with --generated; give that too, or leave it out")
        if suite == "puppet-environment":
            _refuse_given(context, _OF_PUPPET, "goes with --suite puppet; leave it out")
        if suite == "puppet":
            _refuse_given(context, _OF_ENVIRONMENT, "goes with --suite puppet-environment; leave it out")
        report, table = _evaluate_suite(suite, model or suite, json_file, of_suite, (device, dtype))
    elif made.generated is None or (made.truth is None and made.reference is None):
        given, wanted = ("--generated", "--truth") if made.truth is None else ("--truth", "--generated")
        raise InputError(
            f"{given} alone: there is nothing to compare with; give {wanted} too"
            + (", or --reference where there is no truth" if made.truth is None else "")
        )
    else:
        only_suite = ("suite", "model", *values(of_suite), "dtype")
        _refuse_given(context, only_suite, "goes with a suite, not with --generated; leave it out")
        if made.truth is None:
            _refuse_given(context, _WITH_TRUTH, "goes with --truth; give that, or leave it out")
        else:
            _refuse_given(context, _WITHOUT_TRUTH, "is for videos without truth; leave it or --truth out")
        report, table = (_without_truth if made.truth is None else _with_truth)(made, device)
    if json_file is not None:
        with whole_file(json_file) as part:
            part.write_text(json.dumps(report, indent=1, allow_nan=False))
    print(table)
    if status:
        raise typer.Exit(status)


def _with_truth(made: VideoOptions, device: str) -> tuple[dict[str, Any], str]:
    """Figures of videos beside the true ones, and their table."""
    from animate_anyone.evaluation.protocols import find_protocol, parse_metrics
    from animate_anyone.evaluation.video_metrics import evaluate_videos, video_table

    assert made.generated is not None and made.truth is not None
    rules, chosen = find_protocol(made.protocol or "clean"), parse_metrics(made.metrics)
    how = {name: getattr(made, name) for name in ("layout", "split", "metric_weights")}
    with bars() as progress:
        report = evaluate_videos(made.generated, made.truth, rules, chosen, device=device, progress=progress, **how)
    return report, video_table(report)


def _without_truth(made: VideoOptions, device: str) -> tuple[dict[str, Any], str]:
    """Figures of videos beside what they were made from, and their table."""
    from animate_anyone.evaluation.without_truth import without_truth_table
    from animate_anyone.workflows.without_truth import evaluate_without_truth

    assert made.generated is not None and made.reference is not None
    with bars() as progress:
        report = evaluate_without_truth(
            made.generated,
            made.reference,
            made.driving,
            align=made.align,
            segments=made.segments,
            split=made.split,
            device=device,
            progress=progress,
        )
    return report, without_truth_table(report)


def _benchmark(model: str | None, given: tuple[Any, ...], placed: tuple[str, str]) -> tuple[dict[str, Any], str, int]:
    """The report of a benchmark, what to print of it, and the exit status."""
    own, of_suite, of_videos = (values(options) for options in given)
    name, folder = own["benchmark"], own["folder"]
    for what, value in (
        ("a folder: the data set, as it is published", folder),
        ("--model", model),
        ("--output", own["output"]),
    ):
        if value is None:
            raise InputError(
                f"--benchmark {name}: wants {what}; type: evaluate --benchmark {name} FOLDER --model M -o DIR"
            )
    from animate_anyone.engines.local_pool import LocalPool
    from animate_anyone.evaluation.protocols import parse_metrics
    from animate_anyone.media import parse_size
    from animate_anyone.workflows.benchmark import Asked, Making
    from animate_anyone.workflows.benchmark import benchmark as run

    asked = Asked(
        name,
        folder,  # type: ignore[arg-type]
        of_videos["split"],
        own["background"],
        own["most_frames"],
        of_videos["protocol"] or "disco-legacy",
        parse_metrics(of_videos["metrics"]),
        of_videos["metric_weights"],
    )
    making = Making(
        str(model),
        None if own["size"] is None else parse_size(own["size"]),
        of_suite["steps"],
        of_suite["guidance"],
        of_suite["seed"],
        *placed,
        own["pose_estimator"],
    )
    with shown_progress() as progress:
        outcome = run(asked, making, own["output"], LocalPool(own["workers"]), progress)
    return outcome.report, "\n".join(outcome.lines()), outcome.status


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
            how["reference"] = how.pop("reference_from")
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
