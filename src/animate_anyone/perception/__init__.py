"""Perception: poses, masks, objects and depth from pixels, by external networks or classical methods.

``load_estimator("mediapipe").estimate(frames, size, fps)`` gives a :class:`PoseSequence`;
``report`` says how good it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from animate_anyone.errors import InputError
from animate_anyone.perception.backends import load_backend
from animate_anyone.perception.pose.protocol import PoseEstimator
from animate_anyone.perception.pose.quality import report
from animate_anyone.perception.pose.skeleton_video import is_skeleton_video

__all__ = [
    "ESTIMATORS",
    "RTMLIB_MODES",
    "WITH_DEPTH",
    "PoseEstimator",
    "check_estimator",
    "estimator_options",
    "is_skeleton_video",
    "load_estimator",
    "report",
]

_BACKENDS = {"mediapipe": ("pose.mediapipe", "MediapipePose"), "rtmlib": ("pose.rtmlib", "RtmlibPose")}
ESTIMATORS = tuple(_BACKENDS)
"""Names that :func:`load_estimator` knows."""
WITH_DEPTH = ("mediapipe",)
"""Those of them whose poses have depth."""
RTMLIB_MODES = ("lightweight", "balanced", "performance")
"""Which networks of its own ``rtmlib`` takes, where no files are given."""


def check_estimator(
    name: str, mode: str = "balanced", detector: str | Path | None = None, pose: str | Path | None = None
) -> None:
    """Check a pose estimator's name, and the options of ``rtmlib``, without loading anything.

    Raises :class:`InputError`: there is no such estimator or mode, or options are given that are not of this estimator.
    """
    if name not in ESTIMATORS:
        raise InputError(f"there is no pose estimator {name!r}; there are: {', '.join(ESTIMATORS)}")
    if mode not in RTMLIB_MODES:
        raise InputError(f"rtmlib has no mode {mode!r}; there are: {', '.join(RTMLIB_MODES)}")
    given = {"mode": mode != "balanced", "detector": detector is not None, "pose": pose is not None}
    if name != "rtmlib" and any(given.values()):
        option = next(option for option, is_given in given.items() if is_given)
        raise InputError(f"--rtmlib-{option}: the pose estimator is {name}; give --pose-estimator rtmlib with it")


def estimator_options(
    name: str, mode: str = "balanced", detector: str | Path | None = None, pose: str | Path | None = None
) -> dict[str, Any]:
    """The options that :func:`load_estimator` takes for this estimator: those of ``rtmlib``, else none."""
    return {"mode": mode, "detector": detector, "pose": pose} if name == "rtmlib" else {}


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
