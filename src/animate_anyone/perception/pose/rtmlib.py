"""Poses by rtmlib: DWPose or RTMW through ONNX, surer of hands than MediaPipe, several persons.

rtmlib finds everybody in a frame; the main person is picked in the first one and then followed by
place. Its networks are local ``.onnx`` files that are given, or those that lie in its own cache; nothing is downloaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.boxes import Box, box_overlap
from animate_anyone.conditions.skeleton import MIN_SCORE
from animate_anyone.errors import InputError
from animate_anyone.optional import require
from animate_anyone.perception import check_estimator
from animate_anyone.perception.pose.picture_attempts import Attempt
from animate_anyone.perception.pose.pose_tracker import look_thoroughly
from animate_anyone.perception.pose.protocol import check_frame, collect
from animate_anyone.perception.pose.single_pose import Pose, nobody, seen
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import BODY, FACE, LEFT_HAND, RIGHT_HAND, Picture, PoseSequence, Size

WholeBody = Callable[[Picture], tuple[NDArray[np.floating], NDArray[np.floating]]]
"""rtmlib's ``Wholebody``: a BGR picture in, points ``(people, 134, 2)`` and scores ``(people, 134)`` out."""

# Where rtmlib's OpenPose layout of 134 points keeps our groups; its feet, 18 to 23, have no place here.
_GROUPS = ((BODY, slice(0, 18)), (LEFT_HAND, slice(92, 113)), (RIGHT_HAND, slice(113, 134)), (FACE, slice(24, 92)))
_MIN_OVERLAP = 0.2
_PATIENCE_SECONDS = 1.0


class RtmlibPose:
    """Estimator ``rtmlib``; see :class:`~animate_anyone.perception.pose.protocol.PoseEstimator`.

    Args:
        mode: which of rtmlib's own networks: ``lightweight``, ``balanced`` or ``performance``.
        detector: a local ``.onnx`` of the person detector (YOLOX), instead of the mode's.
        pose: a local ``.onnx`` of the whole-body network (DWPose, RTMW), instead of the mode's.
        pose_input_size: ``(width, height)`` that ``pose`` takes; ``None`` reads it from a file
            name such as ``dw-ll_ucoco_384x288.onnx`` (height first), else takes 288x384.
        backend: ``onnxruntime``, ``opencv`` or ``openvino``.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. An onnxruntime without CUDA computes on the CPU instead,
            which ``remarks`` tells.
        network: a ready ``Wholebody`` in OpenPose layout; then nothing is loaded.

    Raises:
        InputError: rtmlib is not installed, the mode is unknown, or a file is missing: one that is given, or else
            the mode's in rtmlib's cache.
    """

    def __init__(
        self,
        mode: str = "balanced",
        detector: str | Path | None = None,
        pose: str | Path | None = None,
        pose_input_size: Size | None = None,
        backend: str = "onnxruntime",
        device: str = "cpu",
        network: WholeBody | None = None,
    ) -> None:
        check_estimator("rtmlib", mode)
        for option, path in (("detector", detector), ("pose", pose)):
            if path is not None and not Path(path).is_file():
                raise InputError(f"--rtmlib-{option} {path}: no such file; give an .onnx file of a network")
        self.remarks: tuple[str, ...] = ()
        if network is None:
            if backend == "onnxruntime" and device.startswith("cuda"):
                known = require("onnxruntime", extra="rtmlib").get_available_providers()
                if "CUDAExecutionProvider" not in known:
                    self.remarks = (f"poses: by rtmlib on the CPU; on {device} it needs onnxruntime-gpu (pip install)",)
                    device = "cpu"
            whole_body = require("rtmlib", extra="rtmlib").Wholebody
            network = whole_body(
                **_files(getattr(whole_body, "MODE", {}).get(mode, {}), mode, detector, pose, pose_input_size),
                mode=mode,
                to_openpose=True,
                backend=backend,
                device=device,
            )
        self._network = network

    def estimate(
        self,
        frames: Iterable[Picture],
        size: Size,
        fps: Fraction,
        times: NDArray[np.float64] | None = None,
        progress: Progress = SILENT,
    ) -> PoseSequence:
        """The main person's poses in a video, in pixels of ``size``, without depth; see the protocol."""
        chooser = PersonChooser(patience=max(round(_PATIENCE_SECONDS * float(fps)), 1))
        poses = []
        for frame in progress.track(frames, description="poses"):
            check_frame(frame, size)
            poses.append((*(chooser.choose(self._people(frame)) or nobody())[:2], None))
        return collect(poses, size, fps, times)

    def estimate_picture(self, picture: Picture) -> PoseSequence | None:
        """The main person's pose in one picture, or ``None``; see the protocol.

        Where nobody is found at first, the picture is tried padded, mirrored and with more contrast.
        """
        height, width = picture.shape[:2]
        check_frame(picture, (width, height))
        pose = PersonChooser().choose(self._people(picture)) or look_thoroughly(picture, self._look)
        return None if pose is None else collect([(*pose[:2], None)], (width, height), Fraction(24), None)

    def _people(self, frame: Picture) -> list[Pose]:
        points, scores = self._network(np.ascontiguousarray(frame[..., ::-1]))
        people = (from_openpose_134(*person) for person in zip(points, scores, strict=True))
        return [person for person in people if seen(*person) is not None]

    def _look(self, attempt: Attempt) -> Attempt:
        pose = PersonChooser().choose(self._people(attempt.picture))
        return attempt if pose is None else attempt.with_pose(*pose)


def from_openpose_134(points: NDArray[np.floating], scores: NDArray[np.floating]) -> Pose:
    """rtmlib's points ``(134, 2)`` and scores ``(134,)`` of one person in our layout, depth 0.

    rtmlib counts from the centre of the first pixel, we from its corner. Its scores can exceed 1.
    """
    if points.shape != (134, 2) or scores.shape != (134,):
        raise InputError(
            f"the network gave points of shape {points.shape}; give rtmlib a whole-body model (133 points), "
            "such as DWPose or RTMW"
        )
    ours, found, depth = nobody()
    for group, theirs in _GROUPS:
        ours[group] = points[theirs] + 0.5
        found[group] = np.clip(scores[theirs], 0, 1)
    found[~np.isfinite(ours).all(axis=1)] = 0
    return np.nan_to_num(ours, nan=0, posinf=0, neginf=0), found, depth


class PersonChooser:
    """Picks the same person frame after frame.

    The first one is the largest, surest person. Then it is whoever overlaps the last place most,
    among nearly equal ones the nearest pose. After ``patience`` frames without one the search
    starts anew.
    """

    def __init__(self, patience: int = 24) -> None:
        self._patience = patience
        self._last: Pose | None = None
        self._missed = 0

    def choose(self, people: list[Pose]) -> Pose | None:
        """The person among these, or ``None`` if nobody is the one."""
        chosen = self._first(people) if self._last is None else self._next(people, self._last)
        if chosen is not None:
            self._last, self._missed = chosen, 0
        else:
            self._missed += 1
            if self._missed >= self._patience:
                self._last = None
        return chosen

    def _first(self, people: list[Pose]) -> Pose | None:
        def weight(pose: Pose) -> float:
            left, top, right, bottom = _box(pose)
            return (right - left) * (bottom - top) * float(pose[1][BODY].mean())

        return max(people, key=weight, default=None)

    def _next(self, people: list[Pose], last: Pose) -> Pose | None:
        overlaps = [box_overlap(_box(pose), _box(last)) for pose in people]
        best = max(overlaps, default=0.0)
        if best < _MIN_OVERLAP:
            return None
        near = [pose for pose, overlap in zip(people, overlaps, strict=True) if overlap > 0.7 * best]
        return min(near, key=lambda pose: _distance(pose, last))


def _box(pose: Pose) -> Box:
    there = pose[0][BODY][pose[1][BODY] >= MIN_SCORE]
    return (*there.min(axis=0).tolist(), *there.max(axis=0).tolist())


def _distance(one: Pose, other: Pose) -> float:
    both = np.minimum(one[1], other[1])[BODY] >= MIN_SCORE
    return float(np.linalg.norm((one[0] - other[0])[BODY][both], axis=1).mean()) if both.any() else np.inf


def _files(
    known: dict[str, Any], mode: str, detector: str | Path | None, pose: str | Path | None, size: Size | None
) -> dict[str, Any]:
    """Files and input sizes of both networks, as rtmlib takes them.

    Args:
        known: what rtmlib says of the mode: ``det`` and ``pose``, addresses, and their input sizes.
        detector, pose: files that were given.
        size: that ``pose`` takes, where it is known.
    """
    found = {}
    for name, given in (("det", detector), ("pose", pose)):
        path = Path(given) if given is not None else _cached(known.get(name))
        if path is None or not path.is_file():
            raise InputError(
                f"rtmlib's networks of mode {mode} are not on this machine, and nothing is downloaded; give "
                "--rtmlib-detector FILE.onnx (YOLOX) and --rtmlib-pose FILE.onnx (DWPose or RTMW)"
            )
        found[name] = str(path)
    sizes = {"pose_input_size": size or (_input_size(pose) if pose is not None else known["pose_input_size"])}
    if "det_input_size" in known:
        sizes["det_input_size"] = known["det_input_size"]
    return {**found, **sizes}


def _cached(address: str | None) -> Path | None:
    """Where rtmlib keeps the network of this address once it has it; ``None`` for no address."""
    if address is None:
        return None
    cache = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "rtmlib")
    name = PurePosixPath(urlparse(address).path).name.split(".")[0]
    return Path(cache).expanduser() / "hub" / "checkpoints" / f"{name}.onnx"


def _input_size(pose: str | Path) -> Size:
    named = re.search(r"(\d{3})x(\d{3})", Path(pose).name)
    return (288, 384) if named is None else (int(named[2]), int(named[1]))
