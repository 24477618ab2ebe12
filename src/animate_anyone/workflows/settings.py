"""What workflows share: their settings and the checks of them, the report, what a job needs, writing the video."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.media import VIDEO_SUFFIXES, VideoWriter, check_folder, check_writable, read_picture
from animate_anyone.models.folder import bytes_on_disk
from animate_anyone.perception import check_estimator, estimator_options
from animate_anyone.progress import Progress
from animate_anyone.sampling.loading import head_sizes
from animate_anyone.sampling.memory import describe, estimate, readable
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.placement import Placement, Work, check_attention
from animate_anyone.sampling.speed import Speed
from animate_anyone.structures import Picture, Size
from animate_anyone.system.whole_files import whole_file
from animate_anyone.workflows.driving import KINDS, Driver, open_driver
from animate_anyone.workflows.result_page import result_page
from animate_anyone.workflows.result_settings import check_beside, write_beside

MAX_PERSON = 99
"""The largest number of a person that may be asked for."""


@dataclass(frozen=True)
class WorkflowSettings:
    """The settings of ``animate`` and ``replace`` alike; every field is an option of both commands.

    Attributes:
        model: a shipped model's name or a model folder.
        size: ``(width, height)`` of the result, multiples of 8; ``None``: the shape of the picture (``animate``) or of
            the video (``replace``), see ``workflows.sizes``.
        steps: DDIM steps; ``None`` takes the model's default.
        guidance: weight of classifier-free guidance; ``None`` takes the model's default.
        seed: of the initial noise.
        frames: which frames of the video; ``None`` for all.
        pose_estimator: ``mediapipe`` or ``rtmlib``.
        rtmlib_mode: ``lightweight``, ``balanced`` or ``performance``: which of its own networks ``rtmlib`` takes.
        rtmlib_detector, rtmlib_pose: ``.onnx`` files in the place of these.
        person: which person of the video: 0 is the largest, 1 the next.
        window, overlap: windows of temporal aggregation, frames; ``None`` takes the model's default.
        window_batch: windows computed at once.
        device, dtype, offload, vae_tiling, attention, quantize, compile: how the model is put onto this machine, as
            in :class:`~animate_anyone.sampling.placement.Placement`.
        speed: trade-offs, see :meth:`~animate_anyone.sampling.speed.Speed.of`.
        first_guess: write the first guess as it is, without what the networks make of it.
        keep: folder for intermediate results and the report.
    """

    model: str
    size: tuple[int, int] | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    frames: slice | None = None
    _: KW_ONLY
    pose_estimator: str = "mediapipe"
    rtmlib_mode: str = "balanced"
    rtmlib_detector: Path | None = None
    rtmlib_pose: Path | None = None
    person: int = 0
    window: int | None = None
    overlap: int | None = None
    window_batch: int = 1
    device: str = "auto"
    dtype: str = "auto"
    offload: str = "none"
    vae_tiling: bool = False
    attention: str = "auto"
    quantize: str = "none"
    compile: bool = False
    speed: str = "exact"
    first_guess: bool = False
    keep: Path | None = None

    def __post_init__(self) -> None:
        if self.size is not None and any(side % 8 or not 64 <= side <= 4096 for side in self.size):
            raise InputError(f"size {self.size[0]}x{self.size[1]}: both must be multiples of 8, from 64 to 4096")
        if (self.steps is not None and self.steps < 1) or self.window_batch < 1:
            raise InputError("steps and window batch must be at least 1")
        if self.fps is not None and not 0 < self.fps <= 240:
            raise InputError(f"fps {self.fps}: give a number above 0, at most 240")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed {self.seed}: give a number from 0 to 2^63 - 1")
        check_estimator(self.pose_estimator, self.rtmlib_mode, self.rtmlib_detector, self.rtmlib_pose)
        check_name("kind of driver", self.driving_kind, KINDS)
        check_number("person", self.person, MAX_PERSON)
        _ = self.placement, Speed.of(self.speed)  # check their own

    @property
    def fps(self) -> Fraction | None:
        """Frame rate of the result; ``None`` keeps the video's timing."""
        return None

    @property
    def estimator_options(self) -> dict[str, Any]:
        """Options of :func:`~animate_anyone.perception.load_estimator` beside the name and the device."""
        return estimator_options(self.pose_estimator, self.rtmlib_mode, self.rtmlib_detector, self.rtmlib_pose)

    @property
    def driving_kind(self) -> str:
        """What the video shows, a name in ``driving.KINDS``."""
        return "auto"

    @property
    def placement(self) -> Placement:
        """How the model is put onto this machine."""
        given = self.device, self.dtype, self.offload, self.vae_tiling, self.attention, self.quantize, self.compile
        return Placement(*given)


def check_asked(pipeline: AnimateAnyonePipeline, settings: WorkflowSettings) -> None:
    """Raise :class:`InputError` where a model has no first guess to show, or cannot leave out what is asked for."""
    pipeline.check_speed(Speed.of(settings.speed))
    if settings.first_guess and not pipeline.config["carried_reference"]:
        raise InputError(f"--first-guess: {settings.model} begins with noise alone; leave --first-guess out")


def check_name(what: str, name: str, names: tuple[str, ...]) -> None:
    """Raise :class:`InputError` for a name that is not one of ``names``; ``what`` is named."""
    if name not in names:
        raise InputError(f"there is no {what} {name!r}; there are: {', '.join(names)}")


def check_number(what: str, number: int, most: int) -> None:
    """Raise :class:`InputError` for a number that is not from 0 to ``most``; ``what`` is counted."""
    if not 0 <= number <= most:
        raise InputError(f"{what} {number}: give 0 to {most}")


@dataclass
class Report:
    """What was done: for the user at the end, and for ``report.json``. In a notebook it shows the video and its lines.

    Attributes:
        lines: for the user.
        seconds: that each stage took.
        made_from: what the result says of how it was made (``result_settings.describe_result``); ``None``: nothing.
        output: the video that was written; ``None`` before.
    """

    lines: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    made_from: dict[str, Any] | None = None
    output: Path | None = None

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def _repr_html_(self) -> str:
        return result_page(self.output, self.lines)

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
    objects = getattr(settings, "objects", None)
    check_beside(output, (character, video, *([objects] if objects else [])))
    picture = read_picture(character)
    driver = open_driver(video, settings.frames, settings.fps, settings.driving_kind)
    if settings.keep is not None:
        check_folder(settings.keep, "--keep", kept, taken=(output, character, video))
    return output, picture, driver


def plan_work(
    pipeline: AnimateAnyonePipeline, settings: WorkflowSettings, windows: list[list[int]], size: Size | None = None
) -> Work:
    """What the networks will compute, for the windows of a whole clip."""
    guidance = pipeline.config["guidance_scale"] if settings.guidance is None else settings.guidance
    return Work(
        size=size or settings.size or tuple(pipeline.config["size"]),
        frames=1 + max(frame for window in windows for frame in window),
        window=len(windows[0]),
        window_batch=min(settings.window_batch, len(windows)),
        steps=Speed.of(settings.speed).steps(settings.steps or pipeline.config["num_inference_steps"]),
        guided=guidance != 1,
        dtype=settings.placement.resolve(bytes_on_disk(settings.model))[1],
        vae_tiling=settings.vae_tiling,
        quantize=settings.quantize,
        deep_every=Speed.of(settings.speed).deep_every,
    )


def sampling_arguments(settings: WorkflowSettings, progress: Progress) -> dict[str, Any]:
    """What a pipeline's ``stream`` takes of the settings."""
    return {
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance,
        "window": settings.window,
        "overlap": settings.overlap,
        "window_batch": settings.window_batch,
        "speed": Speed.of(settings.speed),
        "generator": torch.Generator().manual_seed(settings.seed),
        "progress": progress,
    }


def describe_needs(
    pipeline: AnimateAnyonePipeline,
    settings: WorkflowSettings,
    windows: list[list[int]],
    work: Work | None = None,
    called: str = "windows",
) -> list[str]:
    """What a whole clip needs of this machine, in lines for the user.

    Args:
        windows: of the clip.
        work: what is computed; ``None``: that of :func:`plan_work`.
        called: the name of the windows.

    Raises:
        InputError: this machine cannot do it so.
    """
    work = work or plan_work(pipeline, settings, windows)
    device, dtype = settings.placement.resolve(bytes_on_disk(settings.model))
    check_attention(settings.attention, head_sizes(pipeline.denoising_unet), device, dtype)
    steps = work.steps
    return [
        f"model: {settings.model}, {readable(bytes_on_disk(settings.model))} on disk",
        f"clip: {work.frames} frames of {work.size[0]}x{work.size[1]}; {called} of {work.window}: {len(windows)}, "
        f"{work.window_batch} at once; {steps} step{'' if steps == 1 else 's'}, "
        f"{'with' if work.guided else 'without'} guidance",
        *describe(estimate(pipeline, work), work, settings.offload, device),
    ]


def write_result(
    output: Path,
    frames: Iterable[Picture],
    size: tuple[int, int],
    driver: Driver,
    settings: WorkflowSettings,
    report: Report,
    progress: Progress,
    last: Callable[[], list[str]] = list,
) -> Report:
    """Make and write the video frame by frame, with the driver's sound; returns the report, which is then whole.

    It is saved where intermediate results are kept.

    Args:
        frames: computed as they are asked for, ``(height, width, 3)`` of ``size`` ``(width, height)``.
        driver: whose times and sound the result has.
        last: lines for the user that are known when all frames are written.
    """
    comment = None if report.made_from is None else json.dumps(report.made_from)
    with report.timed("making frames"):
        shown = progress.track(frames, len(driver), "frames")
        report.lines += write_video(output, shown, size, driver, sound=True, comment=comment)
    made = f"{len(driver)} frames, {size[0]}x{size[1]}, {float(driver.fps):g} frames per second"
    report.lines += [*last(), f"{output}: {made}"]
    report.output = output
    if report.made_from is not None:
        write_beside(output, {**report.made_from, "lines": report.lines, "seconds": report.seconds})
    if settings.keep is not None:
        report.save(settings.keep)
    return report


def write_video(
    path: Path,
    pictures: Iterable[Picture],
    size: tuple[int, int],
    driver: Driver,
    sound: bool = False,
    comment: str | None = None,
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
        comment=comment,
    ) as video:
        write_frames(video, pictures, driver.times)
    return video.remarks


def write_frames(
    video: VideoWriter, pictures: Iterable[Picture], times: Sequence[float] | NDArray[np.float64] | None
) -> None:
    """Write pictures, each at its time in seconds; ``None``: evenly spaced."""
    for number, picture in enumerate(pictures):
        video.write(picture, None if times is None else float(times[number]))
