"""Occluders: regions where a limb must be, by the skeleton, and the person's mask does not show it."""

from __future__ import annotations

import numpy as np

from animate_anyone.conditions.body_lengths import frame_torso_length
from animate_anyone.conditions.shape_agnostic import check_masks
from animate_anyone.conditions.skeleton import HEAD
from animate_anyone.errors import InputError
from animate_anyone.perception.classical import cv2, grow
from animate_anyone.perception.person.body_hull import body_hulls
from animate_anyone.structures import Mask, Masks, PoseSequence
from animate_anyone.system.frame_sequence import FrameSequence, MadeFrames

_ERROR = 0.06  # torso lengths by which masks and poses may err
_WIDE = 0.35  # around a hidden bone, likewise: a limb in its clothes


def find_occluders(pose: PoseSequence, masks: Masks) -> FrameSequence[np.bool_]:
    """The region around hidden limbs, ``(frames, height, width)`` bool: what lies there is taken to be an occluder.

    A frame's is found when asked for.

    Args:
        pose: the person's.
        masks: ``(frames, height, width)`` bool, where the person is seen, in pixels of the poses. Frames without
            a person have no occluders.

    Raises:
        InputError: the two do not belong together.
    """
    check_masks(masks)
    if masks.shape != (len(pose), *pose.size[::-1]):
        raise InputError(f"masks have shape {masks.shape}; the poses are {len(pose)} frames of {pose.size}")
    return MadeFrames(len(masks), masks.shape[1:], bool, lambda number: _find(pose, number, masks[number]))


def _find(pose: PoseSequence, number: int, mask: Mask) -> Mask:
    """The region around hidden limbs in a frame, ``(height, width)``."""
    nothing = np.zeros(mask.shape, bool)
    if not mask.any():
        return nothing
    points, scores = pose.keypoints[number], pose.scores[number].copy()
    torso = frame_torso_length(points, scores)
    scores[list(HEAD)] = 0  # heads differ too much in size for a hull of fixed width
    surely, _ = body_hulls(points, scores, pose.size)
    hidden = surely & ~_grown(mask, _ERROR * torso)
    hidden = grow(grow(hidden, -1), 1)  # less what is a pixel or two wide
    return _grown(hidden, _WIDE * torso) if hidden.any() else nothing


def _grown(mask: Mask, by: float) -> Mask:
    """Dilated by a square: at a video's own size the discs of ``grow`` take 0.2 to 1 s a frame."""
    side = 2 * max(1, round(by)) + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
