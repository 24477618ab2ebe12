"""Animate Anyone 2 as a workflow: the person in a video becomes the character, in the video's own environment.

video ──perception──▶ poses, person, objects ──conditions──▶ skeletons, environment, mask ──sampling──▶ frames
──compositing──▶ video frames ──media──▶ file
"""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from dataclasses import replace as changed
from pathlib import Path

from animate_anyone.conditions.crop_scene import Crop
from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.errors import InputError
from animate_anyone.first_guess.frames import ScaledPictures, mending
from animate_anyone.models.folder import check_verb
from animate_anyone.perception import WITH_DEPTH
from animate_anyone.progress import SILENT, Progress, suiting
from animate_anyone.sampling.continuation import frames_before
from animate_anyone.sampling.latents import PLAIN
from animate_anyone.sampling.loading import load_pipeline, load_shapes
from animate_anyone.sampling.memory import readable
from animate_anyone.sampling.memory_environment import disk_bytes, picture_bytes, preparation_bytes
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.placement import Work
from animate_anyone.sampling.ranks import ALONE, Ranks
from animate_anyone.structures import ObjectMark, Picture, PoseSequence, Size
from animate_anyone.system.heap import give_back
from animate_anyone.workflows.compositing import Compositor, background_lines
from animate_anyone.workflows.decomposed import Decomposed
from animate_anyone.workflows.driving import Driver
from animate_anyone.workflows.result_settings import describe_result
from animate_anyone.workflows.resuming import KeptWork, describe_job
from animate_anyone.workflows.scene_conditions import KEPT, SceneConditions, keep_conditions, make_conditions
from animate_anyone.workflows.settings import (
    Report,
    check_asked,
    check_files,
    check_number,
    describe_needs,
    plan_work,
    sampling_arguments,
    write_result,
)
from animate_anyone.workflows.sizes import choose_sizes
from animate_anyone.workflows.source_video import (
    NOTHING,
    Known,
    Networks,
    SourceVideoSettings,
    check_perception,
    crop_to_character,
    decompose,
    pictures_of,
)

NO_ROOM = "make room, set TMPDIR to a folder that has some, or give fewer --frames or a smaller --size"
"""What to do where the pictures of a clip find no room on the disk."""


@dataclass(frozen=True)
class Settings(SourceVideoSettings):
    """How to replace; every field is an option of ``animate-anyone replace``.

    Attributes:
        keep_background: give the video's size and, outside the made region, its own pixels.
        crop: show the model the part of the video around the person alone; the rest is the video's own. Gives the
            video's size.
        feather: pixels of the video over which the made region fades into its own, with either of the two.
        continuation: as in a call of the pipeline; 0 is windows.
        keep: folder for what was seen in the video and what the model was given.

    The others are those of :class:`~animate_anyone.workflows.source_video.SourceVideoSettings` and
    :class:`~animate_anyone.workflows.settings.WorkflowSettings`.
    """

    model: str = "puppet-environment"
    _: KW_ONLY
    keep_background: bool = False
    crop: bool = False
    feather: int = 4
    continuation: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("feather", self.feather, 256)


def replace(
    character: str | Path,
    video: str | Path,
    output: str | Path,
    settings: Settings | None = None,
    *,
    character_pose: PoseSequence | None = None,
    progress: Progress | None = None,
    load: Callable[..., AnimateAnyonePipeline] | None = None,
    ranks: Ranks = ALONE,
) -> Report:
    """Put the character into a video, in the place of the person there. Of a long clip most lies in temporary files.

    Args:
        character: a picture.
        video: a video of somebody, or a folder of frames.
        output: ``.mp4``, ``.mov`` or ``.mkv``; appears only when whole.
        character_pose: the character's pose where it is known, in pixels of the picture.
        progress: how it is told how far it is; ``None``: bars in a notebook, else silence.
        load: gives the model, in place of :func:`load_pipeline`: one that is loaded already.
        ranks: as in ``animate``.

    Raises:
        InputError: for everything that is the user's to mend; found out before the long work as far as it can be.
    """
    settings, progress = settings or Settings(), suiting(progress)
    report = Report(made_from=describe_result("replace", character, video, settings))

    # What is cheap to find out comes first.
    output, picture, driver, marks = check_inputs(character, video, output, settings)
    report.lines += driver.remarks
    pipeline = (load or load_pipeline)(settings.model, placement=settings.placement)
    assert isinstance(pipeline, AnimateAnyone2Pipeline)
    windows = check_model(pipeline, settings, len(driver))
    choose_sizes(pipeline, settings.size, driver.size)
    check_asked(pipeline, settings)
    check_disk(pictures_on_disk(pipeline, settings, windows, driver, marks)[1])

    job = describe_job("replace", character, video, settings, character_pose, ranks.count)
    with KeptWork(output, job, len(windows) > 1 and not settings.first_guess and ranks.is_first) as kept:
        made, compositor = find_frames(
            picture, character_pose, driver, pipeline, settings, report, progress, kept, marks=marks, ranks=ranks
        )
        if not ranks.is_first:
            deque(() if settings.first_guess else made, maxlen=0)  # goes through all, and has none itself
            return report
        report.lines += [kept.remark] if kept.remark else []
        composed, last = compositor.compose(made), compositor.environment_lines
        return write_result(output, composed, compositor.size, driver, settings, report, progress, last)


def replace_frames(
    picture: Picture,
    driver: Driver,
    settings: Settings | None = None,
    *,
    known: Known = NOTHING,
    character_pose: PoseSequence | None = None,
    progress: Progress = SILENT,
    load: Callable[..., AnimateAnyonePipeline] | None = None,
) -> tuple[Iterator[Picture], Report]:
    """As :func:`replace`, from a picture and a video in memory to frames in memory; no file is written.

    Args:
        picture: the character, ``(height, width, 3)`` uint8, RGB.
        driver: the video, see :func:`~animate_anyone.workflows.driving.hold_driver`.
        known: what is known of the video, and not looked for.

    Returns:
        The frames ``(height, width, 3)`` uint8, made as they are asked for; and the report, whole after the last.

    Raises:
        InputError: as :func:`replace`.
    """
    settings = settings or Settings()
    report = Report(lines=list(driver.remarks))
    check_verb(settings.model, "replace")
    marks = check_perception(settings, driver.path, driver)
    pipeline = (load or load_pipeline)(settings.model, placement=settings.placement)
    assert isinstance(pipeline, AnimateAnyone2Pipeline)
    windows = check_model(pipeline, settings, len(driver), known)
    choose_sizes(pipeline, settings.size, driver.size)
    check_asked(pipeline, settings)
    check_disk(pictures_on_disk(pipeline, settings, windows, driver, marks)[1])
    kept = KeptWork.nothing()
    made, compositor = find_frames(
        picture, character_pose, driver, pipeline, settings, report, progress, kept, marks=marks, known=known
    )

    def composed() -> Iterator[Picture]:
        yield from progress.track(compositor.compose(made), len(driver), "frames")
        report.lines += compositor.environment_lines()

    return composed(), report


def find_frames(
    picture: Picture,
    character_pose: PoseSequence | None,
    driver: Driver,
    pipeline: AnimateAnyone2Pipeline,
    settings: Settings,
    report: Report,
    progress: Progress,
    kept: KeptWork,
    *,
    marks: list[ObjectMark] | None,
    known: Known = NOTHING,
    ranks: Ranks = ALONE,
) -> tuple[Iterator[Picture], Compositor]:
    """The frames that the model makes, as they are asked for, and what puts them into the video; the rest is done."""

    # Perception: who moves how, where are they, and what do they hold?
    def look() -> Decomposed:
        networks = Networks.load(settings, marks)
        scene, remarks = decompose(driver, networks, settings.person, progress, known)
        masker = networks.masker if pipeline.config["carried_reference"] else None
        subject, more = crop_to_character(picture, character_pose, masker, networks.estimator)
        return Decomposed.of(scene, subject, [*getattr(networks.estimator, "remarks", ()), *remarks, *more])

    with report.timed("seeing"):
        found = kept.once("found.zip", look, Decomposed.save, Decomposed.load)
        give_back()  # what the networks held of memory
    report.lines += found.lines
    scene = found.scene(pictures_of(driver))

    # Conditions: all of it at the model's size.
    wanted = settings.size or tuple(pipeline.config["size"])
    crop = Crop.around(scene.person.masks, wanted) if settings.crop else Crop.whole(driver.size)
    cropped = crop.of(scene)
    sizes = choose_sizes(pipeline, settings.size, cropped.pose.size)
    whole = Letterbox.into(cropped.pose.size, sizes.video) if settings.size else Letterbox.stretched(sizes.video)
    with report.timed("conditions"):
        conditions = make_conditions(cropped, found.subject, whole, sizes.networks, pipeline)
    report.lines += background_lines(conditions)
    if settings.keep is not None and ranks.is_first:
        keep_conditions(settings.keep, cropped, conditions, driver)

    # Sampling: frames are denoised, decoded, composed and handed out window after window.
    made = kept.through(make_frames(pipeline, conditions, sizes.networks, settings, progress, kept, ranks))
    at_video_size = settings.keep_background or settings.crop
    return made, Compositor(scene, crop, conditions, settings.feather if at_video_size else None)


def make_frames(
    pipeline: AnimateAnyone2Pipeline,
    conditions: SceneConditions,
    size: Size,
    settings: Settings,
    progress: Progress,
    kept: KeptWork | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[Picture]:
    """The frames of a clip, denoised and decoded as they are asked for; those that ``kept`` has are left out.

    Args:
        size: ``(width, height)`` at which the networks work.
    """
    guess = conditions.first_guess
    if guess is not None and settings.first_guess:
        return iter(guess)
    small = None if guess is None else ScaledPictures(guess, size)
    return pipeline.stream(
        conditions.reference,
        conditions.skeletons,
        conditions,
        carried=small,
        reference_pose=conditions.reference_pose,
        continuation=settings.continuation,
        kept=kept,
        ranks=ranks,
        finish=PLAIN.finish if guess is None or small is None else mending(guess, small),
        **sampling_arguments(settings, progress),
    )


def dry_run(
    character: str | Path, video: str | Path, output: str | Path, settings: Settings | None = None
) -> list[str]:
    """What :func:`replace` would need, in lines: nothing is loaded, computed or written.

    Raises:
        InputError: as :func:`replace` does before the long work.
    """
    settings = settings or Settings()
    _, _, driver, marks = check_inputs(character, video, output, settings)
    pipeline = load_shapes(settings.model)
    assert isinstance(pipeline, AnimateAnyone2Pipeline)
    windows = check_model(pipeline, settings, len(driver))
    choose_sizes(pipeline, settings.size, driver.size)
    check_asked(pipeline, settings)
    work, disk = pictures_on_disk(pipeline, settings, windows, driver, marks)
    what = "windows"
    if settings.continuation:
        shown = settings.continuation if frames_before(pipeline.denoising_unet) else 0
        what = f"segments, shown the last {shown} before," if shown else f"segments that share {settings.continuation}"
        work = changed(work, window_batch=1, before=shown if len(windows) > 1 else 0)
    lines = describe_needs(pipeline, settings, windows, work, what)
    size = f"{driver.size[0]}x{driver.size[1]}"
    free = shutil.disk_usage(tempfile.gettempdir()).free
    held = (
        f"pictures and masks, the video's ({size}), the result's and the networks': {readable(work.pictures)} of "
        f"memory, and {readable(work.preparation)} while they are made; {readable(disk)} of disk in "
        f"{tempfile.gettempdir()}, of which {readable(free)} are free: {'they fit' if disk <= free else NO_ROOM}"
    )
    return [*driver.remarks, *lines[:2], held, *lines[2:]]


def pictures_on_disk(
    pipeline: AnimateAnyone2Pipeline,
    settings: Settings,
    windows: list[list[int]],
    driver: Driver,
    marks: list[ObjectMark] | None,
) -> tuple[Work, int]:
    """What will be computed, with the bytes of memory that its pictures take; and those of disk."""
    sizes = choose_sizes(pipeline, settings.size, driver.size)
    work = changed(plan_work(pipeline, settings, windows, sizes.networks), objects=settings.objects is not None)
    objects = {mark.name for mark in marks or ()} or set((settings.objects or "").split(","))
    shape = (pipeline, work, driver.size, sizes.video, len(objects) if work.objects else 0)
    preparation = preparation_bytes(work, driver.size, driver.in_reach)
    return changed(work, pictures=picture_bytes(*shape), preparation=preparation), disk_bytes(*shape)


def check_disk(needed: int) -> None:
    """Raise :class:`InputError` where the disk of temporary files has not so many bytes left."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if needed > free:
        raise InputError(
            f"{tempfile.gettempdir()}: the pictures of this clip need {readable(needed)}, and {readable(free)} are "
            f"free; {NO_ROOM}"
        )


def check_inputs(
    character: str | Path, video: str | Path, output: str | Path, settings: Settings
) -> tuple[Path, Picture, Driver, list[ObjectMark] | None]:
    """The file to write, the character's picture, the video, and where objects are marked.

    Raises:
        InputError: one of them, or what finds the objects, is not as it must be.
    """
    check_verb(settings.model, "replace")
    output, picture, driver = check_files(character, video, output, settings, KEPT)
    return output, picture, driver, check_perception(settings, video, driver)


def check_model(
    pipeline: AnimateAnyone2Pipeline, settings: Settings, num_frames: int, known: Known = NOTHING
) -> list[list[int]]:
    """The windows or segments; raises :class:`InputError` where the model cannot do what is asked for."""
    if (settings.objects is not None or known.objects) and not pipeline.config["uses_objects"]:
        raise InputError(f"{settings.model}: this model was trained without objects; leave --objects out")
    without = pipeline.config["uses_depth"] and settings.depth is None
    if without and known.pose is not None and known.pose.depth is None:
        raise InputError(
            f"{settings.model}: this model wants to know how far the limbs are, and the poses given have no depth; "
            f"leave them out, and --pose-estimator {' or '.join(WITH_DEPTH)} finds some"
        )
    if without and known.pose is None and settings.pose_estimator not in WITH_DEPTH:
        raise InputError(
            f"{settings.model}: this model wants to know how far the limbs are, and poses of {settings.pose_estimator} "
            f"have no depth; give --pose-estimator {' or '.join(WITH_DEPTH)}, or --depth FOLDER"
        )
    return pipeline.plan(
        num_frames,
        settings.steps,
        settings.guidance,
        settings.window,
        settings.overlap,
        continuation=settings.continuation,
    )
