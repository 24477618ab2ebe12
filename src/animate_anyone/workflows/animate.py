"""Animate Anyone as a workflow: a character's picture and a driving video become an animated video.

picture + driving video ──perception──▶ poses ──conditions──▶ skeleton pictures ──sampling──▶ frames ──media──▶ file
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

from animate_anyone.conditions.frame_ranges import ranges, runs
from animate_anyone.conditions.hold import hold, mostly_outside
from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.conditions.retarget import compare_bodies, fit_into_frame, retarget
from animate_anyone.errors import InputError
from animate_anyone.first_guess.character import CharacterFrames
from animate_anyone.first_guess.frames import KEPT_BYTES, ScaledPictures, mending
from animate_anyone.models.folder import check_verb
from animate_anyone.perception import load_estimator
from animate_anyone.progress import SILENT, Progress, suiting
from animate_anyone.sampling.latents import PLAIN
from animate_anyone.sampling.loading import load_pipeline, load_shapes
from animate_anyone.sampling.memory import readable
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.ranks import ALONE, Ranks
from animate_anyone.structures import Picture, PoseSequence, Subject
from animate_anyone.workflows.character import find_character, make_first_guess
from animate_anyone.workflows.driving import Driver
from animate_anyone.workflows.result_settings import describe_result
from animate_anyone.workflows.resuming import KeptWork, describe_job
from animate_anyone.workflows.settings import (
    Report,
    WorkflowSettings,
    check_asked,
    check_files,
    describe_needs,
    plan_work,
    sampling_arguments,
    write_result,
)
from animate_anyone.workflows.sizes import Sizes, choose_sizes
from animate_anyone.workflows.skeletons import KEPT, keep_skeletons, reference_skeleton, skeleton_pictures


@dataclass(frozen=True)
class Settings(WorkflowSettings):
    """How to animate; every field is an option of ``animate-anyone animate``.

    Attributes:
        fps: frame rate of the result; ``None`` keeps the driver's timing.
        driving_kind: what a driving video shows, a name in ``driving.KINDS``: somebody, finished skeletons, or
            ``auto``, which looks.
        align: rescale the driver's skeleton to the character's body.
        keep: folder for the poses, the skeleton video and the skeletons laid over the character.

    The others are those of :class:`~animate_anyone.workflows.settings.WorkflowSettings`.
    """

    model: str = "puppet"
    _: KW_ONLY
    fps: Fraction | None = None
    driving_kind: str = "auto"
    align: bool = True


def animate(
    character: str | Path,
    driving: str | Path,
    output: str | Path,
    settings: Settings | None = None,
    *,
    character_pose: PoseSequence | None = None,
    progress: Progress | None = None,
    load: Callable[..., AnimateAnyonePipeline] | None = None,
    ranks: Ranks = ALONE,
) -> Report:
    """Make a video of the character moving as the driver moves.

    Args:
        character: a picture.
        driving: a video of somebody moving; or a finished skeleton video; or poses, a ``.npz`` made by
            ``animate-anyone pose``; or a folder of frames.
        output: ``.mp4``, ``.mov`` or ``.mkv``; appears only when whole. What is finished of a video of several
            windows is kept beside it until then, and the same call goes on with it.
        character_pose: the character's pose where it is known, in pixels of the picture.
        progress: how it is told how far it is; ``None``: bars in a notebook, else silence.
        load: gives the model, in place of :func:`load_pipeline`: one that is loaded already.
        ranks: the processes that make the video together, each of which makes the same call; the first writes it.

    Raises:
        InputError: for everything that is the user's to mend; found out before the long work as far
            as it can be.
    """
    settings, progress = settings or Settings(), suiting(progress)
    report = Report(made_from=describe_result("animate", character, driving, settings))

    # What is cheap to find out comes first.
    output, picture, driver = check_inputs(character, driving, output, settings)
    report.lines += driver.remarks
    pipeline = (load or load_pipeline)(settings.model, placement=settings.placement)
    windows = pipeline.plan(len(driver), settings.steps, settings.guidance, settings.window, settings.overlap)
    sizes = choose_sizes(pipeline, settings.size, (picture.shape[1], picture.shape[0]))
    check_asked(pipeline, settings)

    job = describe_job("animate", character, driving, settings, character_pose, ranks.count)
    with KeptWork(output, job, worth_it=len(windows) > 1 and not settings.first_guess and ranks.is_first) as kept:
        frames = find_frames(picture, character_pose, driver, pipeline, sizes, settings, report, progress, kept, ranks)
        if not ranks.is_first:
            deque(() if settings.first_guess else frames, maxlen=0)  # goes through all, and has none itself
            return report
        report.lines += [kept.remark] if kept.remark else []
        return write_result(output, frames, sizes.video, driver, settings, report, progress)


def animate_frames(
    picture: Picture,
    driver: Driver,
    settings: Settings | None = None,
    *,
    character_pose: PoseSequence | None = None,
    progress: Progress = SILENT,
    load: Callable[..., AnimateAnyonePipeline] | None = None,
) -> tuple[Iterable[Picture], Sizes, Report]:
    """As :func:`animate`, from a picture and a driver in memory to frames in memory; no file is written.

    Args:
        picture: the character, ``(height, width, 3)`` uint8, RGB.
        driver: see :func:`~animate_anyone.workflows.driving.hold_driver`.

    Returns:
        The frames ``(height, width, 3)`` uint8, made as they are asked for; the sizes; and the report so far.

    Raises:
        InputError: as :func:`animate`.
    """
    settings = settings or Settings()
    report = Report(lines=list(driver.remarks))
    check_person(driver, settings)
    check_verb(settings.model, "animate")
    pipeline = (load or load_pipeline)(settings.model, placement=settings.placement)
    pipeline.plan(len(driver), settings.steps, settings.guidance, settings.window, settings.overlap)
    sizes = choose_sizes(pipeline, settings.size, (picture.shape[1], picture.shape[0]))
    check_asked(pipeline, settings)
    kept = KeptWork.nothing()
    made = find_frames(picture, character_pose, driver, pipeline, sizes, settings, report, progress, kept)
    return progress.track(made, len(driver), "frames"), sizes, report


def find_frames(
    picture: Picture,
    character_pose: PoseSequence | None,
    driver: Driver,
    pipeline: AnimateAnyonePipeline,
    sizes: Sizes,
    settings: Settings,
    report: Report,
    progress: Progress,
    kept: KeptWork,
    ranks: Ranks = ALONE,
) -> Iterable[Picture]:
    """The frames of the result; perception and conditions are done at once, the frames as they are asked for."""
    # Perception: the character's pose and the driver's.
    with report.timed("seeing"):
        subject, poses = look(picture, character_pose, driver, pipeline, settings, kept, ranks, report, progress)

    # Conditions: the driver's movement on the character's body, drawn as the model knows it.
    whole = Letterbox.into((picture.shape[1], picture.shape[0]), sizes.video)
    if pipeline.config["stretch"] or settings.size is None:
        whole = Letterbox.stretched(sizes.video)
    letterbox = whole.scaled_to(sizes.networks)
    if poses is not None:
        poses = align(poses, subject, settings, report)
        poses, held = hold(poses)
        report.lines += pose_lines(letterbox.move(poses), held)
    skeletons = skeleton_pictures(poses, driver, letterbox, pipeline)
    guess = None
    if pipeline.config["carried_reference"]:
        with report.timed("first guess"):
            guess = make_first_guess(subject, poses, whole, len(driver), report)
    if settings.keep is not None and ranks.is_first:
        keep_skeletons(settings.keep, subject, poses, skeletons, driver)

    # Sampling: frames are denoised, decoded and handed out window after window.
    if guess is not None and settings.first_guess:
        return guess
    made = make_frames(pipeline, subject, skeletons, letterbox, guess, settings, progress, kept, ranks)
    return kept.through(made)


def look(
    picture: Picture,
    character_pose: PoseSequence | None,
    driver: Driver,
    pipeline: AnimateAnyonePipeline,
    settings: Settings,
    kept: KeptWork,
    ranks: Ranks,
    report: Report,
    progress: Progress,
) -> tuple[Subject, PoseSequence | None]:
    """The character with its pose, and the driver's poses; ``None`` of a finished skeleton video."""
    device = str(settings.placement.resolve()[0])
    estimator = cache(partial(load_estimator, settings.pose_estimator, device, **settings.estimator_options))
    aligned = settings.align and not driver.is_skeleton
    subject = find_character(picture, character_pose, aligned, pipeline, estimator)
    if driver.skeletons is not None:
        report.lines.append(f"driver: a finished skeleton video, {driver.skeletons.line()}")
        return subject, None
    poses, remarks = ranks.of_first(lambda: kept.poses(lambda: driver.poses(estimator, progress, settings.person)))
    report.lines += remarks
    return subject, poses


def make_frames(
    pipeline: AnimateAnyonePipeline,
    subject: Subject,
    skeletons: Sequence[Picture],
    letterbox: Letterbox,
    guess: CharacterFrames | None,
    settings: Settings,
    progress: Progress,
    kept: KeptWork | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[Picture]:
    """The frames of a clip, denoised and decoded as they are asked for; those that ``kept`` has are left out.

    Args:
        letterbox: puts the character's picture into the networks' frame.
        guess: the first guess at the frames, at the size that they shall have; ``None`` where the model needs none.
    """
    stretch = pipeline.config["stretch"]
    small = None if guess is None else ScaledPictures(guess, letterbox.size)
    return pipeline.stream(
        subject.picture if stretch else letterbox.apply(subject.picture),
        skeletons,
        reference_pose=reference_skeleton(subject, letterbox, pipeline) if pipeline.config["reference_pose"] else None,
        carried=small,
        size=letterbox.size,
        kept=kept,
        ranks=ranks,
        finish=PLAIN.finish if guess is None or small is None else mending(guess, small),
        **sampling_arguments(settings, progress),
    )


def dry_run(
    character: str | Path, driving: str | Path, output: str | Path, settings: Settings | None = None
) -> list[str]:
    """What :func:`animate` would need, in lines: nothing is loaded, computed or written.

    Raises:
        InputError: as :func:`animate` does before the long work.
    """
    settings = settings or Settings()
    _, picture, driver = check_inputs(character, driving, output, settings)
    pipeline = load_shapes(settings.model)
    windows = pipeline.plan(len(driver), settings.steps, settings.guidance, settings.window, settings.overlap)
    sizes = choose_sizes(pipeline, settings.size, (picture.shape[1], picture.shape[0]))
    check_asked(pipeline, settings)
    lines = describe_needs(pipeline, settings, windows, plan_work(pipeline, settings, windows, sizes.networks))
    if pipeline.config["carried_reference"]:
        lines.append(f"result: {sizes.video[0]}x{sizes.video[1]}, {readable(KEPT_BYTES)} at most for its first guess")
    return [*driver.remarks, *lines]


def check_inputs(
    character: str | Path, driving: str | Path, output: str | Path, settings: Settings
) -> tuple[Path, Picture, Driver]:
    """The file to write, the character's picture and the driver; raises :class:`InputError` for what is wrong."""
    output, picture, driver = check_files(character, driving, output, settings, KEPT)
    check_person(driver, settings)
    check_verb(settings.model, "animate")
    return output, picture, driver


def check_person(driver: Driver, settings: Settings) -> None:
    """Raise :class:`InputError` where one of several people is asked for and the driver is of one alone."""
    if settings.person and (driver.ready is not None or driver.is_skeleton):
        what = "poses" if driver.ready is not None else "a finished skeleton video"
        raise InputError(f"--person {settings.person}: {driver.path} is {what}, of one person; leave --person out")


def align(poses: PoseSequence, subject: Subject, settings: Settings, report: Report) -> PoseSequence:
    """The driver's poses in pixels of the character's picture, on the character's body unless ``align`` is off."""
    size = (subject.picture.shape[1], subject.picture.shape[0])
    if not settings.align or subject.pose is None:
        return fit_into_frame(poses, size)
    comparison = compare_bodies(poses, subject.pose)
    report.lines += comparison.lines()
    return retarget(poses, subject.pose, size, comparison=comparison)


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
