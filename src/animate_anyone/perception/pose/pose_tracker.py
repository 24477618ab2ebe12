"""Tracks one person through a video, and searches single frames again where the tracked pose is implausible.

A network that tracks from frame to frame gives steady poses, but may go on tracking something that is no body, above
all where half of a body is in view. So each of its poses is rated by its proportions and by its distance from the pose
before. Below the limit the frame is searched again around the last pose, without the tracker's memory; where that
fails too, by all the attempts of :func:`~.picture_attempts.attempts`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from animate_anyone.conditions.body_lengths import unscored_torso_length
from animate_anyone.conditions.skeleton import MIN_SCORE
from animate_anyone.perception.pose.picture_attempts import Attempt, attempts, best_pose, closer
from animate_anyone.perception.pose.single_pose import Pose, plausibility
from animate_anyone.structures import BODY, Picture

_ENOUGH = 0.6  # share of the last pose's plausibility below which the frame is searched again
_REACH = 0.3  # torso lengths of movement in one frame that lower the rating by a factor of e
_PATIENCE = 6  # frames between two searches by all attempts, each of which takes about ten times as long as tracking
_MARGIN = 0.35
_LOOKS = 3  # at one frame, in which the tracker comes to rest


class PoseTracker:
    """Tracks one person.

    Args:
        track: finds the person in a frame with the help of the frames before; may be wrong.
        look: fills an :class:`Attempt` with the pose seen in it, frame by frame for itself.
        restart: clears what ``track`` remembers of the frames before.
    """

    def __init__(
        self, track: Callable[[Picture], Pose | None], look: Callable[[Attempt], Attempt], restart: Callable[[], None]
    ) -> None:
        self._track, self._look, self._restart = track, look, restart
        self._last: Pose | None = None
        self._since_thorough = _PATIENCE

    def next(self, frame: Picture) -> Pose | None:
        """The person's pose in the next frame ``(height, width, 3)``, or ``None``."""
        self._since_thorough += 1
        found = self._search(frame)
        if found is not None:
            self._last = found
        return found

    def _search(self, frame: Picture) -> Pose | None:
        if self._last is None:
            return self._settled(frame, self._thorough(frame))
        tracked = self._track(frame)
        if _follows(tracked, self._last):
            return tracked
        self._restart()
        close = self._look(closer(frame, self._last, _MARGIN)).pose
        if _follows(close, self._last):
            return close
        # Neither pose is near the last one: a cut, a fast movement, or nobody is in the frame.
        fresh = self._thorough(frame)
        known = [pose for pose in (fresh, close, tracked) if pose is not None]
        return self._settled(frame, max(known, key=plausibility)) if known else None

    def _settled(self, frame: Picture, found: Pose | None) -> Pose | None:
        """The pose as the frames after this one will be seen.

        Points that a network finds depend on where it looks: from one look to the next the tracker's place comes to
        rest. Without this the joints would jump between the first frame and the second.
        """
        tracked = self._track(frame)
        for _ in range(_LOOKS - 1 if tracked is not None else 0):
            tracked = self._track(frame)
        return tracked if found is None or _follows(tracked, found) else found

    def _thorough(self, frame: Picture) -> Pose | None:
        if self._since_thorough < _PATIENCE:
            return None
        self._since_thorough = 0
        return look_thoroughly(frame, self._look)


def _follows(pose: Pose | None, last: Pose) -> bool:
    """Whether a pose can be that of the person of another one, a frame before."""
    if pose is None:
        return False
    both = np.minimum(pose[1], last[1])[BODY] >= MIN_SCORE
    if not both.any():
        return False
    moved = np.hypot(*(pose[0] - last[0])[BODY][both].T)
    near = float(np.exp(-np.median(moved) / (_REACH * unscored_torso_length(last[0]))))
    return plausibility(pose) * near >= _ENOUGH * plausibility(last)


def look_thoroughly(picture: Picture, look: Callable[[Attempt], Attempt]) -> Pose | None:
    """The pose in one picture, tried in all the ways of :func:`attempts`, or ``None`` for nobody."""
    tried = [look(attempt) for attempt in attempts(picture)]
    first = best_pose(tried)
    if first is None:
        return None
    return best_pose(tried + [look(attempt) for attempt in attempts(picture, around=first)])
