"""A published benchmark from end to end: its test clips are made, measured and set among published figures.

data set ──benchmark_inputs──▶ reference pictures and videos ──batch──▶ results ──evaluation──▶ report
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import animate_anyone
from animate_anyone.engines.engine import Engine
from animate_anyone.errors import InputError
from animate_anyone.evaluation.benchmarks import clips_of, find_benchmark
from animate_anyone.evaluation.folders import ClipFiles, Pair
from animate_anyone.evaluation.protocols import METRICS, find_protocol
from animate_anyone.evaluation.report import PUBLISHED_PROTOCOL, markdown
from animate_anyone.evaluation.video_metrics import measure_pairs, video_table
from animate_anyone.evaluation.weights import sha256
from animate_anyone.media import check_folder, whole_file
from animate_anyone.models.folder import AA2, METHODS, class_name, model_folder
from animate_anyone.models.shipped import SHIPPED
from animate_anyone.progress import SILENT, Progress
from animate_anyone.sampling.loading import load_shapes
from animate_anyone.structures import Size
from animate_anyone.workflows import animate, replace
from animate_anyone.workflows.batch import FAILED, Summary, batch
from animate_anyone.workflows.batch_jobs import read_jobs
from animate_anyone.workflows.benchmark_inputs import BACKGROUNDS, Preparation, Prepared
from animate_anyone.workflows.setting_values import written
from animate_anyone.workflows.settings import WorkflowSettings, check_asked
from animate_anyone.workflows.source_video import SourceVideoSettings

JOBS, REPORT, TABLE = "jobs.jsonl", "report.json", "report.md"
_TABLES = {"uniform": "aa2-character", "pasted": "aa2-environment"}
_OF_THE_MACHINE = ("device", "offload", "vae_tiling", "attention", "compile", "keep", "frames")


@dataclass(frozen=True)
class Asked:
    """What of a benchmark is to be made and measured.

    Attributes:
        benchmark: a name in ``evaluation.benchmarks.BENCHMARKS``.
        folder: where the data set was unpacked.
        split: a file of clips and their references (``evaluation.benchmarks.read_test_split``); ``None``: the test set.
        background: a name in ``benchmark_inputs.BACKGROUNDS``; ``None``: ``own``, and ``reference`` for a model of
            Animate Anyone 2 on TikTok, as its paper has it.
        num_frames: how many frames of each clip, from the first on; ``None``: all.
        protocol, metrics: of ``evaluation.protocols``.
        metric_weights: as of ``evaluation.video_metrics.evaluate_videos``.
    """

    benchmark: str
    folder: Path
    split: Path | None = None
    background: str | None = None
    num_frames: int | None = None
    protocol: str = PUBLISHED_PROTOCOL
    metrics: Sequence[str] = METRICS
    metric_weights: Path | None = None


@dataclass(frozen=True)
class Making:
    """How results are made; each is a setting of ``animate`` and of ``replace``."""

    model: str
    size: Size | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    pose_estimator: str = "mediapipe"


@dataclass
class Outcome:
    """What became of a benchmark.

    Attributes:
        report: as it was written.
        table: the row among the published ones, Markdown.
        failed: why a clip was not made, by its name.
        status: 0: all clips are measured; 2: inputs kept some from it; 1: something else did.
    """

    report: dict[str, Any]
    table: str
    failed: dict[str, str] = field(default_factory=dict)
    status: int = 0

    def lines(self) -> list[str]:
        """For the user: the figures, the clips that failed, the table."""
        total = self.report["num_videos"] + len(self.failed)
        lines = [video_table(self.report), ""]
        if self.failed:
            lines.append(f"{len(self.failed)} of {total} clips were not made, and the figures are without them:")
            lines += [f"  {name}: {reason}" for name, reason in self.failed.items()]
            lines.append("")
        return [*lines, self.table]


def benchmark(
    asked: Asked, making: Making, results: Path, engine: Engine | None = None, progress: Progress = SILENT
) -> Outcome:
    """Make every test clip, or go on with them, and measure them.

    In ``results``: ``references/``, ``inputs/`` where backgrounds are changed, the jobs (``jobs.jsonl``, which
    ``animate-anyone batch`` takes too), ``records/`` and ``videos/`` as ``batch`` writes them, ``report.json`` and
    ``report.md``. What is there, of the same clips made in the same way, is not made again. A clip that cannot be made
    stops no other.

    Args:
        engine: as of ``batch``.
        progress: shown how far it is, in clips.

    Raises:
        InputError: the data set, the split, the model or the settings cannot be used, found out before anything is
            made; or no clip at all could be made.
    """
    chosen, protocol = find_benchmark(asked.benchmark), find_protocol(asked.protocol)
    verb, background = check_model(asked, making)
    clips = clips_of(chosen, asked.folder, asked.split, asked.num_frames)
    settings = settings_of(verb, making, asked.num_frames)
    preparation = Preparation(results, background, _seeing(making))
    check_folder(results, "--output", (JOBS, REPORT, TABLE))

    failed: dict[str, str] = {}
    ready: list[Prepared] = []
    aligned: set[str] = set()
    for clip in progress.track(clips, len(clips), "clips"):
        try:
            ready.append(preparation.prepare(clip))
        except InputError as error:
            failed[clip.name] = str(error)
        if isinstance(clip.reference, Path):
            aligned.add(clip.name)
    summary = make(ready, verb, settings, aligned, results, engine, progress)
    failed |= {Path(one.job.name).stem: one.reason for one in summary.outcomes if one.result == FAILED}
    pairs, status = [], summary.status or (2 if failed else 0)
    for prepared in ready:
        if prepared.name in failed:
            continue
        try:
            pairs.append(pair_of(prepared, preparation, background, results))
        except InputError as error:
            failed[prepared.name], status = str(error), max(status, 2) if status != 1 else 1
    if not pairs:
        name, reason = next(iter(failed.items()))
        raise InputError(f"none of {len(clips)} clips could be made; the first, {name}: {reason}")

    measured = measure_pairs(
        pairs,
        protocol,
        asked.metrics,
        metric_weights=asked.metric_weights,
        device=making.device,
        progress=progress,
    )
    failed = {clip.name: failed[clip.name] for clip in clips if clip.name in failed}
    report = {
        "animate_anyone": animate_anyone.__version__,
        "benchmark": chosen.name,
        "layout": chosen.name,
        "table": _TABLES.get(background, chosen.name),
        "background": background,
        "split": None if asked.split is None else {"file": asked.split.name, "sha256": sha256(asked.split)},
        "references": {
            clip.name: clip.reference if isinstance(clip.reference, int) else clip.reference.name for clip in clips
        },
        "most_frames": asked.num_frames,
        "model": Path(making.model).name,
        "verb": verb,
        "settings": {name: value for name, value in written(settings).items() if name not in _OF_THE_MACHINE},
        "scaled_to_truth": sorted({_shown(size) for pair in pairs if (size := _size_of(pair.generated)) != pair.size}),
        "failed": failed,
        "protocol": protocol.describe(),
        **measured,
    }
    report["settings"]["model"] = report["model"]
    table = markdown([(report["model"], report)], report["table"])
    _write(results, report, table)
    return Outcome(report, table, failed, status)


def check_model(asked: Asked, making: Making) -> tuple[str, str]:
    """The verb that makes results with the model, and the background.

    Raises :class:`InputError`: no such model, or it does not go with what is asked for.
    """
    name = class_name(model_folder(making.model))
    verb = METHODS[name][1]
    is_default = asked.background is None
    background = asked.background or ("reference" if name == AA2 and asked.benchmark == "tiktok" else "own")
    if background not in BACKGROUNDS:
        raise InputError(f"--background {background}: not known; there are: {', '.join(BACKGROUNDS)}")
    wrong = {"reference": "animate", "pasted": "replace"}.get(background)
    if verb == wrong and not is_default:
        method, other = METHODS[name][0], "Animate Anyone" if background == "pasted" else "Animate Anyone 2"
        raise InputError(
            f"--background {background}: is for models of {other}, and {making.model} is one of {method}; give another "
            "--model or another --background"
        )
    if making.device.startswith("cuda:"):
        raise InputError(
            f"--device {making.device}: clips are shared out to the GPUs there are; give auto, cuda or cpu"
        )
    check_asked(load_shapes(making.model), settings_of(verb, making, asked.num_frames))
    return verb, background


def settings_of(verb: str, making: Making, num_frames: int | None) -> WorkflowSettings:
    """The settings of every job."""
    frames = None if num_frames is None else slice(0, num_frames)
    if verb == "animate":
        return animate.Settings(**vars(making), frames=frames, driving_kind="video")
    return replace.Settings(**vars(making), frames=frames)


def make(
    ready: Sequence[Prepared],
    verb: str,
    settings: WorkflowSettings,
    aligned: set[str],
    results: Path,
    engine: Engine | None,
    progress: Progress,
) -> Summary:
    """Make the results by ``batch``.

    The skeleton of a clip that is made from a frame of its own is not rescaled: it is the character's already. Those
    of ``aligned``, made from another picture, are, as in ``animate``.
    """
    if not ready:
        return Summary([])
    common = {name: value for name, value in written(settings).items() if value is not None}
    if settings.model not in SHIPPED:
        common["model"] = str(Path(settings.model).absolute())
    lines = []
    for one in ready:
        video = {"animate": "driving", "replace": "video"}[verb]
        files = {"character": str(one.reference.absolute()), video: str(one.video.absolute())}
        own = {"align": one.name in aligned} if verb == "animate" else {}
        job = {"verb": verb, **files, "output": f"videos/{one.name}.mp4", **common, **own}
        lines.append(json.dumps(job) + "\n")
    with whole_file(results / JOBS) as part:
        part.write_text("".join(lines), encoding="utf-8")
    return batch(read_jobs(results / JOBS, results), results, engine, progress)


def pair_of(prepared: Prepared, preparation: Preparation, background: str, results: Path) -> Pair:
    """A result and its truth. Raises :class:`InputError` where they are not of one length."""
    made = results / "videos" / f"{prepared.name}.mp4"
    generated = preparation.paste(prepared, made) if background == "pasted" else ClipFiles(prepared.name, made)
    count = generated.shape()[0]
    if count != prepared.num_frames:
        raise InputError(f"its result has {count} frames, and the clip {prepared.num_frames}; remove {made}")
    return Pair(prepared.name, generated, prepared.truth, count, prepared.size)


def _seeing(making: Making) -> SourceVideoSettings:
    return SourceVideoSettings(making.model, device=making.device, pose_estimator=making.pose_estimator)


def _size_of(clip: ClipFiles) -> Size:
    _, *size = clip.shape()
    return (size[0], size[1])


def _shown(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _write(results: Path, report: dict[str, Any], table: str) -> None:
    with whole_file(results / REPORT) as part:
        part.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with whole_file(results / TABLE) as part:
        part.write_text(table + "\n", encoding="utf-8")
