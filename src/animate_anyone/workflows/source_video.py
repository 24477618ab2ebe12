"""A source video taken apart (Animate Anyone 2): who moves how, where they are, and what they hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.shape_agnostic import bounding_box
from animate_anyone.conditions.smooth import clean
from animate_anyone.errors import InputError
from animate_anyone.perception import PoseEstimator
from animate_anyone.perception.objects.tracking import ObjectLocator, ObjectTracker, find_objects
from animate_anyone.perception.person.mask_checks import NOBODY
from animate_anyone.perception.person.masks import MASKERS, PersonMasker
from animate_anyone.perception.person.people import follow
from animate_anyone.perception.pose.quality import report as quality_report
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import PoseSequence, Scene, Subject
from animate_anyone.workflows.driving import Driver

CLOSE_UP = 1.15
"""Side of the part of the character's picture that is shown to the model, over the character's longer side: as the
models are trained."""


def see(
    driver: Driver,
    estimator: PoseEstimator,
    masker: PersonMasker,
    locator: ObjectLocator | None = None,
    tracker: ObjectTracker | None = None,
    person: int = 0,
    progress: Progress = SILENT,
) -> tuple[Scene, list[str]]:
    """Take a video apart. Its frames are held in memory.

    Args:
        driver: the video, and which of its frames.
        estimator: of poses.
        masker: cuts the person out.
        locator: finds objects; ``None``: there are none.
        tracker: follows them; ``None`` is ``classical``.
        person: whose, 0 is the largest in the first frame where anybody is.

    Returns:
        The scene, at the video's size, and remarks on it for the user; their frame numbers count the frames made.

    Raises:
        InputError: nobody is found, or not so many people, or no mask comes out.
    """
    frames = np.empty((len(driver), driver.size[1], driver.size[0], 3), np.uint8)
    for number, picture in enumerate(driver.pictures()):
        frames[number] = picture
    followed = follow(frames, driver.fps, estimator, person, driver.times, progress)  # type: ignore[arg-type]
    quality = quality_report(followed.poses)
    quality.check(least=0.0)
    poses, lines = clean(followed.poses), quality.lines()
    lines += followed.lines(person)
    track = masker.mask(frames, poses, progress)
    shown = track.masks.any(axis=(1, 2))
    if not shown.any():
        raise InputError(f"no mask of the person came out in any frame; try another --masker: {', '.join(MASKERS)}")
    track = replace(track, doubts=tuple(sorted((*track.doubts, *followed.doubts()))))
    doubts = replace(track, doubts=tuple(doubt for doubt in track.doubts if doubt[1] != NOBODY))
    lines += doubts.lines() or ["person: no mask is doubtful"]
    if not shown.all():
        numbers = ", ".join(map(str, np.flatnonzero(~shown)))
        lines.append(f"nobody to replace in frame {numbers}: the video's own frame stands there")
    if locator is None:
        return Scene(frames, poses, track), lines
    objects = find_objects(frames, locator, tracker, progress)  # type: ignore[arg-type]
    lines += [line for thing in objects for line in thing.lines()]
    seen = [f"{thing.name} in {int(thing.masks.any((1, 2)).sum())} of {len(thing)} frames" for thing in objects]
    lines.append(f"objects: {', '.join(seen) or 'none was found'}")
    return Scene(frames, poses, track, objects), lines


def see_character(
    picture: NDArray[np.uint8], known: PoseSequence | None, masker: PersonMasker, estimator: PoseEstimator
) -> tuple[Subject, list[str]]:
    """The character close up, square, as the models are trained; the picture as it is where nobody is found in it.

    Args:
        picture: ``(height, width, 3)`` uint8.
        known: the character's pose, one frame; ``None`` has it estimated.

    Returns:
        The character, its pose in pixels of the part that is shown, and remarks for the user.
    """
    width, height = picture.shape[1], picture.shape[0]
    pose = estimator.estimate_picture(picture) if known is None else known.scaled_to((width, height))
    person = None if pose is None else masker.mask([picture], pose).masks[0]
    box = None if person is None else bounding_box(person)
    if pose is None or person is None or box is None:
        return Subject(picture, pose), ["character: nobody was found in the picture, which is taken as it is"]
    side = round(CLOSE_UP * max(part.stop - part.start for part in box))
    top, left = (round((part.start + part.stop - side) / 2) for part in box)
    rows = np.arange(top, top + side).clip(0, height - 1)  # beyond the picture its edge is drawn out
    columns = np.arange(left, left + side).clip(0, width - 1)
    moved = pose.keypoints - np.array([left, top], np.float32)
    inside = np.arange(top, top + side)[:, None] == rows[:, None]
    inside = inside & (np.arange(left, left + side) == columns)
    silhouette = person[rows][:, columns] & inside
    return Subject(picture[rows][:, columns], replace(pose, keypoints=moved, size=(side, side)), silhouette), []
