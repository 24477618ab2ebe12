"""Depth of poses by a network from a folder (AA2): each frame's map is looked at inside the skeleton, and given up."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.joint_depth import sample_joints, with_joint_depth
from animate_anyone.conditions.skeleton import is_person
from animate_anyone.errors import InputError, shortened
from animate_anyone.perception.backends import check_folder
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import NUM_KEYPOINTS, Picture, PoseSequence

JOINTS = "joints"
"""In the place of a folder: depth is the pose estimator's own."""

# Class in config.json -> module and class of ours.
_NETWORKS = {
    "DepthAnythingForDepthEstimation": ("depth", "DepthAnything"),
    "Sapiens2ForPointmapEstimation": ("point_map", "Sapiens2Points"),
}


class DepthNetwork(Protocol):
    """Maps of depth, frame by frame."""

    def planes(self, frame: Picture) -> NDArray[np.float32]:
        """``(1, h, w)`` of a frame: larger is farther, of any zero and unit; or ``(3, h, w)``: x, y, z of one unit."""
        ...


def parse_depth(text: str) -> Path | None:
    """The folder that ``joints|FOLDER`` names; ``None`` for ``joints``."""
    return None if text == JOINTS else Path(text)


def check_depth(folder: Path) -> str:
    """The class of the network in a folder, without loading it.

    Raises:
        InputError: there is none that is taken, or its weights are not there.
    """
    path, kinds = check_folder(folder, "--depth"), " or ".join(_NETWORKS)
    try:
        config = json.loads((path / "config.json").read_text("utf-8"))
        named = config["architectures"][0]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        named = None
    if not isinstance(named, str) or named not in _NETWORKS:
        held = shortened(named) if isinstance(named, str) else "no network that is named"
        raise InputError(f"--depth {path}: config.json says {held}; give {JOINTS}, or a folder with {kinds}")
    if not any(path.glob("*.safetensors")):
        raise InputError(f"--depth {path}: no weights (.safetensors) are there; give a folder with {kinds}")
    return named


def load_depth(folder: Path, device: str = "cpu") -> DepthNetwork:
    """The network in a folder. Raises :class:`InputError` as :func:`check_depth`, or where its weights do not fit."""
    module, name = _NETWORKS[check_depth(folder)]
    network: DepthNetwork = getattr(import_module(f"animate_anyone.perception.{module}"), name)(folder, device)
    return network


def measure_depth(
    poses: PoseSequence, frames: Iterable[Picture], network: DepthNetwork, progress: Progress = SILENT
) -> PoseSequence:
    """The poses with depth as a network sees it, in place of any of their own.

    Frames are read once; nothing but the values at the keypoints is kept of one, and the network is not asked about
    frames without a person. Frames in which it gives values that are not finite count as not measured.

    Args:
        frames: ``(height, width, 3)`` uint8, one a pose.

    Raises:
        InputError: frames and poses are not of one number, or the network gives no finite values in any frame.
    """
    samples: list[NDArray[np.float64] | None] = []
    for number, frame in enumerate(progress.track(frames, len(poses), "depth")):
        if number >= len(poses):
            break
        if not is_person(poses.scores[number]):
            samples.append(None)
            continue
        planes = network.planes(frame)
        if not np.isfinite(planes).all():
            samples.append(None)
            continue
        scale = np.array([planes.shape[2] / poses.size[0], planes.shape[1] / poses.size[1]])
        samples.append(sample_joints(planes, poses.keypoints[number] * scale, poses.scores[number]))
    if len(samples) != len(poses):
        raise InputError(f"{len(samples)} frames to see depth in, and {len(poses)} poses; give one frame a pose")
    if is_person(poses.scores).any() and all(found is None for found in samples):
        raise InputError(f"the depth network gives values that are not finite in all frames; give --depth {JOINTS}")
    values = next((found.shape[1] for found in samples if found is not None), 1)
    nothing = np.full((NUM_KEYPOINTS, values), np.nan)
    return with_joint_depth(poses, np.stack([nothing if found is None else found for found in samples]))
