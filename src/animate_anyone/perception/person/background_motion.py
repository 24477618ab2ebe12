"""How the background of a video moves from frame to frame, as a shift, turn and scale of the whole picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from animate_anyone.perception.classical import cv2
from animate_anyone.perception.person.body_hull import body_hulls
from animate_anyone.structures import Mask, Masks, Picture, Pictures, PoseSequence

_MOST_CORNERS, _MIN_CORNERS = 300, 12
_AGREE = 0.5  # share of the corners that must move alike
_STILL = 2.0  # mean difference, of 255, of a background without corners that has not moved


class Background:
    """How the background moves, by corners outside the person; ``None`` where there are too few of them.

    Args:
        frames: ``(height, width, 3)`` uint8, RGB.
        masks: ``(frames, height, width)`` bool, the person's.
        pose: the person's, in pixels of the frames.
    """

    def __init__(self, frames: Sequence[Picture] | Pictures, masks: Masks, pose: PoseSequence) -> None:
        # Of every frame: the stretch of frames without a break that it is in, and the way to it from where that begins.
        self._ways: list[tuple[int, NDArray[np.float64]]] = [(0, np.eye(3))]
        then = cv2.cvtColor(frames[0], cv2.COLOR_RGB2GRAY)
        for number in range(len(frames) - 1):
            now, then = then, cv2.cvtColor(frames[number + 1], cv2.COLOR_RGB2GRAY)
            _, maybe = body_hulls(pose.keypoints[number], pose.scores[number], pose.size)
            step = _step(now, then, ~masks[number] & ~maybe)
            stretch, way = self._ways[-1]
            self._ways.append((stretch + 1, np.eye(3)) if step is None else (stretch, step @ way))

    def between(self, start: int, end: int) -> NDArray[np.float64] | None:
        """``(3, 3)``: takes pixels ``(x, y, 1)`` of frame ``start`` to where they are in frame ``end``."""
        (before, there), (after, further) = self._ways[start], self._ways[end]
        return further @ np.linalg.inv(there) if before == after else None


def _step(now: Picture, then: Picture, outside: Mask) -> NDArray[np.float64] | None:
    """The background's shift, turn and scale from one grey picture to the next."""
    corners = cv2.goodFeaturesToTrack(now, _MOST_CORNERS, 0.01, 5, mask=outside.astype(np.uint8))
    if corners is None or len(corners) < _MIN_CORNERS:
        at_rest = outside.any() and cv2.absdiff(now, then)[outside].mean() < _STILL
        return np.eye(3) if at_rest else None
    moved, ok, _ = cv2.calcOpticalFlowPyrLK(now, then, corners, None)
    returned, ok_too, _ = cv2.calcOpticalFlowPyrLK(then, now, moved, None)
    good = (ok[:, 0] > 0) & (ok_too[:, 0] > 0) & (np.linalg.norm((returned - corners)[:, 0], axis=1) < 1)
    if good.sum() < _MIN_CORNERS:
        return None
    step, agree = cv2.estimateAffinePartial2D(corners[good], moved[good], ransacReprojThreshold=1.0)
    return None if step is None or agree.mean() < _AGREE else np.vstack([step, [0, 0, 1]])
