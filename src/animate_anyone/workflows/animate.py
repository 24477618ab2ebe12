"""The whole story: a picture and a driving video become an animated video.

picture + driving video --see--> poses --tell--> pose pictures --make--> frames --> file
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from animate_anyone.conditions.draw import draw_frames, draw_pose
from animate_anyone.conditions.hold import hold, mostly_outside
from animate_anyone.conditions.placing import Placing
from animate_anyone.conditions.retarget import compare_bodies, fit_into_frame, retarget
from animate_anyone.errors import InputError
from animate_anyone.first_guess.limb_warp import WarpedPictures
from animate_anyone.media import VIDEO_SUFFIXES, VideoWriter, check_folder, check_writable, read_picture, write_picture
from animate_anyone.models.folder import bytes_on_disk, check_verb
from animate_anyone.perception import ESTIMATORS, PoseEstimator, load_estimator
from animate_anyone.perception.pose.quality import ranges, runs
from animate_anyone.progress import SILENT, Progress
from animate_anyone.sampling.loading import head_sizes, load_pipeline, load_shapes
from animate_anyone.sampling.memory import describe, estimate, readable
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.placement import Placement, check_attention
from animate_anyone.sampling.work import Work
from animate_anyone.structures import PoseSequence, Subject
from animate_anyone.system.whole_files import whole_file, whole_files
from animate_anyone.workflows.driving import KINDS, DrawnPoses, Driver, SkeletonPictures, open_driver

Picture = NDArray[np.uint8]
# What ``keep`` writes.
KEPT = ("skeletons.mp4", "character_pose.npz", "character_pose.png", "poses.npz", "overlay.mp4", "report.json")
MOST_PEOPLE = 99
"""The largest number of a person that may be asked for."""


@dataclass(frozen=True)
class Settings:
    """How to animate; every field is an option of ``animate-anyone animate``.

    Attributes:
        model: a shipped model's name or a model folder.
        size: ``(width, height)`` of the video, multiples of 8; ``None`` takes the model's training size.
        steps: DDIM steps; ``None`` takes the model's default.
        guidance: weight of classifier-free guidance; ``None`` takes the model's default.
        seed: of the initial noise.
        frames: which frames of the driver; ``None`` for all.
        fps: frame rate of the result; ``None`` keeps the driver's timing.
        pose_estimator: ``mediapipe`` or ``rtmlib``.
        driving_kind: what a driving video shows, a name in ``driver.KINDS``: somebody, finished skeletons, or
            ``auto``, which looks.
        person: whose movement drives: 0 is the largest, 1 the next.
        align: rescale the driver's skeleton to the character's body.
        window, overlap: windows of temporal aggregation; ``None`` takes the model's default.
        window_batch: windows computed at once.
        device, dtype, offload, vae_tiling, attention, quantize: how the model is put onto this machine, as in
            :class:`~animate_anyone.sampling.placement.Placement`.
        keep: folder for the poses, the skeleton video and the skeletons laid over the character.
    """

    model: str = "puppet"
    size: tuple[int, int] | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    frames: slice | None = None
    fps: Fraction | None = None
    pose_estimator: str = "mediapipe"
    driving_kind: str = "auto"
    person: int = 0
    align: bool = True
    window: int | None = None
    overlap: int | None = None
    window_batch: int = 1
    device: str = "auto"
    dtype: str = "auto"
    offload: str = "none"
    vae_tiling: bool = False
    attention: str = "auto"
    quantize: str = "none"
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
        if self.pose_estimator not in ESTIMATORS:
            raise InputError(f"there is no pose estimator {self.pose_estimator!r}; there are: {', '.join(ESTIMATORS)}")
        if self.driving_kind not in KINDS:
            raise InputError(f"there is no kind of driver {self.driving_kind!r}; there are: {', '.join(KINDS)}")
        if not 0 <= self.person <= MOST_PEOPLE:
            raise InputError(f"person {self.person}: give 0 to {MOST_PEOPLE}")
        _ = self.placement  # checks its own

    @property
    def placement(self) -> Placement:
        """How the model is put onto this machine."""
        return Placement(self.device, self.dtype, self.offload, self.vae_tiling, self.attention, self.quantize)


@dataclass
class Report:
    """What was done: for the user at the end, and for ``report.json``."""

    lines: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def timed(self, what: str, since: float) -> None:
        """Note how long something took."""
        self.seconds[what] = round(time.perf_counter() - since, 2)

    def save(self, folder: Path) -> None:
        """Write ``report.json``."""
        with whole_file(folder / "report.json") as part:
            part.write_text(json.dumps({"lines": self.lines, "seconds": self.seconds}, indent=1))


def animate(
    character: str | Path,
    driving: str | Path,
    output: str | Path,
    settings: Settings | None = None,
    *,
    character_pose: PoseSequence | None = None,
    progress: Progress = SILENT,
) -> Report:
    """Make a video of the character moving as the driver moves.

    Args:
        character: a picture.
        driving: a video of somebody moving; or a finished skeleton video; or poses, a ``.npz`` made by
            ``animate-anyone pose``; or a folder of frames.
        output: ``.mp4``, ``.mov`` or ``.mkv``; appears only when whole.
        character_pose: the character's pose where it is known, in pixels of the picture.

    Raises:
        InputError: for everything that is the user's to mend; found out before the long work as far
            as it can be.
    """
    settings, report = settings or Settings(), Report()

    # What is cheap to find out comes first.
    output, picture, driver = check_inputs(character, driving, output, settings)
    check_person(driver, settings)
    report.lines += driver.remarks
    check_verb(settings.model, "animate")
    pipeline = load_pipeline(settings.model, placement=settings.placement)
    pipeline.plan(len(driver), settings.steps, settings.guidance, settings.window, settings.overlap)
    width, height = settings.size or tuple(pipeline.config["size"])

    # See: where is the character's body, how does the driver move?
    since = time.perf_counter()
    estimator = cache(partial(load_estimator, settings.pose_estimator, str(settings.placement.resolve()[0])))
    subject = see_character(picture, character_pose, settings, driver, pipeline, estimator)
    poses = None
    if driver.skeletons is not None:
        report.lines.append(f"driver: a finished skeleton video, {driver.skeletons.line()}")
    else:
        poses, remarks = driver.poses(estimator, progress, settings.person)
        report.lines += remarks
    del estimator  # what it holds of the device's memory is the model's now
    report.timed("seeing", since)

    # Tell: the driver's movement on the character's body, drawn as the model knows it.
    stretch = pipeline.config["stretch"]
    placing = Placing.into((picture.shape[1], picture.shape[0]), (width, height))
    if stretch:
        placing = Placing.stretched((width, height))
    if poses is not None:
        poses = align(poses, subject, settings, report)
        poses, held = hold(poses)
        report.lines += pose_lines(placing.move(poses), held)
    told = tell(poses, driver, placing, pipeline)
    own_pose = draw_own_pose(subject, placing, pipeline) if pipeline.config["reference_pose"] else None
    carried = carry_reference(subject, poses, placing, len(driver)) if pipeline.config["carried_reference"] else None
    if settings.keep is not None:
        keep(settings.keep, subject, poses, told, driver)

    # Make: denoise the whole clip, then decode and write frame by frame.
    since = time.perf_counter()
    latents = pipeline(
        picture if stretch else placing.apply(picture),
        told,
        reference_pose=own_pose,
        carried=carried,
        size=(width, height),
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        window=settings.window,
        overlap=settings.overlap,
        window_batch=settings.window_batch,
        generator=torch.Generator().manual_seed(settings.seed),
        output_type="latent",
        progress=progress,
    )[0]
    report.timed("denoising", since)
    since = time.perf_counter()
    with VideoWriter(
        output,
        (width, height),
        driver.fps,
        audio_from=driver.sound,
        audio_start=driver.start,
        audio_end=driver.stop,
        duration=driver.duration,
    ) as video:
        for number, frame in enumerate(progress.track(pipeline.decode(latents, carried), len(driver), "decode")):
            video.write(frame, None if driver.times is None else float(driver.times[number]))
    report.timed("decoding", since)
    report.lines += video.remarks
    report.lines.append(f"{output}: {len(driver)} frames, {width}x{height}, {float(driver.fps):g} frames per second")
    if settings.keep is not None:
        report.save(settings.keep)
    return report


def dry_run(
    character: str | Path, driving: str | Path, output: str | Path, settings: Settings | None = None
) -> list[str]:
    """What :func:`animate` would need, in lines: nothing is loaded, computed or written.

    Raises:
        InputError: as :func:`animate` does before the long work.
    """
    settings = settings or Settings()
    _, _, driver = check_inputs(character, driving, output, settings)
    check_person(driver, settings)
    check_verb(settings.model, "animate")
    pipeline = load_shapes(settings.model)
    windows = pipeline.plan(len(driver), settings.steps, settings.guidance, settings.window, settings.overlap)
    needs = describe_needs(pipeline, plan_work(pipeline, settings, windows), settings, len(windows))
    return [*driver.remarks, *needs]


def plan_work(pipeline: AnimateAnyonePipeline, settings: Settings, windows: list[list[int]]) -> Work:
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
    pipeline: AnimateAnyonePipeline, work: Work, settings: Settings, num_windows: int, windows: str = "windows"
) -> list[str]:
    """Some work and what it needs of this machine, in lines for the user; ``windows`` is what the windows are called.

    Raises:
        InputError: this machine cannot do it so.
    """
    where, kind = settings.placement.resolve(bytes_on_disk(settings.model))
    check_attention(settings.attention, head_sizes(pipeline.denoising_unet), where, kind)
    steps = settings.steps or pipeline.config["num_inference_steps"]
    return [
        f"model: {settings.model}, {readable(bytes_on_disk(settings.model))} on disk",
        f"clip: {work.frames} frames of {work.size[0]}x{work.size[1]}; {windows} of {work.window}: {num_windows}, "
        f"{work.window_batch} at once; {steps} step{'' if steps == 1 else 's'}, "
        f"{'with' if work.guided else 'without'} guidance",
        *describe(estimate(pipeline, work), work, settings.offload, where),
    ]


def check_inputs(
    character: str | Path,
    driving: str | Path,
    output: str | Path,
    settings: Settings,
    kept: Collection[str] = KEPT,
) -> tuple[Path, Picture, Driver]:
    """The file to write, the picture and the driver; what is wrong with them is said here.

    ``kept`` are names of what will be written to ``settings.keep``.
    """
    output = check_writable(output, VIDEO_SUFFIXES, inputs=(character, driving))
    picture = read_picture(character)
    driver = open_driver(driving, settings.frames, settings.fps, settings.driving_kind)
    if settings.keep is not None:
        check_folder(settings.keep, "--keep", kept, taken=(output, character, driving))
    return output, picture, driver


def check_person(driver: Driver, settings: Settings) -> None:
    """Raise :class:`InputError` where one of several people is asked for and the driver is of one alone."""
    if settings.person and (driver.ready is not None or driver.is_skeleton):
        what = "poses" if driver.ready is not None else "a finished skeleton video"
        raise InputError(f"--person {settings.person}: {driver.path} is {what}, of one person; leave --person out")


def pose_lines(poses: PoseSequence, held: tuple[tuple[int, int], ...]) -> list[str]:
    """Remarks on poses as they are drawn: which are held where nobody is seen, and which lie outside the frame."""
    lines = []
    if held:
        lines.append(
            f"nobody to be seen in frame {ranges(held)}: the pose before is held there, and goes over to the next one"
        )
    outside = mostly_outside(poses)
    if outside.any():
        lines.append(
            f"most joints lie outside the frame in frame {ranges(runs(outside))}: give a picture that shows the whole "
            "character with room around it, or type --no-align"
        )
    return lines


def see_character(
    picture: Picture,
    known: PoseSequence | None,
    settings: Settings,
    driver: Driver,
    pipeline: AnimateAnyonePipeline,
    estimator: Callable[[], PoseEstimator],
) -> Subject:
    """Find the character's body where somebody will ask for it; ``estimator`` loads who looks for it."""
    aligned = settings.align and not driver.is_skeleton
    if known is not None:
        return Subject(picture, known.scaled_to((picture.shape[1], picture.shape[0])))
    if not aligned and not pipeline.config["reference_pose"]:
        return Subject(picture, None)
    pose = estimator().estimate_picture(picture)
    if pose is None and aligned:
        raise InputError(
            "no person was found in the character picture; give one in which the whole body shows, or type "
            "--no-align to use the driver's skeleton as it is"
        )
    return Subject(picture, pose)


def align(poses: PoseSequence, subject: Subject, settings: Settings, report: Report) -> PoseSequence:
    """The driver's poses in pixels of the character's picture, on the character's body unless told not to."""
    size = (subject.picture.shape[1], subject.picture.shape[0])
    if not settings.align or subject.pose is None:
        return fit_into_frame(poses, size)
    comparison = compare_bodies(poses, subject.pose)
    report.lines += comparison.lines()
    return retarget(poses, subject.pose, size, comparison=comparison)


def tell(
    poses: PoseSequence | None, driver: Driver, placing: Placing, pipeline: AnimateAnyonePipeline
) -> Sequence[Picture]:
    """The pose pictures that the model is told, one per frame, drawn as they are asked for."""
    size = pipeline.pose_picture_size(placing.size)
    if poses is not None:
        return DrawnPoses(placing.move(poses), size, pipeline.config["skeleton_style"])
    return SkeletonPictures(driver, placing.size, size[0] / placing.size[0])


def draw_own_pose(subject: Subject, placing: Placing, pipeline: AnimateAnyonePipeline) -> Picture:
    """The pose picture of the reference; black where its pose is not known."""
    size = pipeline.pose_picture_size(placing.size)
    if subject.pose is None:
        return np.zeros((size[1], size[0], 3), np.uint8)
    return draw_pose(placing.move(subject.pose), size, style=pipeline.config["skeleton_style"])[0]


def carry_reference(subject: Subject, poses: PoseSequence | None, placing: Placing, num_frames: int) -> WarpedPictures:
    """The reference carried into every pose; as it is, where its pose or the driver's is not known."""
    picture = placing.apply(subject.picture)
    if subject.pose is None or poses is None:
        return WarpedPictures(picture, None, None, num_frames)
    # Depth orders limbs here, against constants that are taken as heights of the picture, margins or not.
    moved = replace(placing.move(poses), depth=poses.depth)
    return WarpedPictures(picture, placing.move(subject.pose), moved, num_frames)


def keep(folder: Path, subject: Subject, poses: PoseSequence | None, told: Sequence[Picture], driver: Driver) -> None:
    """Write what was seen and told: poses, the skeletons as the model gets them, and laid over the character.

    All of it or nothing. Raises :class:`InputError` where it cannot be written.
    """
    with whole_files(folder) as hidden:
        _write_kept(hidden, subject, poses, told, driver)


def _write_kept(
    folder: Path, subject: Subject, poses: PoseSequence | None, told: Sequence[Picture], driver: Driver
) -> None:
    times = None if driver.times is None else driver.times.tolist()
    height, width = told[0].shape[:2]
    with VideoWriter(folder / "skeletons.mp4", (width, height), driver.fps, duration=driver.duration) as video:
        for number, picture in enumerate(told):
            video.write(picture, None if times is None else times[number])
    if subject.pose is not None:
        subject.pose.save(folder / "character_pose.npz")
        write_picture(folder / "character_pose.png", _over(subject.picture, subject.pose))
    if poses is None:
        return
    poses.save(folder / "poses.npz")
    with VideoWriter(folder / "overlay.mp4", poses.size, driver.fps, duration=driver.duration) as video:
        for number, drawn in enumerate(draw_frames(poses, poses.size, style="scaled")):
            video.write(_blend(subject.picture, drawn), None if times is None else times[number])


def _over(picture: Picture, pose: PoseSequence) -> Picture:
    return _blend(picture, draw_pose(pose, pose.size, style="scaled")[0])


def _blend(picture: Picture, drawn: Picture) -> Picture:
    return np.where(drawn.any(-1, keepdims=True), drawn, picture // 2)
