"""``animate-anyone prepare``."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from animate_anyone.cli import options
from animate_anyone.cli.records import takes_records
from animate_anyone.errors import InputError, shortened


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``prepare`` in the order of its help."""

    fps: Annotated[str, typer.Option(help="Frames per second of clips; slower videos keep theirs.")] = "24"
    seconds: Annotated[str, typer.Option(metavar="A:B", help="The shortest and the longest clip.")] = "2:10"
    min_height: Annotated[int, typer.Option(help="Pixels that the person is high at least.")] = 128
    max_side: Annotated[int, typer.Option(help="Longer side of clips at most, pixels.")] = 1024
    frames: Annotated[str, typer.Option(metavar="A:B", help="Of each video only these frames, B left out.")] = ":"
    masks: Annotated[bool, typer.Option("--masks", help="Also write the person's masks.")] = False
    objects: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Also write masks of what the person holds: names.")
    ] = None
    object_weights: options.ObjectWeights = None
    layout: options.Layout = "plain"
    pose_estimator: options.PoseEstimatorName = "mediapipe"
    rtmlib: options.Rtmlib
    depth: options.Depth = None
    device: Annotated[
        str, typer.Option(help="Where rtmlib, Grounding DINO and the depth network work: cpu, cuda, cuda:N or mps.")
    ] = "cpu"
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that work; 0: this one alone, with --ray all there is room for.")
    ] = 0
    ray: options.Ray = None
    shards: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Also as tar files of this size, such as 1GB, for object storage."),
    ] = None
    from_shards: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="In place of videos: make the data set of such tar files.")
    ] = None


@takes_records
def prepare(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The data set's folder, new or to go on with.", show_default=False)
    ],
    chosen: Options,
    videos: Annotated[
        list[Path] | None,
        typer.Argument(help="Videos, folders of videos, or lists of them (.txt).", show_default=False),
    ] = None,
) -> None:
    """Make a data set for training: clips of one person each, with poses; goes on where it was stopped."""
    from animate_anyone.engines.engine import Engine, InProcess
    from animate_anyone.engines.local_pool import LocalPool
    from animate_anyone.engines.ray_engine import RayEngine
    from animate_anyone.media import parse_fps, parse_range
    from animate_anyone.perception.joint_depth import parse_depth
    from animate_anyone.preparation.prepare import MANIFEST, PAGE
    from animate_anyone.preparation.prepare import prepare as make
    from animate_anyone.preparation.settings import PrepareSettings
    from animate_anyone.preparation.shards import FOLDER, INDEX, parse_shard_size, unpack_shards, write_shards

    if chosen.from_shards is not None:
        if videos:
            raise InputError("--from-shards takes the place of videos; give one of both")
        with options.bars() as progress:
            print(f"{unpack_shards(chosen.from_shards, output, progress)} clips, {output / MANIFEST}")
        return
    shard_size = None if chosen.shards is None else parse_shard_size(chosen.shards)
    rate = parse_fps(chosen.fps)
    depth = None if chosen.depth is None else parse_depth(chosen.depth)
    given = (chosen.object_weights, chosen.rtmlib.rtmlib_detector, chosen.rtmlib.rtmlib_pose, depth)
    weights, detector, pose, depth_weights = (None if path is None else str(path.resolve()) for path in given)
    part = parse_range(chosen.frames)
    settings = PrepareSettings(
        rate,
        *_parse_seconds(chosen.seconds),
        chosen.min_height,
        chosen.max_side,
        chosen.masks,
        chosen.pose_estimator,
        (part.start or 0, part.stop),
        chosen.objects,
        weights,
        chosen.device,
        chosen.rtmlib.rtmlib_mode,
        detector,
        pose,
        depth_weights,
    )
    with ExitStack() as stack:
        engine: Engine = LocalPool(chosen.workers) if chosen.workers else InProcess()
        if chosen.ray is not None:
            engine = stack.enter_context(RayEngine(chosen.ray, chosen.workers, output, videos or ()))
        progress = stack.enter_context(options.bars())
        summary = make(videos or (), output, settings, chosen.layout, engine, progress)
        made = [] if shard_size is None else write_shards(output, shard_size, progress)
    print(*summary.lines(), f"{output / MANIFEST}, {output / PAGE}", sep="\n")
    if made:
        total = sum(line["bytes"] for line in made)
        print(f"{len(made)} shards, {total / 1e9:.3f} GB: {output / FOLDER / INDEX}")


def _parse_seconds(text: str) -> tuple[float, float]:
    found = re.fullmatch(r"\s*(\d{1,4}(?:\.\d{1,3})?)\s*:\s*(\d{1,4}(?:\.\d{1,3})?)\s*", text, re.ASCII)
    if found is None:
        raise InputError(f"--seconds {shortened(text)}: give A:B, the shortest and the longest clip, such as 2:10")
    return float(found[1]), float(found[2])
