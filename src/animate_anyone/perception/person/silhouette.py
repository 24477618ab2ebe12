"""The silhouette of the person in one picture, refined by its colours: for a cut-out that is seen at full size."""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull
from skimage.draw import polygon

from animate_anyone.conditions.body_lengths import frame_torso_length
from animate_anyone.conditions.skeleton import JOINT, MIN_SCORE
from animate_anyone.perception.classical import cut_out, grow, tidy
from animate_anyone.perception.person.body_hull import body_hulls
from animate_anyone.perception.person.masks import PersonMasker
from animate_anyone.structures import Mask, Picture, PoseSequence, Size

_REACH = 0.3  # torso lengths beyond the mask in which the person may still be
_NEAR = 0.4  # of that: how far from the bones a gap may begin
_ROUNDS = 5  # of GrabCut
_AROUND_GAPS = (
    [f"{side}_{joint}" for side in ("right", "left") for joint in ("hip", "knee", "ankle")],
    *([f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist", "hip")] for side in ("right", "left")),
)
_LOST = 0.5  # share of the mask that must be left for the refined one to be taken


def find_silhouette(picture: Picture, pose: PoseSequence, masker: PersonMasker) -> Mask:
    """Where the person is, ``(height, width)`` bool.

    The masker's networks miss thin and translucent parts and close gaps: colours decide everywhere but on the body's
    bones, and what lies between the legs, or between an arm and the trunk, is background unless its colours speak
    against it.

    Args:
        picture: ``(height, width, 3)`` uint8.
        pose: one frame, in pixels of ``picture``.
        masker: finds the person's mask.
    """
    mask = masker.mask([picture], pose).masks[0]
    if not mask.any():
        return mask
    size = (picture.shape[1], picture.shape[0])
    sure, _ = body_hulls(pose.keypoints[0], pose.scores[0], size)
    reach = max(round(_REACH * frame_torso_length(pose.keypoints[0], pose.scores[0])), 2)
    likely = mask & ~(_gaps(pose, size) & ~grow(sure, max(round(reach * _NEAR), 1)))
    refined = cut_out(picture, sure & mask, likely, grow(mask, reach), _ROUNDS)
    refined = tidy(refined, sure & mask)
    return refined if (refined & mask).sum() >= _LOST * mask.sum() else mask


def _gaps(pose: PoseSequence, size: Size) -> Mask:
    """What lies between the legs, and between the arms and the trunk, the limbs with it: ``(height, width)`` bool."""
    hulls = np.zeros(size[::-1], bool)
    for joints in _AROUND_GAPS:
        seen = [JOINT[joint] for joint in joints if pose.scores[0, JOINT[joint]] >= MIN_SCORE]
        corners = pose.keypoints[0, seen].astype(np.float64)
        if len(seen) > 2 and np.linalg.matrix_rank(corners[1:] - corners[0], tol=1.0) == 2:
            corners = corners[ConvexHull(corners).vertices]
            hulls[polygon(corners[:, 1], corners[:, 0], hulls.shape)] = True
    return hulls
