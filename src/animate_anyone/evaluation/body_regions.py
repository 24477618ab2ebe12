"""Which part of a person each pixel of their mask shows, by the skeleton: each goes to the bone that it is nearest to.

Distances count in widths of the parts, so that a torso reaches farther from its line than an arm does. Clothes belong
to the part that they cover.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import frame_torso_length
from animate_anyone.conditions.skeleton import JOINT, MIN_SCORE
from animate_anyone.structures import Mask

HEAD, TORSO, ARMS, LEGS = 1, 2, 3, 4
CLOTHES = (TORSO, ARMS, LEGS)
# Width of each part each way from its line, torso lengths.
_WIDTHS = {HEAD: 0.3, TORSO: 0.33, ARMS: 0.12, LEGS: 0.17}
_CHIN, _CROWN = 0.55, 1.9  # where the head's line begins and ends, from neck to nose and on


def body_regions(mask: Mask, points: NDArray[np.floating], scores: NDArray[np.floating]) -> NDArray[np.uint8]:
    """``(H, W)``: 0 where nobody is, else :data:`HEAD`, :data:`TORSO`, :data:`ARMS` or :data:`LEGS`.

    Args:
        mask: ``(H, W)`` bool, the person.
        points, scores: ``(128, 2)`` pixels of the mask, and ``(128,)``.
    """
    regions = np.zeros(mask.shape, np.uint8)
    ys, xs = np.nonzero(mask)
    lines = _lines(points.astype(np.float64), scores)
    if not len(ys) or not lines:
        return regions
    unit = max(frame_torso_length(points, scores), 1.0)
    places = np.stack([xs, ys], -1) + 0.5
    apart = np.stack([_distance(places, start, end) / (_WIDTHS[part] * unit) for part, start, end in lines])
    regions[ys, xs] = np.array([part for part, *_ in lines], np.uint8)[apart.argmin(0)]
    return regions


def _lines(
    points: NDArray[np.float64], scores: NDArray[np.floating]
) -> list[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    """The bones whose ends are seen: part, start and end."""
    seen = {name: points[index] for name, index in JOINT.items() if scores[index] >= MIN_SCORE}
    hips = [seen[name] for name in ("right_hip", "left_hip") if name in seen]
    lines = []
    if "neck" in seen and "nose" in seen:
        up = seen["nose"] - seen["neck"]
        lines.append((HEAD, seen["neck"] + _CHIN * up, seen["neck"] + _CROWN * up))
    if "neck" in seen and hips:
        lines.append((TORSO, seen["neck"], np.mean(hips, 0)))
    for side in ("right", "left"):
        for part, *names in (
            (ARMS, "shoulder", "elbow"),
            (ARMS, "elbow", "wrist"),
            (LEGS, "hip", "knee"),
            (LEGS, "knee", "ankle"),
        ):
            ends = [seen.get(f"{side}_{name}") for name in names]
            if ends[0] is not None and ends[1] is not None:
                lines.append((part, ends[0], ends[1]))
    return lines


def _distance(places: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each place ``(n, 2)`` from the line between two points."""
    along = end - start
    share = ((places - start) @ along / max(float(along @ along), 1e-9)).clip(0, 1)
    return np.linalg.norm(places - start - share[:, None] * along, axis=-1)
