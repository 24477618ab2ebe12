"""The poses in a video or a picture."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from animate_anyone.conditions.draw import draw_frames
from animate_anyone.conditions.smooth import clean
from animate_anyone.errors import InputError
from animate_anyone.media import VideoWriter, is_picture, read_picture
from animate_anyone.perception import PoseEstimator, load_estimator
from animate_anyone.perception.pose.quality import report as quality_report
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import PoseSequence
from animate_anyone.workflows.driving import open_driver
from animate_anyone.workflows.settings import write_frames
from animate_anyone.workflows.skeletons import overlay


def estimate_file(
    source: str | Path,
    frames: slice | None = None,
    estimator: str | Callable[[], PoseEstimator] = "mediapipe",
    smooth: bool = True,
    preview: Path | None = None,
    progress: Progress = SILENT,
) -> tuple[PoseSequence, list[str]]:
    """The poses in a video or a picture, and remarks on them.

    Args:
        estimator: its name, or what loads it.
        preview: a video to lay them over.

    Raises :class:`InputError` where nobody is found.
    """
    load = partial(load_estimator, estimator) if isinstance(estimator, str) else estimator
    source, times, end = Path(source), None, None
    remarks: tuple[str, ...] = ()
    if is_picture(source):
        picture = read_picture(source)
        found = load().estimate_picture(picture)
        if found is None:
            raise InputError(f"{source}: no person was found in it; give a picture in which the body shows")
        pictures = iter([picture])
    else:
        driver = open_driver(source, frames)
        if driver.ready is not None:
            raise InputError(f"{source}: holds poses already; give a video or a picture")
        if driver.is_skeleton:
            raise InputError(f"{source}: is a skeleton video; `animate` takes it as --driving as it is")
        found = load().estimate(
            driver.source_frames(), driver.size, driver.source_fps, driver.source_times, progress=progress
        )
        pictures, times, end = driver.pictures(), driver.times, driver.duration
        remarks = tuple(line for line in driver.remarks if not line.startswith("sound:"))  # poses have none
    quality = quality_report(found)
    quality.check()
    if smooth and len(found) > 1:
        found = clean(found)
    if preview is not None:
        drawn = draw_frames(found, found.size, style="scaled")
        overlaid = (overlay(picture, skeleton) for picture, skeleton in zip(pictures, drawn, strict=True))
        with VideoWriter(preview, found.size, found.fps, duration=end) as video:
            write_frames(video, progress.track(overlaid, len(found), "preview"), times)
    return found, [*remarks, *quality.lines()]
