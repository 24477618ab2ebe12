"""Depth of keypoints from maps of depth (AA2): measured inside the skeleton only, brought to a pose's own unit.

A map holds one value a pixel, of unknown zero and unit, or three: x, y and z of one unit. Only what is seen along
the limbs is kept of it, so that no outline of the person comes through.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import (
    AVERAGE_BODY,
    BONES,
    HIPS,
    SHOULDERS,
    clip_torso_length,
    frame_torso_length,
    growth,
    measure,
)
from animate_anyone.conditions.skeleton import BODY_LIMBS, JOINT, MIN_SCORE
from animate_anyone.errors import InputError
from animate_anyone.structures import BODY, FACE, LEFT_HAND, NUM_KEYPOINTS, RIGHT_HAND, PoseSequence

UNMEASURED_TORSO = 0.25
"""Frame heights of a torso that is never seen."""

MOST_SPREAD = 2.0
"""Torso lengths from the nearest to the farthest of a clip's joints, at most: beyond, the unit was taken wrongly."""

FLAT_SPREAD = 0.5
"""That spread where no limb is foreshortened, from which a unit would follow."""

_DISC, _SMALL_DISC = 0.04, 0.015  # torso lengths: radius of what is looked at around a point of the body, of a part
_SHARES = np.linspace(0, 1, 9)  # of a limb's length, where it is looked at
_LEAST_SEEN = 4  # of those, that must lie in the map
_FORESHORTENED = 0.7  # seen length of a bone over its true one, below which its depth follows from both
_LEAST_BONES = 3  # bones so foreshortened, over all frames
_OUTLIERS = 0.05  # share of the joints, at either end, that do not count for the spread
_PART_REACH = 0.5  # torso lengths by which a hand, face, eye or ear may be deeper than its wrist or nose
_LIMB_BONES = ("upper_arm", "forearm", "thigh", "shin")
_PARTS = (
    (LEFT_HAND, JOINT["left_wrist"]),
    (RIGHT_HAND, JOINT["right_wrist"]),
    (FACE, JOINT["nose"]),
    (slice(JOINT["right_eye"], JOINT["left_ear"] + 1), JOINT["nose"]),
)


def sample_joints(
    planes: NDArray[np.floating], points: NDArray[np.floating], scores: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What a map holds at the keypoints of one frame.

    Each limb of which both ends are seen is looked at in nine places, the median of a small disc in each; a line
    through them that minds no outliers (Theil and Sen) gives the values at its ends. A limb that another one crosses,
    or an end that lies just beside the body, thus gives its own depth. A joint takes the median of its limbs; one
    without, and points of hands and face, take their own disc.

    Args:
        planes: ``(c, height, width)``, larger is farther.
        points: ``(128, 2)``, pixels of the map.
        scores: ``(128,)``; what is below ``MIN_SCORE`` is hidden, and left out.

    Returns:
        ``(128, c)``, NaN where nothing was measured.
    """
    seen, torso = scores >= MIN_SCORE, frame_torso_length(points, scores)
    found = np.full((NUM_KEYPOINTS, len(planes)), np.nan)
    there = np.flatnonzero(seen)
    is_body = there < BODY.stop
    for group, disc in ((there[is_body], _DISC), (there[~is_body], _SMALL_DISC)):
        found[group] = _disc_medians(planes, points[group], disc * torso)
    ends: dict[int, list[NDArray[np.float64]]] = {}
    for start, end in BODY_LIMBS:
        if not (seen[start] and seen[end]):
            continue
        places = points[start] + _SHARES[:, None] * (points[end] - points[start])
        line = _line_ends(_disc_medians(planes, places, _DISC * torso))
        if line is not None:
            ends.setdefault(start, []).append(line[0])
            ends.setdefault(end, []).append(line[1])
    for joint, values in ends.items():
        found[joint] = np.median(values, axis=0)
    return found


def with_joint_depth(pose: PoseSequence, samples: NDArray[np.floating]) -> PoseSequence:
    """Poses with the depth of their keypoints, in frame heights, 0 at the hips, larger is farther.

    The zero of each frame is the middle of the hips; where neither is seen, the shoulders'. The clip has one unit:

    - of maps with x, y and z: the torso's length in the map is the torso's length in the picture;
    - of maps with z alone: a bone that is seen shorter than it is lies as much deeper at one end as its true length
      says (its largest over the clip, or an average body's share of the torso); the median over all such bones. Where
      there are none, nearest and farthest joint are :data:`FLAT_SPREAD` torso lengths apart.

    What was not measured in a frame is interpolated over time.

    Args:
        pose: the poses; a depth of theirs is replaced.
        samples: ``(frames, 128, c)`` of :func:`sample_joints`, ``c`` 1 or 3.
    """
    if samples.shape[:2] != pose.scores.shape or samples.shape[2] not in (1, 3):
        raise InputError(f"samples have shape {samples.shape}; give {(*pose.scores.shape, 1)}, or 3 for x, y and z")
    samples = samples.astype(np.float64)
    flat = replace(pose, depth=None)
    torso = clip_torso_length(flat) or UNMEASURED_TORSO * pose.size[1]
    away = samples[..., -1] - _origins(samples[..., -1])[:, None]
    unit = _unit_of_points(samples, torso) if samples.shape[2] == 3 else None
    if unit is None:
        unit = _unit_of_bones(flat, away, torso)
    depth = away * unit  # pixels
    for part, root in _PARTS:
        near = np.abs(depth[:, part] - depth[:, [root]]) <= _PART_REACH * torso
        depth[:, part] = np.where(near, depth[:, part], depth[:, [root]])
    return replace(pose, depth=(_filled(depth) / pose.size[1]).astype(np.float32))


def _disc_medians(planes: NDArray[np.floating], points: NDArray[np.floating], radius: float) -> NDArray[np.float64]:
    """``(points, c)``: medians of the map in discs; NaN for points outside it."""
    reach = max(int(radius), 1)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside_disc = np.hypot(x, y) <= max(radius, 1)
    height, width = planes.shape[1:]
    whole = np.floor(points).astype(np.intp)
    columns, rows = (whole[:, axis, None] + offset[inside_disc] for axis, offset in ((0, x), (1, y)))
    there = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    values = planes[:, rows.clip(0, height - 1), columns.clip(0, width - 1)].astype(np.float64)  # (c, points, disc)
    values[:, ~there] = np.nan
    centre = ((whole >= 0) & (whole < (width, height))).all(axis=1)
    result = np.full((len(points), len(planes)), np.nan)
    if centre.any():
        result[centre] = np.nanmedian(values[:, centre], axis=2).T
    return result


def _line_ends(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Values ``(c,)`` at both ends of a limb, of those in nine places ``(9, c)``; ``None``: too few lie in the map."""
    seen = np.isfinite(values).all(axis=1)
    if seen.sum() < _LEAST_SEEN:
        return None
    shares, values = _SHARES[seen], values[seen]
    one, other = np.triu_indices(len(shares), 1)
    slope = np.median((values[other] - values[one]) / (shares[other] - shares[one])[:, None], axis=0)
    start = np.median(values - slope * shares[:, None], axis=0)
    ends = start, start + slope
    if seen.all():  # both ends are in the map; a line through a few pixels may be steep
        ends = (
            ends[0].clip(values.min(axis=0), values.max(axis=0)),
            ends[1].clip(values.min(axis=0), values.max(axis=0)),
        )
    return ends


def _origins(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(frames,)``: what counts as 0 in each; NaN where nothing was measured."""
    origins = np.full(len(z), np.nan)
    for joints in (HIPS, [*SHOULDERS, JOINT["neck"]], list(range(BODY.stop))):
        known = np.isfinite(z[:, joints])
        mean = np.where(known, z[:, joints], 0).sum(1) / np.maximum(known.sum(1), 1)
        origins = np.where(np.isnan(origins) & known.any(1), mean, origins)
    return origins


def _unit_of_points(samples: NDArray[np.float64], torso: float) -> float | None:
    """Pixels that one unit of the map is; ``None`` where no torso is in it."""
    hips = samples[:, HIPS].mean(axis=1)
    lengths = np.linalg.norm(samples[:, JOINT["neck"]] - hips, axis=-1)
    lengths = lengths[np.isfinite(lengths) & (lengths > 0)]
    return torso / float(np.median(lengths)) if len(lengths) else None


def _unit_of_bones(pose: PoseSequence, away: NDArray[np.float64], torso: float) -> float:
    """Pixels that one unit of a map's depth is, by the bones that are seen shorter than they are."""
    body = away[:, BODY]
    known = body[np.isfinite(body)]
    spread = float(np.subtract(*np.quantile(known, [1 - _OUTLIERS, _OUTLIERS]))) if len(known) else 0.0
    if spread <= 0:
        return 0.0
    lengths, sizes = measure(pose), growth(pose)
    shares = []
    for bone in _LIMB_BONES:
        measured = lengths[bone].pixels if bone in lengths else 0.0
        true = max(measured, AVERAGE_BODY[bone] * torso) * sizes
        for start, end in BONES[bone]:
            seen = np.hypot(*(pose.keypoints[:, start] - pose.keypoints[:, end]).T.astype(np.float64))
            step = np.abs(away[:, start] - away[:, end])
            usable = np.isfinite(step) & (seen < _FORESHORTENED * true)
            shares += (step[usable] / np.sqrt(true[usable] ** 2 - seen[usable] ** 2)).tolist()
    most = MOST_SPREAD * torso / spread
    if len(shares) < _LEAST_BONES:
        return FLAT_SPREAD * torso / spread
    share = float(np.median(shares))
    return min(1 / share, most) if share > 0 else most


def _filled(depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Depth ``(frames, 128)`` with what is NaN interpolated over time; what is never known is its wrist's or nose's."""
    frames = np.arange(len(depth))
    result = np.zeros(depth.shape)
    known = np.isfinite(depth)
    for joint in np.flatnonzero(known.any(axis=0)):
        there = known[:, joint]
        result[:, joint] = np.interp(frames, frames[there], depth[there, joint])
    for part, root in _PARTS:
        never = ~known[:, part].any(axis=0)
        result[:, part] = np.where(never, result[:, [root]], result[:, part])
    return result
