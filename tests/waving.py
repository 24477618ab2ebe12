"""Small videos, and a pose estimator that finds somebody who waves in each of their frames."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.media import VideoWriter
from animate_anyone.structures import MaskTrack, PoseSequence
from people import person

SIZE = (128, 192)


def scene(seed: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A picture of coloured blocks, another for each seed."""
    blocks = np.random.default_rng(seed).integers(0, 255, (6, size[0] // 32, 3), np.uint8)
    rows, columns = np.arange(size[1]) * 6 // size[1], np.minimum(np.arange(size[0]) // 32, size[0] // 32 - 1)
    return blocks[rows][:, columns]


def video(path: Path, *shots: int, fps: int = 12, first_seed: int = 0) -> Path:
    """A video of shots of so many frames each, whose camera pans."""
    with VideoWriter(path, SIZE, fps) as out:
        for number, frames in enumerate(shots):
            wide = scene(first_seed + number, (SIZE[0] + 3 * frames, SIZE[1]))
            for k in range(frames):
                out.write(np.ascontiguousarray(wide[:, 3 * k : 3 * k + SIZE[0]]))
    return path


class Waving:
    """Finds the same person everywhere, whose arms go up and down with the frames.

    Args:
        swing: torso lengths.
        score: of all points.
        scale: size of the person; at 1 all of the frame's height.
    """

    def __init__(self, swing: float = 0.5, score: float = 1.0, scale: float = 1.0) -> None:
        self._swing, self._score, self._scale = swing, score, scale

    def estimate(
        self, frames: Any, size: tuple[int, int], fps: Fraction, times: Any = None, progress: Any = None
    ) -> PoseSequence:
        count = len(list(frames))
        poses = person(count, size=(400, 600), torso=120.0 * self._scale)
        points = poses.keypoints.copy()
        lift = 120 * self._scale * self._swing * np.sin(np.arange(count) * 2 * np.pi / 12)
        for joint in ("right_wrist", "left_wrist", "right_elbow", "left_elbow"):
            points[:, JOINT[joint], 1] -= lift
        scores = np.full_like(poses.scores, self._score)
        moved = replace(poses, keypoints=points, scores=scores, fps=fps, times=times)
        return moved.scaled_to(size)

    def estimate_picture(self, picture: NDArray[np.uint8]) -> PoseSequence:
        return self.estimate([picture], (picture.shape[1], picture.shape[0]), Fraction(12))


class LeftHalf:
    """A masker that finds the left half of each frame."""

    def mask(self, frames: Any, pose: PoseSequence, progress: Any = None) -> MaskTrack:
        masks = np.zeros((len(list(frames)), pose.size[1], pose.size[0]), bool)
        masks[:, :, : pose.size[0] // 2] = True
        return MaskTrack(masks)
