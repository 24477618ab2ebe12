"""Where something stands in front of a person: limbs that are surely there, and are not in the person's mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.shape_agnostic import check_masks
from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.errors import InputError
from animate_anyone.perception.classical import grow, load_opencv
from animate_anyone.perception.person.body_hull import body_hulls, body_length
from animate_anyone.structures import PoseSequence

_ROUGH = tuple(JOINT[name] for name in ("nose", "right_eye", "left_eye", "right_ear", "left_ear"))
"""Joints that tell little of how large what is around them is: heads are of many sizes."""
_ERROR = 0.06  # torso lengths by which masks and poses may err
_WIDE = 0.35  # around a hidden bone, likewise: a limb in its clothes


def in_front(pose: PoseSequence, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What must be taken to be in front of the person, ``(frames, height, width)`` bool.

    Args:
        pose: the person's.
        masks: ``(frames, height, width)`` bool, where the person is seen, in pixels of the poses. Frames without
            a person have nothing in front.

    Raises:
        InputError: the two do not belong together.
    """
    check_masks(masks)
    if masks.shape != (len(pose), *pose.size[::-1]):
        raise InputError(f"masks have shape {masks.shape}; the poses are {len(pose)} frames of {pose.size}")
    result = np.zeros(masks.shape, bool)
    for number in map(int, np.flatnonzero(masks.any(axis=(1, 2)))):
        points, scores = pose.keypoints[number], pose.scores[number].copy()
        torso = body_length(points, scores)
        scores[list(_ROUGH)] = 0
        surely, _ = body_hulls(points, scores, pose.size)
        hidden = surely & ~_grown(masks[number], _ERROR * torso)
        hidden = grow(grow(hidden, -1), 1)  # less what is a pixel or two wide
        if hidden.any():
            result[number] = _grown(hidden, _WIDE * torso)
    return result


def _grown(mask: NDArray[np.bool_], by: float) -> NDArray[np.bool_]:
    """With a margin, by squares: at a video's own size the discs of ``grow`` take 0.2 to 1 s a frame."""
    side = 2 * max(1, round(by)) + 1
    grown: NDArray[np.bool_] = load_opencv().dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
    return grown
