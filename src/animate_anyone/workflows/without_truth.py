"""Videos whose truth nobody has, beside what they were made from: people are found in them, then all is measured.

result, reference picture, driving video ──perception──▶ poses and masks ──evaluation.without_truth──▶ report
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from animate_anyone.conditions.hold import hold
from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.errors import InputError
from animate_anyone.evaluation.folders import FRAME_FILES, VIDEO_FILES, WHOLE, ClipFiles, find_clips, listed, read_split
from animate_anyone.evaluation.weights import sha256
from animate_anyone.evaluation.without_truth import means, measure
from animate_anyone.media import read_picture
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import MaskTrack, PoseSequence, Scene, Subject
from animate_anyone.workflows import animate
from animate_anyone.workflows.driving import open_driver
from animate_anyone.workflows.settings import Report
from animate_anyone.workflows.source_video import Networks, SourceVideoSettings, decompose

_SAME_SHAPE = 0.02
"""How far the shapes of a result and of its reference picture may differ and still be one."""
_DRIVERS = (*VIDEO_FILES, ".npz")


def evaluate_without_truth(
    generated: Path,
    reference: Path,
    driving: Path | None = None,
    *,
    align: bool = True,
    segments: int = 4,
    split: Path | None = None,
    pose_estimator: str = "mediapipe",
    masker: str = "mediapipe",
    device: str = "auto",
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure a folder of results of ``animate``, or one, by :func:`animate_anyone.evaluation.without_truth.measure`.

    Args:
        generated: videos or folders of frames, as :func:`~animate_anyone.evaluation.folders.find_clips` finds them.
        reference: the picture they were made from, or a folder of pictures that have the names of the videos.
        driving: the video or poses (``.npz``) that drove them, or a folder of those by name; ``None``: whether they do
            what was asked is not measured.
        align: the driver's skeleton was fitted to the character's body, as ``animate`` does.
        split: text file of the names to measure; ``None`` for all.

    Returns:
        The report: means, every video, and which could not be measured and why.

    Raises:
        InputError: names that have no partner, a missing package, or nothing that could be measured.
    """
    clips = find_clips(generated)
    if split is not None:
        wanted = read_split(split)
        if lacking := [name for name in wanted if name not in clips]:
            raise InputError(f"the generated videos lack {listed(lacking)}: the split names them; add them")
        clips = {name: clips[name] for name in wanted}
    pictures = _partners(clips, reference, FRAME_FILES, "--reference", "picture")
    drivers = None if driving is None else _partners(clips, driving, _DRIVERS, "--driving", "video or .npz of poses")
    eyes = _Eyes(SourceVideoSettings("puppet", pose_estimator=pose_estimator, masker=masker, device=device))
    videos, failed = [], {}
    for name, clip in progress.track(clips.items(), len(clips), "videos"):
        shown = name if name != WHOLE else clip.path.stem
        try:
            found = _look_at(clip, pictures[name], None if drivers is None else drivers[name], eyes, align)
            videos.append({"name": shown, "frames": len(found[0].pose)} | measure(*found, segments=segments))
        except InputError as error:
            failed[shown] = str(error)
    if not videos:
        name, reason = next(iter(failed.items()))
        raise InputError(f"none of {len(clips)} videos could be measured; the first, {name}: {reason}")
    return {
        "animate_anyone": version("animate-anyone"),
        "without_truth": {"pose_estimator": pose_estimator, "masker": masker, "align": align, "segments": segments},
        "generated": str(generated),
        "reference": str(reference),
        "driving": None if driving is None else str(driving),
        "split": None if split is None else {"file": split.name, "sha256": sha256(split)},
        "metrics": means(videos),
        "failed": failed,
        "videos": videos,
    }


class _Eyes:
    """Finds people; the networks are loaded when first asked for."""

    def __init__(self, settings: SourceVideoSettings) -> None:
        self.settings = settings

    @cached_property
    def networks(self) -> Networks:
        return Networks.load(self.settings, None)

    def video(self, clip: ClipFiles) -> Scene:
        """The person of a video."""
        return decompose(open_driver(clip.path, kind="video"), self.networks)[0]

    def picture(self, file: Path) -> Scene:
        """The person of a picture, as a video of one frame. Raises :class:`InputError` where nobody is found."""
        picture = read_picture(file)
        pose = self.networks.estimator.estimate_picture(picture)
        if pose is None:
            raise InputError(f"{file}: nobody was found in the reference picture")
        masks = np.asarray(self.networks.masker.mask([picture], pose).masks)
        return Scene(picture[None], pose, MaskTrack(masks))


def _look_at(
    clip: ClipFiles, picture: Path, driver: Path | None, eyes: _Eyes, align: bool
) -> tuple[Scene, Scene, PoseSequence | None]:
    """What is seen in a result and in its reference picture, and the poses that were asked for."""
    own = eyes.picture(picture)
    result = eyes.video(clip)
    if driver is None:
        return result, own, None
    asked = asked_poses(driver, own, eyes.networks, align)
    if len(asked) != len(result.pose):
        raise InputError(f"has {len(result.pose)} frames, and what drove it, {driver.name}, {len(asked)}")
    return result, own, in_result(asked, result.pose.size)


def asked_poses(driver: Path, character: Scene, networks: Networks, align: bool) -> PoseSequence:
    """The poses that ``animate`` draws of a driver for a character, in pixels of the character's picture."""
    opened = open_driver(driver)
    if opened.is_skeleton:
        raise InputError(f"{driver}: is a finished skeleton video; give the video that it was found in, or its poses")
    poses, _ = opened.poses(lambda: networks.estimator)
    settings = animate.Settings(align=align)
    subject = Subject(character.frames[0], character.pose)
    return hold(animate.align(poses, subject, settings, Report()))[0]


def in_result(asked: PoseSequence, size: tuple[int, int]) -> PoseSequence:
    """Poses in pixels of the character's picture as they are in a result of ``size`` ``(width, height)``.

    A result of the picture's shape shows all of it; one of another shape has it in the middle, as ``animate --size``.
    """
    shapes = size[0] / size[1], asked.size[0] / asked.size[1]
    if abs(shapes[0] / shapes[1] - 1) <= _SAME_SHAPE:
        return asked.scaled_to(size)
    return replace(Letterbox.into(asked.size, size).move(asked), size=size)


def _partners(
    clips: dict[str, ClipFiles], given: Path, kinds: tuple[str, ...], option: str, what: str
) -> dict[str, Path]:
    """What belongs to each clip: one file for all, or of a folder the one of its name."""
    if given.is_file():
        return dict.fromkeys(clips, given)
    if not given.is_dir():
        raise InputError(f"{option} {given}: is not there; give a {what}, or a folder of those by the videos' names")
    found = {file.stem: file for file in sorted(given.iterdir()) if file.suffix.lower() in kinds}
    if lacking := [name for name in clips if name not in found]:
        raise InputError(f"{option} {given}: holds no {what} of {listed(lacking)}; add them, or name others in --split")
    return {name: found[name] for name in clips}
