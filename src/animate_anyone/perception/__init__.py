"""Perception: poses, masks, objects and depth from pixels, by external networks or classical methods.

``load_estimator("mediapipe").estimate(frames, size, fps)`` gives a :class:`PoseSequence`;
``report`` says how good it is.
"""

from __future__ import annotations

from typing import Any

from animate_anyone.perception.backends import load_backend
from animate_anyone.perception.pose.protocol import PoseEstimator
from animate_anyone.perception.pose.quality import report
from animate_anyone.perception.pose.skeleton_video import is_skeleton_video

__all__ = [
    "ESTIMATORS",
    "WITH_DEPTH",
    "PoseEstimator",
    "is_skeleton_video",
    "load_estimator",
    "report",
]

_BACKENDS = {"mediapipe": ("pose.mediapipe", "MediapipePose"), "rtmlib": ("pose.rtmlib", "RtmlibPose")}
ESTIMATORS = tuple(_BACKENDS)
"""Names that :func:`load_estimator` knows."""
WITH_DEPTH = ("mediapipe",)
"""Those of them whose poses have depth."""


def load_estimator(name: str = "mediapipe", device: str = "cpu", **options: Any) -> PoseEstimator:
    """The pose estimator of this name.

    Args:
        name: ``mediapipe`` (no download) or ``rtmlib`` (better hands).
        device: where its networks compute: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. Those of ``mediapipe`` compute
            on the CPU alone.
        options: those of the class: see :mod:`pose.mediapipe` and :mod:`pose.rtmlib`.

    Raises:
        InputError: there is no such estimator or option, or its package is not installed.
    """
    return load_backend("pose estimator", _BACKENDS, name, options, device)
