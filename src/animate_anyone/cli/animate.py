"""``animate-anyone animate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from animate_anyone.cli import options
from animate_anyone.cli.records import takes_records


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``animate`` in the order of its help."""

    output: options.OutputVideo = Path("out.mp4")
    model: options.Model = "puppet"
    size: Annotated[
        str | None,
        typer.Option(help="WIDTHxHEIGHT of the video; default: the picture's shape (docs/sampling.md)."),
    ] = None
    denoising: options.Denoising
    frames: Annotated[str | None, typer.Option(metavar="A:B", help="Frames of the driver, B left out.")] = None
    fps: Annotated[str | None, typer.Option(help="Frame rate of the result; default: the driver's timing.")] = None
    pose_estimator: options.PoseEstimatorName = "mediapipe"
    rtmlib: options.Rtmlib
    driving_kind: Annotated[
        str, typer.Option(help="What a driving video shows: video (of somebody), skeleton (finished drawings) or auto.")
    ] = "auto"
    person: Annotated[int, typer.Option(min=0, help="Whose movement drives: 0 is the largest, 1 the next.")] = 0
    align: options.Align = True
    character_pose: options.CharacterPose = None
    windows: options.Windows
    placement: options.Placement
    first_guess: options.FirstGuess = False
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep poses, skeletons and their overlay on the character.")
    ] = None
    like: options.Like = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would need of this machine; write nothing.")
    ] = False


@takes_records
def animate(
    character: options.Character,
    driving: Annotated[
        Path,
        typer.Option(
            help="A video of somebody moving, a finished skeleton video, or poses (.npz).", show_default=False
        ),
    ],
    chosen: Options,
    context: typer.Context,
) -> None:
    """Make a video of the character moving as the driver moves."""
    from animate_anyone.workflows import animate as workflow

    settings = options.settings_like("animate", workflow.Settings, chosen, context)
    job = character, driving, chosen.output, settings
    options.run_workflow(workflow.animate, workflow.dry_run, job, chosen.character_pose, chosen.dry_run)
