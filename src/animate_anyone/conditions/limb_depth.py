"""Structured depth (AA2, depth-wise pose modulation): how far the limbs are, inside the skeleton only.

A whole depth map would show the outline of the source's person to the model; so depth is kept only where the
skeleton is drawn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import clip_torso_length
from animate_anyone.conditions.draw import SkeletonStyle, Strokes, checked_style, stroke_groups
from animate_anyone.conditions.skeleton import MIN_SCORE
from animate_anyone.errors import InputError
from animate_anyone.structures import Mask, PoseSequence, Size
from animate_anyone.system.frame_sequence import FrameSequence, MadeFrames

FARTHEST = 0.1
"""Value of the farthest limb: above 0, which means that nothing is drawn."""

REACH = 1.5
"""Torso lengths before and behind the hips that values cover: an arm held out straight, and some more."""

_UNMEASURED_TORSO = 0.25  # frame heights, where the torso is never seen
_OUTLIERS = 0.02  # share of a depth map's values, at either end, that do not set the scale


def draw_limb_depth(
    pose: PoseSequence,
    size: Size,
    depth_map: NDArray[np.floating] | None = None,
    *,
    style: str | SkeletonStyle = "dwpose",
) -> NDArray[np.float32]:
    """Draw the skeleton's strokes in values of nearness; near ones cover far ones.

    From ``pose.depth`` the value goes from one end of a limb to the other, 0.55 at the depth of the
    hips, 1 and 0.1 at :data:`REACH` torso lengths before and behind them: the same meaning in every
    frame, clip and size. From a ``depth_map`` whose zero and unit are unknown, the nearest and
    farthest value that the skeleton meets over the clip become 1 and 0.1.

    Args:
        pose: the poses; they are rescaled from ``pose.size`` to ``size``.
        size: ``(width, height)`` of the pictures, pixels.
        depth_map: ``(frames, height, width)`` in ``size``, larger is farther, any zero and unit; ``None``
            takes the depth of the joints.
        style: a name in :data:`~animate_anyone.conditions.draw.STYLES`, or a style; that of the skeleton picture.

    Returns:
        ``(frames, height, width)`` float32: 0 where nothing is, else in [0.1, 1], larger is nearer.

    Raises:
        InputError: there is neither depth, or the map has another shape, or values that are not finite.
    """
    strokes = checked_style(style, size)
    if depth_map is not None:
        want = (len(pose), size[1], size[0])
        if depth_map.shape != want or not np.isfinite(depth_map).all():
            raise InputError(f"the depth map has shape {depth_map.shape}; it must be {want}, all values finite")
        near = np.ones(pose.scores.shape)
    else:
        near = _joint_nearness(pose)
    result = np.asarray(_drawn(pose, size, near, strokes))
    return result if depth_map is None else _inside(result > 0, depth_map)


def limb_depth_frames(
    pose: PoseSequence, size: Size, *, style: str | SkeletonStyle = "dwpose"
) -> FrameSequence[np.float32]:
    """As :func:`draw_limb_depth`, from the depth of the joints, each frame drawn when asked for, once."""
    strokes = checked_style(style, size)
    return _drawn(pose, size, _joint_nearness(pose), strokes)


def _joint_nearness(pose: PoseSequence) -> NDArray[np.float64]:
    if pose.depth is None:
        raise InputError(
            "these poses have no depth; estimate them with --pose-estimator mediapipe, or give a depth map"
        )
    return _nearness(pose)


def _drawn(
    pose: PoseSequence, size: Size, near: NDArray[np.float64], strokes: SkeletonStyle
) -> FrameSequence[np.float32]:
    """The strokes in values of ``near`` ``(frames, 128)``."""
    points = pose.scaled_to(size).keypoints.astype(np.float64)

    def draw(frame: int) -> NDArray[np.float32]:
        canvas = np.zeros((size[1], size[0]), np.float32)
        painter = _Nearest(canvas.reshape(-1), size, strokes)
        for group in stroke_groups(pose.scores[frame] >= MIN_SCORE):
            painter.draw(group, points[frame], near[frame][group.points])
        return canvas

    return MadeFrames(len(pose), size[::-1], np.float32, draw, once=True)


class _Nearest(Strokes):
    """Paints nearness on a flat canvas; of all strokes on a pixel the nearest stays.

    A colour is here ``(strokes, 2)``, the values at both ends, or ``(strokes, 1)`` for dots.
    """

    def paint(self, start: NDArray, end: NDArray, radius: float, colour: NDArray, ellipse: bool) -> None:
        stroke, pixel, outside = self.covered(start, end, radius, ellipse)
        drawn = outside < 0.5 if self.smooth else outside <= 0
        stroke, pixel = stroke[drawn], pixel[drawn]
        along = (end - start)[stroke]
        centres = np.stack([pixel % self.size[0], pixel // self.size[0]], axis=1) + 0.5
        squared = np.maximum((along**2).sum(axis=1), 1e-9)
        share = np.clip(((centres - start[stroke]) * along).sum(axis=1) / squared, 0, 1)
        value = (1 - share) * colour[stroke, 0] + share * colour[stroke, -1]
        np.maximum.at(self.canvas, pixel, value.astype(np.float32))


def _nearness(pose: PoseSequence) -> NDArray[np.float64]:
    """``(frames, 128)`` in [0.1, 1] from the depth of the joints."""
    assert pose.depth is not None
    torso = clip_torso_length(pose)
    reach = REACH * (_UNMEASURED_TORSO if torso is None else torso / pose.size[1])
    return FARTHEST + (1 - FARTHEST) * np.clip(0.5 - np.nan_to_num(pose.depth) / (2 * reach), 0, 1)


def _inside(drawn: Mask, depth_map: NDArray[np.floating]) -> NDArray[np.float32]:
    """A depth map inside the skeleton, on one scale for the clip."""
    result = np.zeros(drawn.shape, np.float32)
    if not drawn.any():
        return result
    met = depth_map[drawn].astype(np.float64)
    nearest, farthest = np.quantile(met, [_OUTLIERS, 1 - _OUTLIERS])
    share = (met - nearest) / (farthest - nearest) if farthest > nearest else np.full(met.shape, 0.5)
    result[drawn] = FARTHEST + (1 - FARTHEST) * np.clip(1 - share, 0, 1)
    return result
