"""What is understood of the inputs of ``animate`` and ``replace``: what comes before the long work, to look at.

The same steps as in the workflows, without the networks that make frames; shown as pictures beside each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import islice, repeat
from pathlib import Path

import numpy as np

from animate_anyone.conditions.crop_scene import Crop
from animate_anyone.conditions.draw import draw_frames
from animate_anyone.conditions.hold import hold
from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.errors import InputError
from animate_anyone.first_guess.frames import scaled
from animate_anyone.media import check_writable
from animate_anyone.perception import PoseEstimator, load_estimator
from animate_anyone.perception.person.people import find_people
from animate_anyone.progress import SILENT, Progress
from animate_anyone.sampling.loading import load_shapes
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.structures import Picture, PoseSequence, Size
from animate_anyone.workflows import animate, replace
from animate_anyone.workflows.character import find_character
from animate_anyone.workflows.compositing import background_lines
from animate_anyone.workflows.driving import Driver, open_driver
from animate_anyone.workflows.scene_conditions import letterbox_masks, make_conditions
from animate_anyone.workflows.settings import Report, write_video
from animate_anyone.workflows.sizes import choose_sizes
from animate_anyone.workflows.skeletons import overlay
from animate_anyone.workflows.source_video import Networks, crop_to_character, decompose, pictures_of

HEIGHT = 320
"""Pixels of each of the pictures beside each other."""
GAP = 8
PEOPLE_IN = 60
"""Frames of the beginning that are looked through for people."""


def understand_animate(
    character: Path, driving: Path, output: Path, settings: animate.Settings, progress: Progress = SILENT
) -> Report:
    """Write a video of the skeleton over the driving video, and of the retargeted skeleton over the character.

    Args:
        output: ``.mp4``, ``.mov`` or ``.mkv``.

    Raises:
        InputError: as :func:`animate.animate` raises it before the long work.
    """
    report = Report()
    _, picture, driver = animate.check_inputs(character, driving, output, settings)
    report.lines += driver.remarks
    pipeline = load_shapes(settings.model)
    device = str(settings.placement.resolve()[0])
    estimator = cache(partial(load_estimator, settings.pose_estimator, device, **settings.estimator_options))
    aligned = settings.align and not driver.is_skeleton
    subject = find_character(picture, None, aligned, pipeline, estimator)
    panels: list[Iterator[Picture]] = []
    if driver.skeletons is not None:
        report.lines.append(f"driver: a finished skeleton video, {driver.skeletons.line()}")
        panels.append(driver.pictures())
    else:
        found, remarks = driver.poses(estimator, progress, settings.person)
        report.lines += remarks
        black = np.zeros((found.size[1], found.size[0], 3), np.uint8)
        shown = repeat(black) if driver.video is None else driver.pictures()
        panels.append(_overlaid(shown, draw_frames(found, found.size, style="scaled")))
        poses, held = hold(animate.align(found, subject, settings, report))
        report.lines += animate.pose_lines(poses, held)
        panels.append(_overlaid(repeat(subject.picture // np.uint8(2)), draw_frames(poses, poses.size, style="scaled")))
    _write(output, panels, driver, progress)
    return report


def understand_replace(
    character: Path, video: Path, output: Path, settings: replace.Settings, progress: Progress = SILENT
) -> Report:
    """Write a video of the skeleton over the video, its masks, the emptied environment and the model's skeletons.

    Masks: the person white, the region that is made anew grey. Raises as :func:`understand_animate`.
    """
    report = Report()
    _, picture, driver, marks = replace.check_inputs(character, video, output, settings)
    report.lines += driver.remarks
    pipeline = load_shapes(settings.model)
    assert isinstance(pipeline, AnimateAnyone2Pipeline)
    replace.check_model(pipeline, settings, len(driver))
    networks = Networks.load(settings, marks)
    scene, lines = decompose(driver, networks, settings.person, progress)
    masker = networks.masker if pipeline.config["carried_reference"] else None
    subject, more = crop_to_character(picture, None, masker, networks.estimator)
    report.lines += [*lines, *more]
    crop = Crop.around(scene.person.masks, settings.size or tuple(pipeline.config["size"])) if settings.crop else None
    seen = scene if crop is None else crop.of(scene)
    sizes = choose_sizes(pipeline, settings.size, seen.pose.size)
    whole = Letterbox.into(seen.pose.size, sizes.video) if settings.size else Letterbox.stretched(sizes.video)
    conditions = make_conditions(seen, subject, whole, sizes.networks, pipeline)
    report.lines += background_lines(conditions)
    grey = (
        np.repeat(np.where(mask, np.uint8(127), np.uint8(0))[..., None], 3, axis=2)
        | (person[..., None] * np.uint8(255))
        for mask, person in zip(conditions.region, letterbox_masks(seen.person.masks, whole), strict=True)
    )
    panels = [
        _overlaid(iter(pictures_of(driver)), draw_frames(scene.pose, scene.pose.size, style="scaled")),
        grey,
        iter(conditions.environment),
        iter(conditions.skeletons),
    ]
    if conditions.objects is not None:
        panels.append(iter(conditions.objects))
    _write(output, panels, driver, progress)
    return report


UNDERSTAND: dict[str, Callable[..., Report]] = {"animate": understand_animate, "replace": understand_replace}
"""Verb -> what shows its understanding."""


def show_frame(
    video: Path, number: int, frames: slice | None = None, estimator: str = "mediapipe"
) -> tuple[Picture, list[tuple[int, int, int, int]], int]:
    """A frame of a video, and the people by whom a person is chosen, the largest first.

    Args:
        number: of the frames made, from 0; beyond the end the last one.

    Returns:
        ``(height, width, 3)`` uint8; boxes ``(left, top, right, bottom)`` in its pixels of the people in the first
        frame where anybody is; and that frame's number.

    Raises:
        InputError: the video cannot be read, or has not those frames.
    """
    driver = open_driver(video, frames)
    if driver.video is None:
        raise InputError(f"{video}: holds poses, which have no frames to be shown; give a video")
    number = min(max(number, 0), len(driver) - 1)
    picture = next(driver.pictures_of(range(number, number + 1)))
    looks: PoseEstimator = load_estimator(estimator)
    at = 0
    people: list[PoseSequence] = []
    for first, shown in enumerate(islice(driver.pictures(), PEOPLE_IN)):
        people, at = find_people(shown, looks), first
        if people:
            break
    boxes = []
    for pose in people:
        points = pose.keypoints[0][pose.scores[0] > 0.3]
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        boxes.append((round(float(left)), round(float(top)), round(float(right)), round(float(bottom))))
    return picture, boxes, at


def _overlaid(pictures: Iterator[Picture], drawn: Iterator[Picture]) -> Iterator[Picture]:
    return (overlay(picture, skeleton) for skeleton, picture in zip(drawn, pictures, strict=False))


def _write(output: Path, panels: list[Iterator[Picture]], driver: Driver, progress: Progress) -> None:
    """Write panels beside each other, two in a row."""
    check_writable(output)
    frames = _beside(panels)
    first = next(frames)
    size: Size = (first.shape[1], first.shape[0])

    def all_frames() -> Iterator[Picture]:
        yield first
        yield from frames

    write_video(output, progress.track(all_frames(), len(driver), "drawing"), size, driver)


def _beside(panels: list[Iterator[Picture]]) -> Iterator[Picture]:
    for pictures in zip(*panels, strict=False):
        small = [
            scaled(p, (max(2, round(p.shape[1] * HEIGHT / p.shape[0])), HEIGHT)) for p in map(np.asarray, pictures)
        ]
        width = max(picture.shape[1] for picture in small)
        columns = min(2, len(small))
        rows = -(-len(small) // columns)
        sheet = np.full((rows * (HEIGHT + GAP) - GAP, columns * (width + GAP) - GAP, 3), 32, np.uint8)
        for number, picture in enumerate(small):
            top, left = number // columns * (HEIGHT + GAP), number % columns * (width + GAP)
            left += (width - picture.shape[1]) // 2
            sheet[top : top + HEIGHT, left : left + picture.shape[1]] = picture
        yield sheet
