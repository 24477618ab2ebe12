"""The character of `animate`: its pose, its silhouette, and the first guess at its frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.errors import InputError
from animate_anyone.first_guess.character import CharacterFrames
from animate_anyone.perception import PoseEstimator
from animate_anyone.perception.person.masks import load_masker
from animate_anyone.perception.person.silhouette import find_silhouette
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.structures import Picture, PoseSequence, Subject
from animate_anyone.workflows.settings import Report


def find_character(
    picture: Picture,
    known: PoseSequence | None,
    aligned: bool,
    pipeline: AnimateAnyonePipeline,
    estimator: Callable[[], PoseEstimator],
) -> Subject:
    """The character with its pose, estimated where it is needed and not known.

    Args:
        known: its pose, where that is given.
        aligned: whether the driver's movement is put on its body.
        estimator: loads the pose estimator.

    Raises:
        InputError: nobody was found in the picture, and ``aligned``.
    """
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


def make_first_guess(
    subject: Subject, poses: PoseSequence | None, letterbox: Letterbox, num_frames: int, report: Report
) -> CharacterFrames:
    """The reference moved into every pose; as it is, where its pose or the driver's is not known."""
    picture = letterbox.apply(subject.picture)
    if subject.pose is None or poses is None:
        return CharacterFrames(picture, None, None, num_frames)
    # Depth orders limbs here, against constants that are taken as heights of the picture, margins or not.
    moved = replace(letterbox.move(poses), depth=poses.depth)
    own = letterbox.move(subject.pose)
    try:
        masker = load_masker()
    except InputError as error:  # its packages are not installed
        report.lines.append(f"the character's outline is taken from its bones alone: {error}")
        return CharacterFrames(picture, own, moved)
    return CharacterFrames(picture, own, moved, silhouette=find_silhouette(picture, own, masker))
