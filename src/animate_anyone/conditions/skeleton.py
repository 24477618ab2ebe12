"""The skeleton that everybody in this field draws: OpenPose's 18 body points, 21 points a hand.

``PoseSequence`` (structures.py) says where each group stands among the 128 points. Left and right
are the person's own. Colours are RGB, 0 to 255.
"""

from __future__ import annotations

from colorsys import hsv_to_rgb

import numpy as np
from numpy.typing import NDArray

from animate_anyone.structures import BODY

MIN_SCORE = 0.3
"""Score from which a keypoint counts as seen; below it is missing."""

SURE_SCORE = 0.5
"""Score from which a keypoint is trusted to be where it is."""

MIN_BODY_POINTS = 4
"""Number of the body's 18 keypoints that must be seen for a pose to be a person's."""

BODY_JOINTS = (
    *("nose", "neck"),
    *("right_shoulder", "right_elbow", "right_wrist"),
    *("left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle"),
    *("left_hip", "left_knee", "left_ankle"),
    *("right_eye", "left_eye", "right_ear", "left_ear"),
)
JOINT = {name: index for index, name in enumerate(BODY_JOINTS)}
HEAD = tuple(JOINT[name] for name in ("nose", "right_eye", "left_eye", "right_ear", "left_ear"))

# The 17 limbs, in drawing order: (from, to).
BODY_LIMBS = (
    *((1, 2), (1, 5)),  # shoulders
    *((2, 3), (3, 4)),  # right arm
    *((5, 6), (6, 7)),  # left arm
    *((1, 8), (8, 9), (9, 10)),  # right leg
    *((1, 11), (11, 12), (12, 13)),  # left leg
    *((1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),  # head
)

# Limb k takes colour k, joint k takes colour k: 18 hues, evenly spaced from red.
BODY_COLOURS = tuple(tuple(round(255 * channel) for channel in hsv_to_rgb(k / 18, 1, 1)) for k in range(18))

# One hand: the wrist is 0, then thumb, index, middle, ring, little finger, four points each.
HAND_LIMBS = tuple(
    (0 if joint == 0 else 4 * finger + joint, 4 * finger + joint + 1) for finger in range(5) for joint in range(4)
)

# Face: the common 68 points: jaw 0-16, right brow 17-21, left brow 22-26, nose 27-35,
# right eye 36-41, left eye 42-47, mouth 48-67.


def is_person(scores: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether enough keypoints of the body are seen: scores ``(..., 128)``, result ``(...)``."""
    return (scores[..., BODY] >= MIN_SCORE).sum(axis=-1) >= MIN_BODY_POINTS
