"""``animate-anyone pose``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from animate_anyone.cli.options import PoseEstimatorName, Rtmlib, VideoFrames, shown_progress
from animate_anyone.cli.records import takes_records, values


@takes_records
def pose(
    source: Annotated[Path, typer.Argument(help="A video, a folder of frames, or a picture.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The poses to write (.npz).")] = Path("poses.npz"),
    preview: Annotated[Path | None, typer.Option(help="Also write the skeletons laid over the video (.mp4).")] = None,
    frames: VideoFrames = None,
    pose_estimator: PoseEstimatorName = "mediapipe",
    smooth: Annotated[bool, typer.Option(help="Fill gaps, drop outliers, smooth jitter.")] = True,
    *,
    rtmlib: Rtmlib,
) -> None:
    """Find the poses of the main person of a video or picture."""
    from functools import partial

    from animate_anyone.media import VIDEO_SUFFIXES, check_writable, parse_range
    from animate_anyone.perception import check_estimator, estimator_options, load_estimator
    from animate_anyone.workflows.pose import estimate_file

    check_writable(output, (".npz",))
    if preview is not None:
        check_writable(preview, VIDEO_SUFFIXES, inputs=(source,))
    networks = values(rtmlib).values()
    check_estimator(pose_estimator, *networks)
    load = partial(load_estimator, pose_estimator, **estimator_options(pose_estimator, *networks))
    with shown_progress() as progress:
        chosen = None if frames is None else parse_range(frames)
        poses, lines = estimate_file(source, chosen, load, smooth, preview, progress)
    poses.save(output)
    print(*lines, f"{output}: poses of {len(poses)} frames", sep="\n")
