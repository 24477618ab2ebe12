"""Quality report of estimated poses: missing frames, mean scores, sudden jumps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import clip_torso_length
from animate_anyone.conditions.frame_ranges import ranges, runs
from animate_anyone.conditions.skeleton import MIN_SCORE, is_person
from animate_anyone.errors import InputError
from animate_anyone.structures import BODY, FACE, LEFT_HAND, RIGHT_HAND, PoseSequence

_JUMP = 0.5  # torso lengths that half the body's points move from one frame to the next
_GROUPS = {"body": BODY, "left hand": LEFT_HAND, "right hand": RIGHT_HAND, "face": FACE}


@dataclass(frozen=True)
class PoseQuality:
    """What :func:`report` found.

    Attributes:
        frames: number of frames looked at.
        missing: half-open ranges of frames ``(first, stop)`` without a person.
        seen_in: share of the frames with a person in which each group is there, in [0, 1].
        confidence: mean score of each group where it is there, in [0, 1].
        out_of_view: share of the body's points, in frames with a person, that are hidden or
            outside the frame, in [0, 1].
        jumps: frames before which the body leaps: a cut, or the estimator took somebody else.
    """

    frames: int
    missing: tuple[tuple[int, int], ...]
    seen_in: dict[str, float]
    confidence: dict[str, float]
    out_of_view: float
    jumps: tuple[int, ...]

    @property
    def found(self) -> int:
        """Number of frames with a person."""
        return self.frames - sum(stop - first for first, stop in self.missing)

    def lines(self) -> list[str]:
        """The report for people, a few lines."""
        lines = [f"person found in {self.found} of {self.frames} frames"]
        if self.missing:
            lines[0] += f"; nobody in {ranges(self.missing)}"
        groups = (f"{name} in {self.seen_in[name]:.0%} ({self.confidence[name]:.2f})" for name in self.seen_in)
        lines.append(f"seen (mean score): {', '.join(groups)}")
        lines.append(f"body points out of view: {self.out_of_view:.0%}")
        if self.jumps:
            lines.append(f"sudden jumps before frame {ranges([(frame, frame + 1) for frame in self.jumps])}")
        return lines

    def check(self, least: float = 0.25, hint: str = "") -> None:
        """Raise :class:`InputError` if a person was found in less than this share of the frames.

        ``hint`` is what else there is to try where nobody was found at all.
        """
        if self.found == 0:
            raise InputError(
                f"no person was found in any of the {self.frames} frames; give one in which a person is well "
                f"visible, or try another estimator: --pose-estimator rtmlib{hint}"
            )
        if self.found < least * self.frames:
            raise InputError(
                f"a person was found in only {self.found} of {self.frames} frames, and {least:.0%} are needed; "
                "choose a better part with --frames A:B, or try another estimator: --pose-estimator rtmlib"
            )


def report(pose: PoseSequence) -> PoseQuality:
    """Look a pose sequence over. It may hold any number of frames, none included."""
    there = pose.scores >= MIN_SCORE
    person = is_person(pose.scores)
    seen_in, confidence = {}, {}
    for name, group in _GROUPS.items():
        present = person & (there[:, group].mean(axis=1) >= 0.2)
        seen_in[name] = float(present.sum() / max(person.sum(), 1))
        confidence[name] = float(pose.scores[present][:, group].mean()) if present.any() else 0.0
    points = pose.keypoints[:, BODY]
    inside = ((points >= 0) & (points <= pose.size)).all(axis=-1)
    visible = (there[:, BODY] & inside)[person]
    return PoseQuality(
        frames=len(pose),
        missing=tuple(runs(~person)),
        seen_in=seen_in,
        confidence=confidence,
        out_of_view=float(1 - visible.mean()) if visible.size else 1.0,
        jumps=_jumps(pose, there[:, BODY], person),
    )


def _jumps(pose: PoseSequence, there: NDArray[np.bool_], person: NDArray[np.bool_]) -> tuple[int, ...]:
    torso = clip_torso_length(pose)
    if torso is None:
        return ()
    jumps = []
    for frame in range(1, len(pose)):
        both = there[frame] & there[frame - 1]
        if person[frame] and person[frame - 1] and both.any():
            moved = np.linalg.norm(pose.keypoints[frame, BODY] - pose.keypoints[frame - 1, BODY], axis=1)[both]
            if np.median(moved) > _JUMP * torso:
                jumps.append(frame)
    return tuple(jumps)
