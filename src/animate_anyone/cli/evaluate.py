"""``animate-anyone evaluate``: a model on a suite, or videos beside the true ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from animate_anyone.errors import InputError
from animate_anyone.progress import SILENT, Progress, TerminalProgress

SUITES = ("puppet", "puppet-environment")
_OF_SUITES = (
    "suite",
    "model",
    "sheet",
    "characters",
    "steps",
    "guidance",
    "seed",
    "dtype",
    "long_clips",
    "compare_motion",
)
_OF_PUPPET = ("long_clips", "compare_motion")
_OF_VIDEOS = ("protocol", "metrics", "split", "layout", "metric_weights")


def evaluate(
    context: typer.Context,
    suite: Annotated[str, typer.Option(help="puppet, or puppet-environment: characters in scenes.")] = "puppet",
    model: Annotated[
        str | None, typer.Option(help="A shipped model's name or a model folder.", show_default="the suite's name")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures there.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Contact sheet (.png); default: beside the JSON file.", show_default=False)
    ] = None,
    characters: Annotated[int, typer.Option(min=1, help="How many characters of the suite.")] = 24,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps; default: the model's.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; default: the model's.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Of the initial noise.")] = 0,
    long_clips: Annotated[int, typer.Option(min=0, help="Of how many characters a long clip, to see its seams.")] = 2,
    compare_motion: Annotated[
        bool, typer.Option("--compare-motion", help="Flicker without the temporal layers, too.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
    generated: Annotated[
        Path | None, typer.Option(help="Instead of a suite: a folder of videos to measure.", show_default=False)
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="The true videos, under the same names.", show_default=False)
    ] = None,
    protocol: Annotated[str, typer.Option(help="clean, or disco-legacy: as the papers.")] = "clean",
    metrics: Annotated[
        str | None, typer.Option(help="Some of psnr,ssim,l1,lpips,fid,fid-vid,fvd; default: all.", show_default=False)
    ] = None,
    split: Annotated[
        Path | None, typer.Option(help="Text file: names to measure, one a line.", show_default=False)
    ] = None,
    layout: Annotated[str, typer.Option(help="Of the folders: plain, ubc or tiktok.")] = "plain",
    metric_weights: Annotated[
        Path | None,
        typer.Option(help="Weights of LPIPS, FID, FID-VID and FVD.", show_default="~/.cache/animate-anyone/metrics"),
    ] = None,
) -> None:
    """Measure a model on a suite whose truth is known, or videos (--generated) beside the true ones (--truth)."""
    if generated is None and truth is None:
        _refuse_given(context, _OF_VIDEOS, "goes with --generated and --truth; give both")
        how = {
            "characters": characters,
            "steps": steps,
            "guidance": guidance,
            "seed": seed,
            "long_clips": long_clips,
            "compare_motion": compare_motion,
        }
        if suite == "puppet-environment":
            for name in _OF_PUPPET:
                del how[name]
            _refuse_given(context, _OF_PUPPET, "goes with --suite puppet; leave it out")
        _evaluate_suite(suite, model or suite, json_file, sheet, how, device, dtype)
        return
    if generated is None or truth is None:
        given, wanted = ("--generated", "--truth") if truth is None else ("--truth", "--generated")
        raise InputError(f"{given} alone: there is nothing to compare with; give {wanted} too")
    _refuse_given(context, _OF_SUITES, "goes with a suite, not with --generated; leave it out")
    from animate_anyone.evaluation.protocols import find_protocol, parse_metrics
    from animate_anyone.evaluation.video_metrics import evaluate_videos, video_table

    rules, chosen = find_protocol(protocol), parse_metrics(metrics)
    if json_file is not None:
        _check_json(json_file)
    with _bars() as progress:
        report = evaluate_videos(
            generated,
            truth,
            rules,
            chosen,
            layout=layout,
            split=split,
            metric_weights=metric_weights,
            device=device,
            progress=progress,
        )
    _write(json_file, report)
    print(video_table(report))


def _evaluate_suite(
    suite: str,
    model: str,
    json_file: Path | None,
    sheet: Path | None,
    how: dict[str, Any],
    device: str,
    dtype: str,
) -> None:
    from animate_anyone.cli.options import shown_progress
    from animate_anyone.evaluation.environment_suite import environment_table, evaluate_environment
    from animate_anyone.evaluation.suites import evaluate_puppet, suite_table
    from animate_anyone.media import check_writable, write_picture
    from animate_anyone.sampling.models import load_pipeline

    if suite not in SUITES:
        raise InputError(f"--suite {suite}: not known; there is: {', '.join(SUITES)}")
    if json_file is not None:
        _check_json(json_file)
        sheet = sheet or json_file.with_suffix(".png")
    if sheet is not None:
        check_writable(sheet, (".png",))
    with shown_progress() as progress:
        pipeline = load_pipeline(model, device, dtype)
        if suite == "puppet":
            report, picture = evaluate_puppet(pipeline, progress=progress, **how)
            table = suite_table
        else:
            animator = load_pipeline("puppet", device, dtype)
            report, picture = evaluate_environment(pipeline, animator, progress=progress, **how)
            table = environment_table
    report = {"model_name": model, **report}
    _write(json_file, report)
    if sheet is not None:
        write_picture(sheet, picture)
    print(table(report))


def _check_json(file: Path) -> None:
    """See before the work that the figures can be written. Raises :class:`InputError`."""
    from animate_anyone.media import check_writable

    check_writable(file, (".json",))


def _write(file: Path | None, report: dict[str, Any]) -> None:
    from animate_anyone.media import whole_file

    if file is not None:
        with whole_file(file) as part:
            part.write_text(json.dumps(report, indent=1, allow_nan=False))


def _refuse_given(context: typer.Context, names: tuple[str, ...], why: str) -> None:
    """Refuse options that were typed though they say nothing here."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(f"--{name.replace('_', '-')} {why}")


@contextmanager
def _bars() -> Iterator[Progress]:
    """Bars on the terminal, none where nobody looks; without the model libraries, whose import takes seconds."""
    if not sys.stderr.isatty():
        yield SILENT
        return
    with TerminalProgress() as progress:
        yield progress
