"""Skeleton pictures for the pose guider: poses drawn as the model knows them, or a finished skeleton video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.draw import draw_frames, draw_pose
from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.media import write_picture
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.structures import Picture, PoseSequence, Subject
from animate_anyone.system.whole_files import whole_files
from animate_anyone.workflows.driving import Driver
from animate_anyone.workflows.settings import write_video

KEPT = ("skeletons.mp4", "character_pose.npz", "character_pose.png", "poses.npz", "overlay.mp4", "report.json")
"""What ``keep`` writes of ``animate``."""


def skeleton_pictures(
    poses: PoseSequence | None, driver: Driver, letterbox: Letterbox, pipeline: AnimateAnyonePipeline
) -> Sequence[Picture]:
    """One skeleton picture per frame, drawn as it is asked for.

    Args:
        poses: in pixels of the character's picture; ``None``: the driver is a finished skeleton video.
        letterbox: puts that picture into the video's frame.
    """
    size = pipeline.pose_picture_size(letterbox.size)
    if poses is not None:
        return DrawnPoses(letterbox.move(poses), size, pipeline.config["skeleton_style"])
    return SkeletonPictures(driver, letterbox.size, size[0] / letterbox.size[0])


def reference_skeleton(subject: Subject, letterbox: Letterbox, pipeline: AnimateAnyonePipeline) -> Picture:
    """The skeleton picture of the reference; black where its pose is not known."""
    size = pipeline.pose_picture_size(letterbox.size)
    if subject.pose is None:
        return np.zeros((size[1], size[0], 3), np.uint8)
    return draw_pose(letterbox.move(subject.pose), size, style=pipeline.config["skeleton_style"])[0]


def keep_skeletons(
    folder: Path, subject: Subject, poses: PoseSequence | None, skeletons: Sequence[Picture], driver: Driver
) -> None:
    """Write poses, the skeletons as the model gets them, and skeletons laid over the character: all or nothing.

    Raises:
        InputError: they cannot be written.
    """
    height, width = skeletons[0].shape[:2]
    with whole_files(folder) as hidden:
        write_video(hidden / "skeletons.mp4", skeletons, (width, height), driver)
        if subject.pose is not None:
            subject.pose.save(hidden / "character_pose.npz")
            drawn = draw_pose(subject.pose, subject.pose.size, style="scaled")[0]
            write_picture(hidden / "character_pose.png", overlay(subject.picture // 2, drawn))
        if poses is not None:
            poses.save(hidden / "poses.npz")
            drawings = draw_frames(poses, poses.size, style="scaled")
            overlays = (overlay(subject.picture // 2, drawn) for drawn in drawings)
            write_video(hidden / "overlay.mp4", overlays, poses.size, driver)


class DrawnPoses(Sequence[Picture]):
    """Skeleton pictures that are drawn when they are asked for, so that long clips need no memory.

    Args:
        poses: what to draw.
        size: ``(width, height)`` of the pictures.
        style: a name in ``conditions.draw.STYLES``.
    """

    def __init__(self, poses: PoseSequence, size: tuple[int, int], style: str) -> None:
        self.poses, self.size, self.style = poses, size, style

    def __len__(self) -> int:
        return len(self.poses)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return DrawnPoses(self.poses[number], self.size, self.style)
        number = range(len(self))[number]
        return draw_pose(self.poses[number : number + 1], self.size, style=self.style)[0]

    def __iter__(self) -> Iterator[Picture]:
        return draw_frames(self.poses, self.size, style=self.style)


class SkeletonPictures(Sequence[Picture]):
    """The frames of a finished skeleton video, letterboxed as the character is: scaled, on black.

    Args:
        driver: the skeleton video.
        size: ``(width, height)`` of the video to be made.
        scale: how much larger the pictures are than that.
    """

    def __init__(self, driver: Driver, size: tuple[int, int], scale: float) -> None:
        drawn = (round(size[0] * scale), round(size[1] * scale))
        self.driver, self.letterbox = driver, Letterbox.into(driver.size, drawn)

    def __len__(self) -> int:
        return len(self.driver)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            numbers = range(*number.indices(len(self)))
            return [self._letterboxed(frame) for frame in self.driver.pictures_of(numbers)]
        _, frame = next(self.driver.read([self.driver.index[number]]))
        return self._letterboxed(frame)

    def __iter__(self) -> Iterator[Picture]:
        return (self._letterboxed(frame) for frame in self.driver.pictures())

    def _letterboxed(self, frame: Picture) -> Picture:
        assert self.driver.skeletons is not None
        return self.letterbox.apply(self.driver.skeletons.usual(frame), black=True)


def overlay(picture: NDArray[np.integer], drawn: Picture) -> Picture:
    """A skeleton picture laid over a picture, both of one size."""
    return np.where(drawn.any(-1, keepdims=True), drawn, picture)
