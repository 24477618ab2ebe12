"""Ways to show one picture to an estimator, and which of its answers to believe.

A drawn character is often missed at one scale and found at another, or its arms are taken for
background. Attempts differ in frame, scale, mirror image and contrast; a pose that several of
them agree on is trusted more than one that looks confident alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from animate_anyone.conditions.body_lengths import unscored_torso_length
from animate_anyone.conditions.skeleton import HEAD, JOINT, MIN_SCORE
from animate_anyone.perception.pose.single_pose import MIRROR, Pose, plausibility, seen
from animate_anyone.structures import BODY, FACE, LEFT_HAND, RIGHT_HAND, Picture

_LONG_SIDE = 1280  # crops are scaled to this, pixels

# A group of points that the best pose lacks is taken from another pose: the joint that it is attached to, how far
# apart (torso lengths) both poses may have that joint, and which joints of the body are taken too.
_FILLED: tuple[tuple[slice, str, float, list[int]], ...] = (
    (LEFT_HAND, "left_wrist", 0.15, []),
    (RIGHT_HAND, "right_wrist", 0.15, []),
    (FACE, "nose", 0.35, list(HEAD)),
)


@dataclass(frozen=True)
class Attempt:
    """One version of a picture, and the pose found in it.

    Attributes:
        picture: ``(h, w, 3)`` uint8, what the estimator is shown.
        height: of the original picture, pixels.
        corner: where the version's top left corner stands in the original, pixels.
        scale: version pixels per original pixel.
        mirrored: left and right are exchanged.
        pose: what was found, in pixels of the original; ``None`` before looking, or for nobody.
    """

    picture: Picture = field(repr=False)
    height: int
    corner: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    mirrored: bool = False
    pose: Pose | None = None

    def with_pose(
        self, points: NDArray[np.float32], scores: NDArray[np.float32], depth: NDArray[np.float32]
    ) -> Attempt:
        """The attempt with what was found in ``picture``, brought back to the original picture."""
        tried_height, tried_width = self.picture.shape[:2]
        if seen(points, scores, depth) is None:
            return self
        if self.mirrored:
            points = (points * [-1, 1] + [tried_width, 0])[MIRROR].astype(np.float32)
            scores, depth = scores[MIRROR], depth[MIRROR]
        points = (points / self.scale + self.corner).astype(np.float32)
        return replace(self, pose=(points, scores, depth * np.float32(tried_height / self.scale / self.height)))


def attempts(picture: Picture, around: Pose | None = None) -> Iterator[Attempt]:
    """Versions of a picture to look at; with ``around``, closer looks at the pose found there."""
    height, width = picture.shape[:2]
    if around is None:
        yield Attempt(picture, height)
        yield Attempt(np.ascontiguousarray(picture[:, ::-1]), height, mirrored=True)
        for share in (0.15, 0.5):
            pad = int(share * max(height, width))
            yield Attempt(_cut(picture, -pad, -pad, width + pad, height + pad), height, (-pad, -pad))
        yield Attempt(np.array(ImageOps.autocontrast(Image.fromarray(picture), cutoff=1)), height)
        return
    for margin in (0.15, 0.35, 0.6):
        close = closer(picture, around, margin, _LONG_SIDE)
        yield close
        yield replace(close, picture=np.ascontiguousarray(close.picture[:, ::-1]), mirrored=True)


def closer(picture: Picture, around: Pose, margin: float, long_side: int | None = None) -> Attempt:
    """The part of a picture around a pose, padded where it leaves the picture.

    Args:
        picture: ``(height, width, 3)`` uint8.
        around: the pose, with one point seen or more.
        margin: what is added on each side, as a share of the longer side of the pose's box.
        long_side: scale the part to this, pixels; ``None`` leaves it as it is.
    """
    points, scores, _ = around
    there = points[BODY][scores[BODY] >= MIN_SCORE]
    low, high = there.min(axis=0), there.max(axis=0)
    reach = margin * max(float((high - low).max()), 16.0)
    left, top = (int(v) for v in np.floor(low - reach))
    right, bottom = (int(v) for v in np.ceil(high + reach))
    cut = _cut(picture, left, top, right, bottom)
    scale = 1.0
    if long_side is not None:
        scale = long_side / max(cut.shape[:2])
        shape = (max(round(cut.shape[1] * scale), 1), max(round(cut.shape[0] * scale), 1))
        cut = np.array(Image.fromarray(cut).resize(shape, Image.Resampling.BICUBIC))
    return Attempt(cut, picture.shape[0], (left, top), scale)


def best_pose(tried: list[Attempt]) -> Pose | None:
    """The pose to believe, its missing hands and face filled from attempts that agree with it."""
    poses = [attempt.pose for attempt in tried if attempt.pose is not None]
    if not poses:
        return None
    worth = [plausibility(pose) * (0.3 + 0.7 * _agreement(pose, poses)) for pose in poses]
    order = sorted(range(len(poses)), key=lambda number: -worth[number])
    points, scores, depth = (part.copy() for part in poses[order[0]])
    torso = unscored_torso_length(points)
    for group, anchor, reach, joints in _FILLED:
        for number in order[1:]:
            other, other_scores, other_depth = poses[number]
            gap = np.hypot(*(other[JOINT[anchor]] - points[JOINT[anchor]]))
            if scores[group].max() == 0 and other_scores[group].max() > 0 and gap < reach * torso:
                for part in (group, joints):
                    points[part], scores[part], depth[part] = other[part], other_scores[part], other_depth[part]
    return points, scores, depth


def _agreement(pose: Pose, poses: list[Pose]) -> float:
    """In [0, 1]: how near the body's points are to those of the other poses."""
    if len(poses) < 2:
        return 0.5
    torso = unscored_torso_length(pose[0])
    near = [
        np.exp(-np.hypot(*(pose[0][BODY] - other[0][BODY]).T) / (0.1 * torso)).mean()
        for other in poses
        if other is not pose
    ]
    return float(np.mean(near))


def _cut(picture: Picture, left: int, top: int, right: int, bottom: int) -> Picture:
    """A rectangle that may leave the picture; outside it has the median colour of the border."""
    height, width = picture.shape[:2]
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    cut = np.empty((bottom - top, right - left, 3), np.uint8)
    cut[:] = np.median(border, axis=0).astype(np.uint8)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    cut[y0 - top : y1 - top, x0 - left : x1 - left] = picture[y0:y1, x0:x1]
    return cut
