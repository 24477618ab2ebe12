"""Temporal clean-up of estimated poses: exchanged sides, displaced hips, outliers, gaps, jitter.

All filters are centred: they use later frames too, and so do not lag. Times are in
seconds and distances in torso lengths of the person, so that neither frame rate nor resolution
changes what a setting means. Functions return a new :class:`PoseSequence`; sizes and times stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import clip_torso_length
from animate_anyone.conditions.frame_ranges import runs
from animate_anyone.conditions.skeleton import JOINT, MIN_SCORE
from animate_anyone.errors import InputError
from animate_anyone.structures import BODY, FACE, LEFT_HAND, NUM_KEYPOINTS, RIGHT_HAND, PoseSequence

Series = NDArray[np.float64]
"""Values over time, ``(frames, ...)``."""

# Points that swap sides together: (left, right).
_ARMS = [(JOINT[f"left_{name}"], JOINT[f"right_{name}"]) for name in ("shoulder", "elbow", "wrist")]
_LEGS = [(JOINT[f"left_{name}"], JOINT[f"right_{name}"]) for name in ("hip", "knee", "ankle")]
_HANDS = list(zip(range(LEFT_HAND.start, LEFT_HAND.stop), range(RIGHT_HAND.start, RIGHT_HAND.stop), strict=True))
# Groups of points and the joint of the body that they are attached to.
_ATTACHED = ((LEFT_HAND, JOINT["left_wrist"]), (RIGHT_HAND, JOINT["right_wrist"]), (FACE, JOINT["nose"]))

_ABOUT = 0.5  # seconds
_AT_ONCE = 16  # points that are smoothed together: of a long clip each takes many sums


@dataclass(frozen=True)
class Smoothing:
    """Settings of :func:`clean`.

    Attributes:
        longest_swap: left and right taken for each other for longer than this are left alone, seconds.
        jump: a point that leaps this far from its neighbours for one frame is dropped, torso lengths.
        trunk: hips are dropped where the trunk is longer or shorter than it mostly is about that time by more than
            this share of it.
        longest_gap: missing points are filled in if they are back within this time, seconds.
        shortest_stay: points that are there for less than this, alone, are dropped, seconds.
        narrow: half the time over which fast movement is smoothed, seconds.
        wide: half the time over which slow movement is smoothed, seconds.
        jitter: deviations from slow movement below this count as jitter, torso lengths (body
            points; a third of it for hands and face).
    """

    longest_swap: float = 0.5
    jump: float = 0.2
    trunk: float = 0.2
    longest_gap: float = 0.34
    shortest_stay: float = 0.07
    narrow: float = 0.12
    wide: float = 0.35
    jitter: float = 0.02

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < np.inf:
                raise InputError(f"Smoothing.{name} is {value}; give a number from 0 up")
        if self.narrow > self.wide:
            raise InputError(f"Smoothing.narrow ({self.narrow}) exceeds wide ({self.wide}); give a smaller one")


def clean(pose: PoseSequence, settings: Smoothing | None = None) -> PoseSequence:
    """Exchanged sides, displaced hips, outliers, gaps, short appearances and jitter, in this order.

    ``settings`` ``None``: the default ones.
    """
    settings = settings or Smoothing()
    pose = fix_swaps(pose, settings.longest_swap)
    pose = drop_displaced_hips(pose, settings.trunk)
    pose = drop_outliers(pose, settings.jump)
    pose = fill_gaps(pose, settings.longest_gap)
    pose = drop_flashes(pose, settings.shortest_stay)
    return smooth(pose, settings)


def fix_swaps(pose: PoseSequence, longest: float = 0.5) -> PoseSequence:
    """Undo exchanged left and right arms or legs that last at most ``longest`` seconds.

    A swap shows as a leap of several points that vanishes when the sides are exchanged. One that
    stays longer may be a person who turned round, and is left as the estimator has it.
    """
    size = clip_torso_length(pose)
    if size is None or len(pose) < 3:
        return pose
    times = pose.seconds
    order = np.tile(np.arange(NUM_KEYPOINTS), (len(pose), 1))
    for pairs, along in ((_ARMS, _HANDS), (_LEGS, [])):
        swapped = _swapped(pose, pairs, size)
        for first, stop in runs(swapped):
            end = times[stop] if stop < len(times) else np.inf
            if end - times[first] > longest + 1e-6:
                continue
            for left, right in pairs + along:
                order[first:stop, left], order[first:stop, right] = right, left
    rows = np.arange(len(pose))[:, None]
    return replace(
        pose,
        keypoints=pose.keypoints[rows, order],
        scores=pose.scores[rows, order],
        depth=None if pose.depth is None else pose.depth[rows, order],
    )


def drop_outliers(pose: PoseSequence, jump: float = 0.2) -> PoseSequence:
    """Mark as missing a point that leaps away for one frame and is back in the next.

    ``jump``, torso lengths, is how far it may be from where its neighbours would have it, both by
    the straight line between the nearest two and by the curve through the nearest four: a fast
    wave leaves the line at its turning points, but not the curve. Without the curve twice as much
    is allowed.
    """
    size = clip_torso_length(pose)
    if size is None or len(pose) < 3:
        return pose
    points, seen = pose.keypoints, pose.scores > 0
    before, now, after = points[:-2], points[1:-1], points[2:]
    away = np.linalg.norm(now - (before + after) / 2, axis=-1)
    leap = away / 2
    if len(pose) >= 5:
        curve = (4 * (points[1:-3] + points[3:-1]) - points[:-4] - points[4:]) / 6
        known = seen[:-4] & seen[4:]
        bent = np.linalg.norm(points[2:-2] - curve, axis=-1)
        leap[1:-1] = np.where(known, np.minimum(away[1:-1], bent), leap[1:-1])
    outlier = (leap > jump * size) & seen[:-2] & seen[1:-1] & seen[2:]
    # An outlier makes its two neighbours look displaced as well: of outliers in a row only the largest is dropped.
    worst = np.pad(np.where(outlier, leap, 0), ((1, 1), (0, 0)))
    outlier &= (worst[1:-1] >= worst[:-2]) & (worst[1:-1] >= worst[2:])
    scores = pose.scores.copy()
    scores[1:-1][outlier] = 0
    return replace(pose, scores=scores)


def drop_displaced_hips(pose: PoseSequence, share: float = 0.2) -> PoseSequence:
    """Mark hips as missing in the frames in which they make the trunk longer or shorter for a moment.

    The trunk's length is held against its median over :data:`_ABOUT` seconds before and after. Somebody who bows as
    shortly as that moves the shoulders and hardly the hips, which are filled in where they were.
    """
    neck, hips = JOINT["neck"], [JOINT["right_hip"], JOINT["left_hip"]]
    seen = (pose.scores[:, [neck, *hips]] >= MIN_SCORE).all(1)
    if seen.sum() < 3:
        return pose
    lengths = np.linalg.norm(pose.keypoints[:, hips].mean(1) - pose.keypoints[:, neck], axis=-1)
    scores, times = pose.scores.copy(), pose.seconds
    for frame in np.flatnonzero(seen):
        usual = np.median(lengths[seen & (np.abs(times - times[frame]) <= _ABOUT)])
        if abs(lengths[frame] - usual) > share * usual:
            scores[frame, hips] = 0
    return replace(pose, scores=scores)


def fill_gaps(pose: PoseSequence, longest: float = 0.34) -> PoseSequence:
    """Fill in points that are missing for at most ``longest`` seconds; longer gaps get score 0.

    Points of the body go straight from where they were to where they are again, hands and face
    move with their wrist or nose meanwhile. The score is the lower one of both ends.
    """
    values = _values(pose)
    scores = pose.scores.astype(np.float64)
    times = pose.seconds
    for point in range(BODY.start, BODY.stop):
        _fill(values[:, point], scores[:, point], times, longest)
    for group, joint in _ATTACHED:
        held = scores[:, joint] >= MIN_SCORE
        attachment = np.where(held[:, None], values[:, joint], 0)
        for point in range(group.start, group.stop):
            relative = values[:, point] - attachment
            _fill(relative, scores[:, point], times, longest, held)
            values[:, point] = relative + attachment
    scores[scores < MIN_SCORE] = 0
    return _with(pose, values, scores)


def drop_flashes(pose: PoseSequence, shortest: float = 0.07) -> PoseSequence:
    """Drop hands, faces and joints that appear for less than ``shortest`` seconds between gaps."""
    times = pose.seconds
    scores = pose.scores.copy()
    for point in range(NUM_KEYPOINTS):
        for first, stop in runs(scores[:, point] >= MIN_SCORE):
            if first > 0 and stop < len(times) and times[stop] - times[first] < shortest:
                scores[first:stop, point] = 0
    return replace(pose, scores=scores)


def smooth(pose: PoseSequence, settings: Smoothing | None = None) -> PoseSequence:
    """Remove jitter without reducing the amplitude of fast movement.

    Around each frame a parabola is fitted to the neighbours in time, weighted by their scores:
    once over a narrow window, once over a wide one. Both are symmetric, so neither lags. Where
    the two differ by no more than jitter would, the wide, smoother one counts; where the person
    really moves, the narrow one. Missing points stay missing.
    """
    settings = settings or Smoothing()
    size = clip_torso_length(pose)
    if size is None or len(pose) < 3:
        return pose
    values, times = _values(pose), pose.seconds
    weights = np.where(pose.scores >= MIN_SCORE, pose.scores, 0).astype(np.float64)
    jitter = np.full(NUM_KEYPOINTS, settings.jitter * size)
    jitter[BODY.stop :] /= 3
    for first in range(0, NUM_KEYPOINTS, _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        own, weight = values[:, part], weights[:, part]
        narrow = _parabolas(own, weight, times, settings.narrow)
        wide = _parabolas(own, weight, times, settings.wide)
        apart = np.linalg.norm((wide - narrow)[..., :2], axis=-1) / np.maximum(jitter[part], 1e-9)
        # Less than jitter: wide. From twice as much on: narrow.
        fast = np.clip(apart - 1, 0, 1)[..., None]
        result = fast * narrow + (1 - fast) * wide
        values[:, part] = np.where(weight[..., None] > 0, result, own)
    return _with(pose, values, pose.scores)


def _parabolas(values: Series, weights: Series, times: Series, reach: float) -> Series:
    """At each frame the middle of the parabola fitted to the frames within ``reach`` seconds.

    ``values`` is ``(frames, points, d)``, ``weights`` ``(frames, points)``. Where too few points
    are there for a parabola, the value stays.
    """
    frames, points, dims = values.shape
    if reach <= 0:
        return values
    moments = np.zeros((5, frames, points))
    sums = np.zeros((3, frames, points, dims))
    step = np.median(np.diff(times))
    for offset in range(-int(reach / step) - 1, int(reach / step) + 2):
        rows = np.arange(max(0, -offset), min(frames, frames - offset))
        when = (times[rows + offset] - times[rows]) / reach
        near = np.clip(1 - np.abs(when) ** 3, 0, 1) ** 3  # tricube
        share = near[:, None] * weights[rows + offset]
        for power in range(5):
            moments[power, rows] += share * when[:, None] ** power
            if power < 3:
                sums[power, rows] += (share * when[:, None] ** power)[..., None] * values[rows + offset]
    m0, m1, m2, m3, m4 = moments
    # Cramer's rule for the constant term of the weighted least squares fit.
    one, two, three = m2 * m4 - m3**2, m2 * m3 - m1 * m4, m1 * m3 - m2**2
    determinant = m0 * one + m1 * two + m2 * three
    enough = determinant > 1e-9 * np.maximum(m0, 1e-12) ** 3
    fitted = one[..., None] * sums[0] + two[..., None] * sums[1] + three[..., None] * sums[2]
    return np.where(enough[..., None], fitted / np.where(enough, determinant, 1)[..., None], values)


def _swapped(pose: PoseSequence, pairs: list[tuple[int, int]], size: float) -> NDArray[np.bool_]:
    """``(frames,)``: whether the sides of these pairs are exchanged, as against the frames before."""
    straight = [joint for pair in pairs for joint in pair]
    crossed = [joint for pair in pairs for joint in pair[::-1]]
    last = pose.keypoints[0, straight].copy()
    known = pose.scores[0, straight] >= MIN_SCORE
    swapped = np.zeros(len(pose), bool)
    for frame in range(1, len(pose)):
        options = []
        for joints in (straight, crossed):
            points, seen = pose.keypoints[frame, joints], pose.scores[frame, joints] >= MIN_SCORE
            both = seen & known
            moved = np.linalg.norm(points - last, axis=-1)[both].mean() if both.sum() >= 4 else np.inf
            options.append((moved, points, seen))
        (stay, *_), (cross, *_) = options
        swapped[frame] = np.isfinite(stay + cross) and stay > 0.1 * size and cross < 0.5 * stay
        _, points, seen = options[int(swapped[frame])]
        last = np.where(seen[:, None], points, last)
        known = known | seen
    return swapped


def _fill(
    values: Series, scores: Series, times: Series, longest: float, usable: NDArray[np.bool_] | None = None
) -> None:
    """Fill the gaps of one point, ``(frames, d)``, in place, where ``usable`` holds throughout."""
    for first, stop in runs(scores < MIN_SCORE):
        before, after = first - 1, stop
        if before < 0 or after >= len(times) or times[after] - times[before] > longest + 1e-6:
            continue
        if usable is not None and not usable[before : after + 1].all():
            continue
        share = (times[first:stop] - times[before]) / (times[after] - times[before])
        values[first:stop] = values[before] + share[:, None] * (values[after] - values[before])
        scores[first:stop] = min(scores[before], scores[after])


def _values(pose: PoseSequence) -> Series:
    """``(frames, points, 2 or 3)``: pixels and, if there, depth in frame heights."""
    if pose.depth is None:
        return pose.keypoints.astype(np.float64)
    return np.concatenate([pose.keypoints, pose.depth[..., None]], axis=-1).astype(np.float64)


def _with(pose: PoseSequence, values: Series, scores: NDArray[np.floating]) -> PoseSequence:
    return replace(
        pose,
        keypoints=values[..., :2].astype(np.float32),
        scores=scores.astype(np.float32),
        depth=None if pose.depth is None else values[..., 2].astype(np.float32),
    )
