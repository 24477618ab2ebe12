"""How long the bones of a person are: over many frames, and the torso's length in one.

A bone's length in a picture is at most its true one, and less where the bone is foreshortened; so a
high quantile over the frames estimates the true length. A person who comes nearer to the camera
grows as a whole: that change of scale is estimated first and divided out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from animate_anyone.conditions.skeleton import JOINT, MIN_SCORE
from animate_anyone.structures import BODY, FACE, LEFT_HAND, NUM_KEYPOINTS, RIGHT_HAND, PoseSequence

MIDHIP = NUM_KEYPOINTS
"""Index of one more point, between the hips."""

FIRST = 5
"""So many of the first reliable frames say where a person starts, and how large."""

HIPS = [JOINT["right_hip"], JOINT["left_hip"]]
SHOULDERS = [JOINT["right_shoulder"], JOINT["left_shoulder"]]


def _sides(start: str, end: str) -> list[tuple[int, int]]:
    return [(JOINT[f"{side}_{start}"], JOINT[f"{side}_{end}"]) for side in ("right", "left")]


# Pairs of points whose greater length counts: left and right are one bone.
BONES: dict[str, list[tuple[int, int]]] = {
    "torso": [(JOINT["neck"], MIDHIP)],
    "shoulders": [(JOINT["right_shoulder"], JOINT["left_shoulder"])],
    "hips": [(JOINT["right_hip"], JOINT["left_hip"])],
    "upper_arm": _sides("shoulder", "elbow"),
    "forearm": _sides("elbow", "wrist"),
    "thigh": _sides("hip", "knee"),
    "shin": _sides("knee", "ankle"),
    "neck": [(JOINT["neck"], JOINT["nose"])],
    "head_width": [(FACE.start, FACE.start + 16)],
    "head_height": [(FACE.start + 27, FACE.start + 8)],
    "ears": [(JOINT["right_ear"], JOINT["left_ear"])],
    "hand": [(hand.start, hand.start + finger) for hand in (LEFT_HAND, RIGHT_HAND) for finger in (5, 9, 17)],
}
# Bones whose depth is reliable enough to estimate how far they are turned out of the picture plane.
DEPTH_BONES = ("shoulders", "hips", "head_width", "head_height", "ears")

AVERAGE_BODY = {"torso": 1.0, "shoulders": 0.65, "upper_arm": 0.55, "forearm": 0.5, "thigh": 0.85, "shin": 0.8}
"""Lengths of an average body, in torso lengths: a bone far below was foreshortened in all frames."""

# Which quantile of a length over the frames is its true one: nearly flat, yet no outlier. Arms
# point about the most.
_QUANTILE = 0.8
_ARM_QUANTILE, _ARM_BONES = 0.9, ("upper_arm", "forearm", "hand")
_FLAT, _STEEP = 0.85, 0.5  # seen length over true length: flat for sure, steep for sure
_SIZE_BONES = ("torso", "shoulders", "head_width", "head_height", "ears", "thigh", "shin", "upper_arm")
_SIZE_SECONDS = 1.5  # nobody's size in the picture changes much faster
_SHOULDERS_TO_TORSO = 1.5
_STEADY = 1.15  # smaller changes are noise


@dataclass(frozen=True)
class Length:
    """A bone's length.

    Attributes:
        pixels: as of the first reliable frames.
        flatness: in [0, 1]: how far it seems to be seen from the side, not along.
    """

    pixels: float
    flatness: float = 1.0


def with_midhip(pose: PoseSequence) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Points ``(frames, 129, 2)`` and whether they are seen; the last is the middle of the hips seen."""
    seen = pose.scores >= MIN_SCORE
    points = pose.keypoints.astype(np.float64)
    weights = seen[:, HIPS].astype(np.float64)
    middle = (points[:, HIPS] * weights[..., None]).sum(1) / np.maximum(weights.sum(1), 1)[:, None]
    return np.concatenate([points, middle[:, None]], 1), np.concatenate([seen, seen[:, HIPS].any(1)[:, None]], 1)


def measure(pose: PoseSequence) -> dict[str, Length]:
    """The length of every bone that is seen in some frame."""
    points, seen = with_midhip(pose)
    flat = _seen_lengths(points, seen)
    sizes = _growth(pose, flat)
    lengths: dict[str, Length] = {}
    for bone, pairs in BONES.items():
        quantile = _ARM_QUANTILE if bone in _ARM_BONES else _QUANTILE
        for pair, seen_length in zip(pairs, flat[bone], strict=True):
            frames = np.isfinite(seen_length)
            if not frames.any():
                continue
            now = seen_length[frames] / sizes[frames]
            pixels = float(np.quantile(now, quantile))
            flatness = 1.0
            if pose.depth is not None and bone in DEPTH_BONES:
                away = (pose.depth[frames, pair[0]] - pose.depth[frames, pair[1]]) * pose.size[1] / sizes[frames]
                true = float(np.quantile(np.hypot(now, away), quantile))
                flatness = float(np.clip((pixels / max(true, 1e-6) - _STEEP) / (_FLAT - _STEEP), 0, 1))
            if pixels >= 1 and (bone not in lengths or pixels > lengths[bone].pixels):
                lengths[bone] = Length(pixels, flatness)
    return lengths


def growth(pose: PoseSequence) -> NDArray[np.float64]:
    """``(frames,)``: the person's size in the picture, 1 in the first frames; all 1 if it hardly changes."""
    return _growth(pose, _seen_lengths(*with_midhip(pose)))


def average_torso(lengths: dict[str, Length]) -> float | None:
    """How long the torso of an average body of this size is, pixels; ``None`` if no bone tells."""
    sizes = [lengths[bone].pixels / share for bone, share in AVERAGE_BODY.items() if bone in lengths]
    return float(np.median(sizes)) if sizes else None


def clip_torso_length(pose: PoseSequence) -> float | None:
    """The average body's torso length over all frames of a clip, pixels; ``None`` if no bone is measured."""
    return average_torso(measure(pose))


def frame_torso_length(points: NDArray[np.floating], scores: NDArray[np.float32]) -> float:
    """The torso's length in one frame, pixels, at least 4; from the shoulders' width where no hip is seen.

    Args:
        points: ``(128, 2)`` pixels.
        scores: ``(128,)``; points below ``MIN_SCORE`` are not used.
    """
    seen = scores >= MIN_SCORE
    lengths = [4.0]
    if seen[SHOULDERS].all():
        lengths.append(_SHOULDERS_TO_TORSO * float(np.hypot(*(points[SHOULDERS[0]] - points[SHOULDERS[1]]))))
    if seen[HIPS].any() and seen[JOINT["neck"]]:
        hip = points[HIPS][seen[HIPS]].mean(axis=0)
        lengths.append(float(np.hypot(*(points[JOINT["neck"]] - hip))))
    if len(lengths) == 1:
        there = points[BODY][seen[BODY]]
        lengths.append(float(np.ptp(there, axis=0).max()) / 3 if len(there) else 0.0)
    return max(lengths)


def unscored_torso_length(points: NDArray[np.float32]) -> float:
    """The torso's length in one frame whose body points ``(128, 2)`` are all placed, whatever their scores; pixels.

    The larger of neck to hips and of the shoulders' width, at least 1.
    """
    body = points[BODY]
    hips = (body[HIPS[0]] + body[HIPS[1]]) / 2
    shoulders = body[SHOULDERS[0]] - body[SHOULDERS[1]]
    return float(max(np.hypot(*(body[JOINT["neck"]] - hips)), np.hypot(*shoulders), 1.0))


def _seen_lengths(points: NDArray[np.float64], seen: NDArray[np.bool_]) -> dict[str, list[NDArray[np.float64]]]:
    """Of each bone, of each of its pairs: ``(frames,)`` pixels, NaN where an end is not seen."""
    return {bone: [_seen_length(points, seen, pair) for pair in pairs] for bone, pairs in BONES.items()}


def _seen_length(points: NDArray[np.float64], seen: NDArray[np.bool_], pair: tuple[int, int]) -> NDArray[np.float64]:
    """``(frames,)`` pixels, NaN where an end is not seen."""
    length = np.hypot(*(points[:, pair[0]] - points[:, pair[1]]).T)
    return np.where(seen[:, pair[0]] & seen[:, pair[1]] & (length > 0), length, np.nan)


def _growth(pose: PoseSequence, flat: dict[str, list[NDArray[np.float64]]]) -> NDArray[np.float64]:
    """As :func:`growth`, from the bones' seen lengths.

    Alternating estimation: lengths from the sizes found so far, then sizes from the lengths.
    """
    steady = np.ones(len(pose))
    logs = np.log(np.array([length for bone in _SIZE_BONES for length in flat[bone]]))  # (bones, frames)
    logs = logs[np.isfinite(logs).any(axis=1)]
    frames = np.flatnonzero(np.isfinite(logs).any(axis=0)) if len(logs) else np.array([], int)
    if len(frames) < 2 * FIRST:
        return steady
    logs = logs[:, frames]
    half = max(round(float(pose.fps) * _SIZE_SECONDS / 2), 1)
    size = np.zeros(len(frames))
    for _ in range(6):
        lengths = np.nanquantile(logs - size, _QUANTILE, axis=1)
        rough = np.nanmedian(logs - lengths[:, None], axis=0)
        size = np.median(sliding_window_view(np.pad(rough, half, mode="edge"), 2 * half + 1), axis=1)
        size -= np.median(size[:FIRST])
    if size.max() - size.min() < np.log(_STEADY):
        return steady
    return np.exp(np.interp(np.arange(len(pose)), frames, size))
