"""Re-identification of one person among others in a video, by the last position and by the colours on the body."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import frame_torso_length
from animate_anyone.conditions.skeleton import MIN_SCORE, is_person
from animate_anyone.perception.classical import cv2, shrink
from animate_anyone.perception.colour_histogram import colour_histogram, likeness
from animate_anyone.perception.person.body_hull import body_hulls
from animate_anyone.structures import BODY, Picture, PoseSequence

_SIDE = 256  # longer side of the pictures in which colours are counted
_BINS = (8, 16, 16)  # of lightness and the two colour axes
_LEARN = 0.1  # share of a new frame in what is known of somebody's colours
_LEAP, _SPEED = 0.4, 2.0  # torso lengths between the points of one person, at once and a second
_FARTHEST = 1.2
_GROWTH = 1.5  # how much larger or smaller the torso may be at once
_CLEARLY = 0.08  # likeness by which somebody else must be nearer in colours
_ALIKE, _ALONE = 0.75, 0.6  # likeness from which somebody elsewhere may be the person, among others or alone
_DIFFERENT = 0.85  # likeness under which somebody is worth remembering as another


def colours(frame: Picture, pose: PoseSequence) -> NDArray[np.float32] | None:
    """How often each colour is there on the body of a one-frame ``pose``; sums to 1. ``None`` where no body is."""
    small = shrink(frame, _SIDE)
    size = (small.shape[1], small.shape[0])
    scaled = pose.scaled_to(size)
    body, _ = body_hulls(scaled.keypoints[0], scaled.scores[0], size)
    if body.sum() < 20:
        return None
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)[body]
    counts = colour_histogram(lab, _BINS, "nearest").astype(np.float32)
    return np.asarray(counts / counts.sum())


def joints_apart(one: PoseSequence, other: PoseSequence) -> float:
    """Median distance, pixels, between the body's joints that two one-frame poses share; infinite where none is."""
    both = np.minimum(one.scores[0], other.scores[0])[BODY] >= MIN_SCORE
    apart = np.linalg.norm((one.keypoints - other.keypoints)[0, BODY][both], axis=1)
    return float(np.median(apart)) if both.any() else np.inf


class PersonAppearance:
    """Decides whether a pose is the tracked person's, by position and colours.

    Args:
        frame: a frame ``(height, width, 3)`` uint8 with all of them.
        pose: the person's there, one frame.
        others: those of the others there.
    """

    def __init__(self, frame: Picture, pose: PoseSequence, others: Sequence[PoseSequence] = ()) -> None:
        self.last = pose
        self._own = colours(frame, pose)
        self._others = [known for other in others if (known := colours(frame, other)) is not None]

    def here(self, frame: Picture, pose: PoseSequence, seconds: float) -> bool:
        """Whether a pose is the person's, ``seconds`` after the last: it is near, and nobody else's by its colours."""
        return bool(is_person(pose.scores[0])) and self.near(pose, seconds) and self._own_by(frame, pose, least=0.0)

    def again(self, frame: Picture, pose: PoseSequence) -> bool:
        """Whether a pose at another place is the person's, by its colours."""
        return bool(is_person(pose.scores[0])) and self._own_by(frame, pose, least=_ALIKE if self._others else _ALONE)

    def near(self, pose: PoseSequence, seconds: float) -> bool:
        """Whether the person can have got there in this time."""
        torsos = [frame_torso_length(p.keypoints[0], p.scores[0]) for p in (pose, self.last)]
        reach = min(_LEAP + _SPEED * seconds, _FARTHEST) * max(torsos)
        return joints_apart(pose, self.last) < reach and max(torsos) < _GROWTH * (1 + seconds) * min(torsos)

    def accept(self, frame: Picture, pose: PoseSequence) -> None:
        """Take this pose for the person's last one, and learn its colours."""
        self.last = pose
        seen = colours(frame, pose)
        if self._own is None:
            self._own = seen
        elif seen is not None:
            self._own = (1 - _LEARN) * self._own + _LEARN * seen

    def learn_other(self, frame: Picture, pose: PoseSequence) -> None:
        """Remember somebody who is not the person, unless that one is known or looks like the person."""
        seen = colours(frame, pose)
        if seen is None or self._own is None or likeness(seen, self._own) > _DIFFERENT:
            return
        if all(likeness(seen, other) < _DIFFERENT for other in self._others):
            self._others.append(seen)

    def _own_by(self, frame: Picture, pose: PoseSequence, least: float) -> bool:
        if self._own is None or (least == 0 and not self._others):
            return True
        seen = colours(frame, pose)
        if seen is None:
            return least == 0
        own = likeness(seen, self._own)
        return own >= least and all(likeness(seen, other) <= own + _CLEARLY for other in self._others)
