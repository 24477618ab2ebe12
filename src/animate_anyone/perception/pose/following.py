"""Keeps hold of one person through a video, and notices when the hold has slipped.

A network that follows from frame to frame is steady but can lock onto nonsense, above all with
half a body in view. Each of its poses is therefore weighed: can a body look so, and is it near
the pose before? If not, the frame is looked at closely by itself, and at last in all the ways
that a single picture is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import unscored_torso_length
from animate_anyone.conditions.skeleton import MIN_SCORE
from animate_anyone.perception.pose.picture_attempts import Attempt, attempts, best_pose, closer
from animate_anyone.perception.pose.single_pose import Pose, plausibility
from animate_anyone.structures import BODY

_ENOUGH = 0.6  # share of the last frame's plausibility under which another look is worth its time
_REACH = 0.3  # torso lengths that a body moves in one frame without raising doubt
_PATIENCE = 6  # frames between two thorough looks; each costs about ten quick ones
_MARGIN = 0.35


class Follower:
    """Follows one person.

    Args:
        follow: finds the person in a frame with the help of the frames before; may be wrong.
        look: fills an :class:`Attempt` with the pose seen in it, frame by frame for itself.
        restart: makes ``follow`` forget what it saw.
    """

    def __init__(
        self,
        follow: Callable[[NDArray[np.uint8]], Pose | None],
        look: Callable[[Attempt], Attempt],
        restart: Callable[[], None],
    ) -> None:
        self._follow, self._look, self._restart = follow, look, restart
        self._last: Pose | None = None
        self._since_thorough = _PATIENCE

    def next(self, frame: NDArray[np.uint8]) -> Pose | None:
        """The person's pose in the next frame ``(height, width, 3)``, or ``None``."""
        self._since_thorough += 1
        found = self._search(frame)
        if found is not None:
            self._last = found
        return found

    def _search(self, frame: NDArray[np.uint8]) -> Pose | None:
        if self._last is None:
            return self._thorough(frame) or self._follow(frame)
        wanted = _ENOUGH * plausibility(self._last)
        followed = self._follow(frame)
        if followed is not None and self._trust(followed) >= wanted:
            return followed
        self._restart()
        close = self._look(closer(frame, self._last, _MARGIN)).pose
        if close is not None and self._trust(close) >= wanted:
            return close
        # Neither is near the last pose: a cut, a leap, or nobody there any more.
        fresh = self._thorough(frame)
        known = [pose for pose in (fresh, close, followed) if pose is not None]
        return max(known, key=plausibility) if known else None

    def _trust(self, pose: Pose) -> float:
        assert self._last is not None
        both = np.minimum(pose[1], self._last[1])[BODY] >= MIN_SCORE
        if not both.any():
            return 0.0
        moved = np.hypot(*(pose[0] - self._last[0])[BODY][both].T)
        return plausibility(pose) * float(np.exp(-np.median(moved) / (_REACH * unscored_torso_length(self._last[0]))))

    def _thorough(self, frame: NDArray[np.uint8]) -> Pose | None:
        if self._since_thorough < _PATIENCE:
            return None
        self._since_thorough = 0
        return look_thoroughly(frame, self._look)


def look_thoroughly(picture: NDArray[np.uint8], look: Callable[[Attempt], Attempt]) -> Pose | None:
    """The pose in one picture, tried in all the ways of :func:`attempts`, or ``None`` for nobody."""
    tried = [look(attempt) for attempt in attempts(picture)]
    first = best_pose(tried)
    if first is None:
        return None
    return best_pose(tried + [look(attempt) for attempt in attempts(picture, around=first)])
