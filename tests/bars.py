"""People as bars in their clothes, and an estimator that sees the one farthest to the right: who is who is known."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.progress import SILENT
from animate_anyone.structures import PoseSequence
from people import person

SIZE = (400, 240)
CLOTHES = ((220, 40, 40), (40, 60, 220))
TORSO = 50.0


def picture_of(places: Iterable[float | None]) -> NDArray[np.uint8]:
    """Bars ``(240, 400, 3)``, their middles at these columns, the first on top; ``None``: not there."""
    picture = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    for clothes, x in reversed(list(zip(CLOTHES, places, strict=False))):
        if x is not None:
            picture[40:220, max(int(x - 25), 0) : int(x + 25)] = clothes
    return picture


class RightmostFirst:
    """A pose estimator that sees the person farthest to the right. The one in red is the larger."""

    def estimate_picture(self, picture: NDArray[np.uint8]) -> PoseSequence | None:
        best, pose = -1.0, None
        for number, clothes in enumerate(CLOTHES):
            rows, columns = np.nonzero((picture == clothes).all(axis=2))
            if len(columns) > 1500 and columns.mean() > best:
                best = float(columns.mean())
                size = (picture.shape[1], picture.shape[0])
                pose = person(1, size, torso=TORSO - 8 * number, neck=(best + 0.5, rows.min() + 30.0))
        return pose

    def estimate(
        self, frames: Iterable[Any], size: tuple[int, int], fps: Fraction, times: Any = None, progress: Any = SILENT
    ) -> PoseSequence:
        seen = [self.estimate_picture(frame) for frame in frames]
        nobody = person(1, size)
        points = np.concatenate([(pose or nobody).keypoints for pose in seen])
        scores = np.stack([np.full(128, pose is not None, np.float32) for pose in seen])
        return PoseSequence(points, scores, size, fps, times)
