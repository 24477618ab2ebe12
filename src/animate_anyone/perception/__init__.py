"""Perception: poses, masks, objects and depth from pixels, by external networks or classical methods.

``load_estimator("mediapipe").estimate(frames, size, fps)`` gives a :class:`PoseSequence`;
``report`` says how good it is.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from animate_anyone.errors import InputError
from animate_anyone.perception.pose.protocol import PoseEstimator
from animate_anyone.perception.pose.quality import PoseQuality, report
from animate_anyone.perception.pose.skeleton_video import is_skeleton_video

__all__ = [
    "ESTIMATORS",
    "WITH_DEPTH",
    "PoseEstimator",
    "PoseQuality",
    "is_skeleton_video",
    "load_estimator",
    "report",
]

# Name, module in this package, class. A module is imported when its estimator is asked for.
_BACKENDS = {
    "mediapipe": ("pose.mediapipe", "MediapipePose"),
    "rtmlib": ("pose.rtmlib", "RtmlibPose"),
}
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
    if name not in _BACKENDS:
        raise InputError(f"there is no pose estimator {name!r}; there are: {', '.join(ESTIMATORS)}")
    module, class_name = _BACKENDS[name]
    estimator = getattr(importlib.import_module(f"animate_anyone.perception.{module}"), class_name)
    known = inspect.signature(estimator).parameters
    for option in options:
        if option not in known:
            raise InputError(f"pose estimator {name} has no option {option!r}; there are: {', '.join(known)}")
    if "device" in known:
        options["device"] = device
    return estimator(**options)
