"""From MediaPipe's landmarks to the 128 points of a pose. No MediaPipe is needed here.

MediaPipe gives 33 landmarks of the body, 21 of each hand and 468 (or 478) of the face, each as
x, y in shares of the picture and z in shares of its *width*, smaller nearer. The body's z counts
from the middle of the hips, a hand's from its wrist, the face's from about the head's centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import unscored_torso_length
from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.perception.pose.single_pose import Pose, nobody
from animate_anyone.structures import FACE, LEFT_HAND, RIGHT_HAND, Size

_LEFT_SHOULDER, _RIGHT_SHOULDER = 11, 12
# Our body joints and MediaPipe's landmark for each; the neck, which is made from the shoulders, has none.
_BODY_TO = np.array([joint for name, joint in JOINT.items() if name != "neck"])
_BODY_FROM = np.array([0, *(12, 14, 16), *(11, 13, 15), *(24, 26, 28), *(23, 25, 27), *(5, 2, 8, 7)])

# The mesh vertex nearest to each of the common 68 face points.
FACE_68 = np.array(
    [
        *(127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356),  # jaw
        *(70, 63, 105, 66, 107),  # right brow
        *(336, 296, 334, 293, 300),  # left brow
        *(168, 197, 5, 4),  # bridge of the nose
        *(98, 97, 2, 326, 327),  # under the nose
        *(33, 160, 158, 133, 153, 144),  # right eye
        *(362, 385, 387, 263, 373, 380),  # left eye
        *(61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91),  # outer lips
        *(78, 81, 13, 311, 308, 402, 14, 178),  # inner lips
    ]
)
_NOSE_TIP = 4

PART_SCORE = 0.9
"""Score of hand and face points: MediaPipe finds such a part as a whole or not at all."""

_OUT_OF_FRAME = 0.05  # share of the frame's longer side by which a point may lie outside
_MAX_WRIST_GAP = 0.35  # of the torso: a hand that is farther from the body's wrist is not this hand
_MAX_NOSE_GAP = 0.35


@dataclass(frozen=True)
class Landmarks:
    """What MediaPipe found in one picture; ``None`` where a part was not found.

    Attributes:
        body: ``(33, 4)``: x, y, z, visibility.
        left_hand: ``(21, 3)``: x, y, z. The person's own left.
        right_hand: ``(21, 3)``.
        face: ``(468 or more, 3)``.
    """

    body: NDArray[np.float64] | None = None
    left_hand: NDArray[np.float64] | None = None
    right_hand: NDArray[np.float64] | None = None
    face: NDArray[np.float64] | None = None


def to_pose(found: Landmarks, size: Size) -> Pose:
    """Points ``(128, 2)`` in pixels of ``size``, scores ``(128,)``, depth ``(128,)`` in frame heights.

    A hand or face that does not sit at its wrist or nose belongs to somebody else, or is a
    mistake, and is dropped. Points clearly outside the frame are guesses and get score 0.
    """
    points, scores, depth = nobody()
    if found.body is None:
        return points, scores, depth
    frame = np.array(size)
    to_depth = size[0] / size[1]  # shares of the width to frame heights

    body = found.body
    points[_BODY_TO] = body[_BODY_FROM, :2] * frame
    scores[_BODY_TO] = body[_BODY_FROM, 3]
    depth[_BODY_TO] = body[_BODY_FROM, 2] * to_depth
    shoulders, neck = [_LEFT_SHOULDER, _RIGHT_SHOULDER], JOINT["neck"]
    points[neck] = body[shoulders, :2].mean(axis=0) * frame
    scores[neck] = body[shoulders, 3].min()
    depth[neck] = body[shoulders, 2].mean() * to_depth

    torso = unscored_torso_length(points)
    for part, group, wrist in (
        (found.left_hand, LEFT_HAND, JOINT["left_wrist"]),
        (found.right_hand, RIGHT_HAND, JOINT["right_wrist"]),
    ):
        if part is None or np.hypot(*(part[0, :2] * frame - points[wrist])) > _MAX_WRIST_GAP * torso:
            continue
        points[group] = part[:, :2] * frame
        scores[group] = PART_SCORE
        depth[group] = depth[wrist] + (part[:, 2] - part[0, 2]) * to_depth
    nose = JOINT["nose"]
    if found.face is not None and np.hypot(*(found.face[_NOSE_TIP, :2] * frame - points[nose])) < _MAX_NOSE_GAP * torso:
        points[FACE] = found.face[FACE_68, :2] * frame
        scores[FACE] = PART_SCORE
        depth[FACE] = depth[nose] + (found.face[FACE_68, 2] - found.face[_NOSE_TIP, 2]) * to_depth
        _head_from_face(points)
    elif points[JOINT["right_shoulder"], 0] - points[JOINT["left_shoulder"], 0] > 0.3 * torso:  # seen from behind
        scores[[nose, JOINT["right_eye"], JOINT["left_eye"]]] = 0

    margin = _OUT_OF_FRAME * max(size)
    scores[((points < -margin) | (points > frame + margin)).any(axis=1)] = 0
    return points, np.clip(scores, 0, 1), depth


def _head_from_face(points: NDArray[np.float32]) -> None:
    """Put nose and eyes where the face network saw them, the sharper of the two; the ears go along."""
    face = points[FACE]
    head = [JOINT["nose"], JOINT["right_eye"], JOINT["left_eye"]]
    seen = np.stack([face[30], face[36:42].mean(axis=0), face[42:48].mean(axis=0)])
    points[[JOINT["right_ear"], JOINT["left_ear"]]] += (seen - points[head]).mean(axis=0)
    points[head] = seen
