"""What every workflow does: check its files, plan its work, write its video, report."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from animate_anyone.media import VIDEO_SUFFIXES, VideoWriter, check_folder, check_writable, read_picture
from animate_anyone.models.folder import bytes_on_disk
from animate_anyone.progress import Progress
from animate_anyone.sampling.loading import head_sizes
from animate_anyone.sampling.memory import describe, estimate, readable
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.placement import check_attention
from animate_anyone.sampling.work import Work
from animate_anyone.system.whole_files import whole_file
from animate_anyone.workflows.driving import Driver, open_driver
from animate_anyone.workflows.settings import WorkflowSettings

Picture = NDArray[np.uint8]


@dataclass
class Report:
    """What was done: for the user at the end, and for ``report.json``."""

    lines: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Note how long the block takes."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 2)

    def save(self, folder: Path) -> None:
        """Write ``report.json``."""
        with whole_file(folder / "report.json") as part:
            part.write_text(json.dumps({"lines": self.lines, "seconds": self.seconds}, indent=1))


def check_files(
    character: str | Path, video: str | Path, output: str | Path, settings: WorkflowSettings, kept: Collection[str]
) -> tuple[Path, Picture, Driver]:
    """The file to write, the character's picture and the driving or source video.

    Args:
        kept: names of the files that will be written to ``settings.keep``.

    Raises:
        InputError: one of them cannot be read or written.
    """
    output = check_writable(output, VIDEO_SUFFIXES, inputs=(character, video))
    picture = read_picture(character)
    driver = open_driver(video, settings.frames, settings.fps, settings.driving_kind)
    if settings.keep is not None:
        check_folder(settings.keep, "--keep", kept, taken=(output, character, video))
    return output, picture, driver


def plan_work(pipeline: AnimateAnyonePipeline, settings: WorkflowSettings, windows: list[list[int]]) -> Work:
    """What the networks will compute, for the windows of a whole clip."""
    guidance = pipeline.config["guidance_scale"] if settings.guidance is None else settings.guidance
    return Work(
        size=settings.size or tuple(pipeline.config["size"]),
        frames=1 + max(frame for window in windows for frame in window),
        window=len(windows[0]),
        window_batch=min(settings.window_batch, len(windows)),
        guided=guidance != 1,
        dtype=settings.placement.resolve(bytes_on_disk(settings.model))[1],
        vae_tiling=settings.vae_tiling,
        quantize=settings.quantize,
    )


def describe_needs(
    pipeline: AnimateAnyonePipeline,
    work: Work,
    settings: WorkflowSettings,
    num_windows: int,
    windows: str = "windows",
) -> list[str]:
    """Some work and what it needs of this machine, in lines for the user; ``windows`` is what the windows are called.

    Raises:
        InputError: this machine cannot do it so.
    """
    device, dtype = settings.placement.resolve(bytes_on_disk(settings.model))
    check_attention(settings.attention, head_sizes(pipeline.denoising_unet), device, dtype)
    steps = settings.steps or pipeline.config["num_inference_steps"]
    return [
        f"model: {settings.model}, {readable(bytes_on_disk(settings.model))} on disk",
        f"clip: {work.frames} frames of {work.size[0]}x{work.size[1]}; {windows} of {work.window}: {num_windows}, "
        f"{work.window_batch} at once; {steps} step{'' if steps == 1 else 's'}, "
        f"{'with' if work.guided else 'without'} guidance",
        *describe(estimate(pipeline, work), work, settings.offload, device),
    ]


def write_result(
    output: Path, frames: Iterable[Picture], size: tuple[int, int], driver: Driver, report: Report, progress: Progress
) -> None:
    """Decode and write the video frame by frame, with the driver's sound, and report how it went.

    Args:
        frames: computed as they are asked for, ``(height, width, 3)`` of ``size`` ``(width, height)``.
        driver: whose times and sound the result has.
    """
    with report.timed("decoding"):
        report.lines += write_video(output, progress.track(frames, len(driver), "decode"), size, driver, sound=True)


def finish(output: Path, size: tuple[int, int], driver: Driver, settings: WorkflowSettings, report: Report) -> Report:
    """The report with its last line; saved where intermediate results are kept."""
    report.lines.append(f"{output}: {len(driver)} frames, {size[0]}x{size[1]}, {float(driver.fps):g} frames per second")
    if settings.keep is not None:
        report.save(settings.keep)
    return report


def write_video(
    path: Path, pictures: Iterable[Picture], size: tuple[int, int], driver: Driver, sound: bool = False
) -> list[str]:
    """Write pictures of ``size`` ``(width, height)``, one a frame of the driver, at its times; remarks for the user."""
    with VideoWriter(
        path,
        size,
        driver.fps,
        audio_from=driver.sound if sound else None,
        audio_start=driver.start,
        audio_end=driver.stop,
        duration=driver.duration,
    ) as video:
        write_frames(video, pictures, driver.times)
    return video.remarks


def write_frames(
    video: VideoWriter, pictures: Iterable[Picture], times: Sequence[float] | NDArray[np.float64] | None
) -> None:
    """Write pictures, each at its time in seconds; ``None``: evenly spaced."""
    for number, picture in enumerate(pictures):
        video.write(picture, None if times is None else float(times[number]))
