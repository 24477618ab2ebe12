"""The story of Animate Anyone 2: the person in a video becomes the character, in the video's own environment.

video --see--> poses, person, objects --tell--> skeletons, environment, mask --make--> frames --> file
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from dataclasses import replace as changed
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.conditions.crop_scene import Crop
from animate_anyone.conditions.environment import keep_background
from animate_anyone.errors import InputError
from animate_anyone.evaluation.image_metrics import psnr_masked
from animate_anyone.media import VideoWriter, write_picture
from animate_anyone.models.folder import check_verb
from animate_anyone.perception import WITH_DEPTH, PoseEstimator, load_estimator
from animate_anyone.perception.objects.locators import TextLocator
from animate_anyone.perception.objects.marks_file import read_object_file
from animate_anyone.perception.objects.tracking import TRACKERS, GivenMarks, ObjectLocator, ObjectTracker, load_tracker
from animate_anyone.perception.person.masks import MASKERS, PersonMasker, load_masker
from animate_anyone.perception.weights import check_folder
from animate_anyone.progress import SILENT, Progress
from animate_anyone.sampling.loading import load_pipeline, load_shapes
from animate_anyone.sampling.memory import readable
from animate_anyone.sampling.memory_environment import picture_bytes, telling_bytes
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.scene import SceneConditions
from animate_anyone.structures import ObjectMark, PoseSequence, Scene, Subject
from animate_anyone.system.whole_files import whole_files
from animate_anyone.workflows.animate import MOST_PEOPLE, Report, describe_needs, plan_work
from animate_anyone.workflows.animate import Settings as AnimateSettings
from animate_anyone.workflows.animate import check_inputs as check_files
from animate_anyone.workflows.driving import Driver
from animate_anyone.workflows.scene_conditions import Told, inner_part, place_masks, tell
from animate_anyone.workflows.source_video import see, see_character

Picture = NDArray[np.uint8]
# What ``keep`` writes.
KEPT_VIDEOS = ("source", "masks", "environment", "objects", "skeletons", "depth")
KEPT = ("poses.npz", "character.png", "report.json", *(f"{name}.mp4" for name in KEPT_VIDEOS))


@dataclass(frozen=True)
class Settings:
    """How to replace; every field is an option of ``animate-anyone replace``.

    Attributes:
        model: a shipped model's name or a model folder.
        size: ``(width, height)`` that the model works at, multiples of 8; ``None`` takes its training size.
        steps, guidance, seed, window, overlap, window_batch, device, dtype, offload, vae_tiling, attention, quantize:
            as in :class:`animate_anyone.workflows.animate.Settings`.
        frames: which frames of the video; ``None`` for all.
        pose_estimator: ``mediapipe`` or ``rtmlib``.
        person: who is replaced: 0 is the largest, 1 the next.
        masker: ``mediapipe``, ``grabcut`` or ``sam2``.
        objects: a JSON file of marks, or names with commas between; ``None`` for no objects.
        tracker: of objects, ``classical`` or ``sam2``.
        sam2_weights: a folder, for ``masker`` and ``tracker``.
        object_weights: a folder with Grounding DINO, for names.
        keep_background: give the video's size and, outside the made region, its own pixels.
        crop: show the model the part of the video around the person alone; the rest is the video's own. Gives the
            video's size.
        feather: pixels of the video over which the made region fades into its own, with either of the two.
        continuation: as in a call of the pipeline; 0 is windows.
        keep: folder for what was seen and told.
    """

    model: str = "puppet-environment"
    size: tuple[int, int] | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    frames: slice | None = None
    pose_estimator: str = "mediapipe"
    person: int = 0
    masker: str = "mediapipe"
    objects: str | None = None
    tracker: str = "classical"
    sam2_weights: Path | None = None
    object_weights: Path | None = None
    keep_background: bool = False
    crop: bool = False
    feather: int = 4
    window: int | None = None
    overlap: int | None = None
    window_batch: int = 1
    continuation: int = 0
    device: str = "auto"
    dtype: str = "auto"
    offload: str = "none"
    vae_tiling: bool = False
    attention: str = "auto"
    quantize: str = "none"
    keep: Path | None = None

    def __post_init__(self) -> None:
        _ = self.shared  # checks its own
        for what, name, names in (("masker", self.masker, MASKERS), ("tracker", self.tracker, TRACKERS)):
            if name not in names:
                raise InputError(f"there is no {what} {name!r}; there are: {', '.join(names)}")
        for what, number, most in (("person", self.person, MOST_PEOPLE), ("feather", self.feather, 256)):
            if not 0 <= number <= most:
                raise InputError(f"{what} {number}: give 0 to {most}")

    @property
    def at_video_size(self) -> bool:
        """Whether the result has the video's size, and its own pixels beside the made region."""
        return self.keep_background or self.crop

    @property
    def shared(self) -> AnimateSettings:
        """What ``animate`` has too."""
        names = {field.name for field in fields(AnimateSettings)} & {field.name for field in fields(self)}
        return AnimateSettings(**{name: getattr(self, name) for name in names}, align=False)


@dataclass(frozen=True)
class Networks:
    """Who looks at the video: all are loaded before the first of them works, each once.

    Attributes:
        estimator: of poses.
        masker: cuts the person out.
        locator, tracker: find and follow objects; ``None`` where there are none.
    """

    estimator: PoseEstimator
    masker: PersonMasker
    locator: ObjectLocator | None = None
    tracker: ObjectTracker | None = None

    @classmethod
    def load(cls, settings: Settings, marks: list[ObjectMark] | None) -> Networks:
        """Those that ``settings`` name, on the device where the model computes.

        Args:
            marks: where the objects are, if that is known; ``None``: they are found by name, if there are any.

        Raises:
            InputError: a package or weights are missing.
        """
        device = str(settings.shared.placement.resolve()[0])
        estimator = load_estimator(settings.pose_estimator, device=device)
        locator: ObjectLocator | None = None if marks is None else GivenMarks(marks)
        if settings.objects is not None and marks is None:
            locator = TextLocator(settings.objects.split(","), settings.object_weights, device)
        named = {"masker": settings.masker, "tracker": settings.tracker if locator else None}
        sam2 = load_tracker("sam2", weights=settings.sam2_weights, device=device) if "sam2" in named.values() else None
        masker = load_masker(settings.masker, **({"tracker": sam2} if named["masker"] == "sam2" else {}))
        tracker = load_tracker(settings.tracker) if named["tracker"] not in (None, "sam2") else None
        return cls(estimator, masker, locator, sam2 if named["tracker"] == "sam2" else tracker)


def replace(
    character: str | Path,
    video: str | Path,
    output: str | Path,
    settings: Settings | None = None,
    *,
    character_pose: PoseSequence | None = None,
    progress: Progress = SILENT,
) -> Report:
    """Put the character into a video, in the place of the person there. The frames of the video are held in memory.

    Args:
        character: a picture.
        video: a video of somebody, or a folder of frames.
        output: ``.mp4``, ``.mov`` or ``.mkv``; appears only when whole.
        character_pose: the character's pose where it is known, in pixels of the picture.

    Raises:
        InputError: for everything that is the user's to mend; found out before the long work as far as it can be.
    """
    settings, report = settings or Settings(), Report()

    # What is cheap to find out comes first.
    output, picture, driver, marks = check_inputs(character, video, output, settings)
    report.lines += driver.remarks
    pipeline = load_pipeline(settings.model, placement=settings.shared.placement)
    assert isinstance(pipeline, AnimateAnyone2Pipeline)
    check_model(pipeline, settings, len(driver))

    # See: who moves how, where are they, and what do they hold?
    since = time.perf_counter()
    scene, subject, remarks = look(driver, picture, character_pose, Networks.load(settings, marks), settings, progress)
    report.lines += remarks
    report.timed("seeing", since)

    # Tell: all of it at the model's size.
    working = settings.size or tuple(pipeline.config["size"])
    crop = Crop.around(scene.person.masks, working) if settings.crop else Crop.whole(driver.size)
    part = crop.of(scene)
    told = tell(part, subject, working, pipeline)
    report.lines += background_lines(told)
    if settings.keep is not None:
        keep(settings.keep, part, told, driver)

    # Make: denoise the whole clip, then decode, bring back and write frame by frame.
    since = time.perf_counter()
    latents = pipeline(
        told.reference,
        told.poses,
        SceneConditions(told.environment, told.region, told.objects, told.object_mask, told.depth),
        carried=told.carried,
        reference_pose=told.reference_pose,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        window=settings.window,
        overlap=settings.overlap,
        window_batch=settings.window_batch,
        continuation=settings.continuation,
        generator=torch.Generator().manual_seed(settings.seed),
        output_type="latent",
        progress=progress,
    )[0]
    report.timed("denoising", since)
    since = time.perf_counter()
    size = driver.size if settings.at_video_size else told.placing.inner
    likeness: list[float] = []
    with VideoWriter(
        output,
        size,
        driver.fps,
        audio_from=driver.sound,
        audio_start=driver.start,
        audio_end=driver.stop,
        duration=driver.duration,
    ) as writer:
        for number, frame in enumerate(progress.track(pipeline.decode(latents, told.carried), len(driver), "decode")):
            likeness += environment_psnr(frame, told, number)
            result = bring_back(frame, told, part, number, settings)
            if settings.crop:
                result, beside = scene.frames[number].copy(), result
                result[crop.part] = beside
            writer.write(result, None if driver.times is None else float(driver.times[number]))
    report.timed("decoding", since)
    report.lines += writer.remarks
    report.lines += [environment_line(likeness, settings)]
    report.lines.append(f"{output}: {len(driver)} frames, {size[0]}x{size[1]}, {float(driver.fps):g} frames per second")
    if settings.keep is not None:
        report.save(settings.keep)
    return report


def look(
    driver: Driver,
    picture: Picture,
    character_pose: PoseSequence | None,
    networks: Networks,
    settings: Settings,
    progress: Progress,
) -> tuple[Scene, Subject, list[str]]:
    """The video and the character's picture taken apart, and remarks; ``networks`` are then no longer needed."""
    scene, remarks = see(
        driver, networks.estimator, networks.masker, networks.locator, networks.tracker, settings.person, progress
    )
    subject, more = see_character(picture, character_pose, networks.masker, networks.estimator)
    return scene, subject, [*getattr(networks.estimator, "remarks", ()), *remarks, *more]


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
    work = changed(plan_work(pipeline, settings.shared, windows), objects=settings.objects is not None)
    things = {mark.name for mark in marks or ()} or set((settings.objects or "").split(","))
    pictures = picture_bytes(pipeline, work, driver.size, len(things) if work.objects else 0)
    work = changed(work, pictures=pictures, telling=telling_bytes(pipeline, work, driver.size))
    what = "windows"
    if settings.continuation:
        work, what = changed(work, window_batch=1), f"segments that share {settings.continuation}"
    lines = describe_needs(pipeline, work, settings.shared, len(windows), what)
    size = f"{driver.size[0]}x{driver.size[1]}"
    held = (
        f"pictures and masks, the video's ({size}) and the model's: {readable(work.pictures)} of memory, "
        f"and {readable(work.telling)} while they are made"
    )
    return [*driver.remarks, *lines[:2], held, *lines[2:]]


def check_inputs(
    character: str | Path, video: str | Path, output: str | Path, settings: Settings
) -> tuple[Path, Picture, Driver, list[ObjectMark] | None]:
    """The file to write, the picture, the video, and where objects are marked; what is wrong with them is said here.

    Without marks there are no objects, or they are to be found by name.
    """
    check_verb(settings.model, "replace")
    output, picture, driver = check_files(character, video, output, settings.shared, KEPT)
    if driver.ready is not None or driver.is_skeleton:
        what = "poses" if driver.ready is not None else "a skeleton video"
        raise InputError(f"{video}: holds {what}; replace needs the video of a person itself")
    if settings.masker == "sam2" or (settings.tracker == "sam2" and settings.objects is not None):
        check_folder(settings.sam2_weights, "sam2")
    if settings.objects is None:
        return output, picture, driver, None
    if settings.objects.lower().endswith(".json") or Path(settings.objects).is_file():
        return output, picture, driver, read_object_file(settings.objects, driver.size, len(driver))
    if settings.object_weights is None:
        raise InputError(
            f"--objects {settings.objects}: no .json file, and to find objects by name Grounding DINO is needed; mark "
            "them in a .json file, or give --object-weights FOLDER"
        )
    check_folder(settings.object_weights, "Grounding DINO")
    if not all(name.strip() for name in settings.objects.split(",")):
        raise InputError(f"--objects {settings.objects!r}: give names with commas between, such as ball,bat")
    return output, picture, driver, None


def check_model(pipeline: AnimateAnyone2Pipeline, settings: Settings, num_frames: int) -> list[list[int]]:
    """The windows or segments; raises :class:`InputError` where the model cannot do what is asked for."""
    if settings.objects is not None and not pipeline.config["uses_objects"]:
        raise InputError(f"{settings.model}: this model was trained without objects; leave --objects out")
    if pipeline.config["uses_depth"] and settings.pose_estimator not in WITH_DEPTH:
        raise InputError(
            f"{settings.model}: this model wants to know how far the limbs are, and poses of "
            f"{settings.pose_estimator} have no depth; give --pose-estimator {' or '.join(WITH_DEPTH)}"
        )
    return pipeline.plan(
        num_frames,
        settings.steps,
        settings.guidance,
        settings.window,
        settings.overlap,
        continuation=settings.continuation,
    )


def bring_back(frame: Picture, told: Told, scene: Scene, number: int, settings: Settings) -> Picture:
    """A frame that the model made, as it is shown.

    At the model's size, its margins cut off; with ``keep_background`` or ``crop`` at the size of the scene, the made
    region scaled up and the rest the video's own. A frame without a person is the video's own in either case.
    """
    part = inner_part(told.placing)
    if not settings.at_video_size:
        return (frame if scene.person.masks[number].any() else told.source[number])[part]
    size = scene.pose.size
    large = np.asarray(Image.fromarray(frame[part]).resize(size, Image.Resampling.BICUBIC))
    region = np.asarray(Image.fromarray(told.made[number][part]).resize(size, Image.Resampling.NEAREST))
    region = (region | scene.person.masks[number])[None]
    return keep_background(large[None], scene.frames[number][None], region, settings.feather)[0]


def background_lines(told: Told) -> list[str]:
    """How much of the region's background is the video's own, where the model is shown some of it."""
    if told.unknown is None:
        return []
    known = 1 - told.unknown.sum() / max(told.region.sum(), 1)
    return [f"background around and behind the person: {known:.0%} of it seen in some frame, the rest is filled in"]


def environment_psnr(frame: Picture, told: Told, number: int) -> list[float]:
    """How well a frame as it was made shows the environment, dB; nothing where there is no region, or nothing else."""
    part = inner_part(told.placing)
    region = told.region[number][part]
    if not region.any() or region.all():
        return []
    return [psnr_masked(frame[part], told.source[number][part], ~region)]


def environment_line(likeness: list[float], settings: Settings) -> str:
    """What :func:`environment_psnr` says of all frames, and what stands in the result."""
    made = f"{np.mean(likeness):.1f} dB as the model made it" if likeness else "nothing of it to be seen"
    kept = "the video's own pixels were kept" if settings.at_video_size else "to keep it exactly: --keep-background"
    return f"environment outside the mask: {made}; {kept}"


def keep(folder: Path, scene: Scene, told: Told, driver: Driver) -> None:
    """Write what was seen and told, at the model's size: all of it or nothing.

    Raises :class:`InputError` where it cannot be written.
    """
    with whole_files(folder) as hidden:
        _write_kept(hidden, scene, told, driver)


def _write_kept(folder: Path, scene: Scene, told: Told, driver: Driver) -> None:
    scene.pose.save(folder / "poses.npz")
    write_picture(folder / "character.png", told.reference)
    person = place_masks(scene.person.masks, told.placing)
    grey = np.where(person, np.uint8(255), np.where(told.region, np.uint8(127), np.uint8(0)))
    near = None if told.depth is None else np.rint(told.depth * 255).astype(np.uint8)
    shown_as = (told.source, grey, told.environment, told.objects, told.poses, near)
    for name, pictures in zip(KEPT_VIDEOS, shown_as, strict=True):
        if pictures is None:
            continue
        size, rate = (pictures.shape[2], pictures.shape[1]), Fraction(driver.fps)
        with VideoWriter(folder / f"{name}.mp4", size, rate, duration=driver.duration) as writer:
            for number, picture in enumerate(pictures):
                shown = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
                writer.write(shown, None if driver.times is None else float(driver.times[number]))
