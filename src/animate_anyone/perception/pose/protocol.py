"""What every pose estimator can do, whoever's network is inside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import Picture, PoseSequence, Size


@runtime_checkable
class PoseEstimator(Protocol):
    """Finds the main person of a video, or of one picture.

    Every estimator keeps one person, and its points stay in the 128-point layout of
    :class:`PoseSequence`. Nothing but the poses is kept of a frame, so that memory does not grow
    with the pictures of a clip.
    """

    def estimate(
        self,
        frames: Iterable[Picture],
        size: Size,
        fps: Fraction,
        times: NDArray[np.float64] | None = None,
        progress: Progress = SILENT,
    ) -> PoseSequence:
        """The poses of a video.

        Args:
            frames: pictures ``(height, width, 3)`` uint8, RGB, in order; they are read once.
            size: ``(width, height)`` of the frames.
            fps: nominal frame rate, frames per second.
            times: ``(frames,)`` seconds, where the frames are not evenly spaced.
            progress: shown how far it is.

        Returns:
            One pose per frame, in pixels of ``size``; all scores 0 where nobody was found.

        Raises:
            InputError: there are no frames, or they are not of ``size``.
        """
        ...

    def estimate_picture(self, picture: Picture) -> PoseSequence | None:
        """The pose in one picture ``(height, width, 3)`` uint8, RGB, or ``None`` if nobody is found."""
        ...


def check_frame(frame: Picture, size: Size) -> None:
    """Raise :class:`InputError` unless the frame is an RGB picture of ``size`` (width, height)."""
    want = (size[1], size[0], 3)
    if frame.shape != want or frame.dtype != np.uint8:
        raise InputError(
            f"a frame of shape {frame.shape}, {frame.dtype}, in a video of {size[0]}x{size[1]}; "
            f"give RGB frames of shape {want}, uint8"
        )


def collect(
    poses: Sequence[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]],
    size: Size,
    fps: Fraction,
    times: NDArray[np.float64] | None,
) -> PoseSequence:
    """Poses ``(points, scores, depth)`` of single frames as one sequence."""
    if not poses:
        raise InputError("the video holds no frames, so no poses can be estimated; give a video with 1 frame or more")
    points, scores, depths = zip(*poses, strict=True)
    depth = None if any(d is None for d in depths) else np.stack(depths).astype(np.float32)
    return PoseSequence(
        np.stack(points).astype(np.float32), np.stack(scores).astype(np.float32), size, fps, times, depth
    )
