"""``animate-anyone replace``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from animate_anyone.cli import options
from animate_anyone.cli.records import takes_records


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``replace`` in the order of its help."""

    output: options.OutputVideo = Path("out.mp4")
    model: options.Model = "puppet-environment"
    objects: Annotated[
        str | None,
        typer.Option(metavar="FILE|TEXT|ask", help="What the person holds: a .json of marks, names, or ask."),
    ] = None
    keep_background: Annotated[
        bool, typer.Option("--keep-background", help="The video's size, and its own pixels outside the made region.")
    ] = False
    crop: Annotated[
        bool, typer.Option("--crop", help="Make the part around the person alone, larger; the rest is the video's own.")
    ] = False
    feather: Annotated[int, typer.Option(min=0, help="Pixels in which the made region fades into those.")] = 4
    person: Annotated[int, typer.Option(min=0, help="Who is replaced: 0 is the largest, 1 the next.")] = 0
    size: Annotated[
        str | None,
        typer.Option(help="WIDTHxHEIGHT of the result; default: the video's shape (docs/sampling.md)."),
    ] = None
    denoising: options.Denoising
    frames: options.VideoFrames = None
    continuation: Annotated[
        int, typer.Option(min=0, help="Segments, each going on from so many frames of the one before; 0: windows.")
    ] = 0
    windows: options.Windows
    pose_estimator: options.PoseEstimatorName = "mediapipe"
    rtmlib: options.Rtmlib
    depth: options.Depth = None
    character_pose: options.CharacterPose = None
    masker: Annotated[str, typer.Option(help="Who cuts the person out: mediapipe, grabcut or sam2.")] = "mediapipe"
    tracker: Annotated[str, typer.Option(help="Who follows objects: classical or sam2.")] = "classical"
    sam2_weights: Annotated[Path | None, typer.Option(metavar="DIR", help="SAM2, for masker and tracker.")] = None
    object_weights: options.ObjectWeights = None
    placement: options.Placement
    first_guess: options.FirstGuess = False
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep masks, environment, objects and skeletons.")
    ] = None
    like: options.Like = None
    dry_run: options.DryRun = False


@takes_records
def replace(
    character: options.Character,
    video: Annotated[Path, typer.Option(help="A video of somebody.", show_default=False)],
    chosen: Options,
    context: typer.Context,
) -> None:
    """Put the character into a video, in the place of the person there, with the objects that they hold."""
    from animate_anyone.workflows import replace as workflow

    settings = options.settings_like("replace", workflow.Settings, chosen, context)
    job = character, video, chosen.output, settings
    options.run_workflow(workflow.replace, workflow.dry_run, job, chosen.character_pose, chosen.dry_run)
