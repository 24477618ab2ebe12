"""Poses by MediaPipe Holistic: body, hands and face with the networks inside its wheel, no download.

Holistic follows one person, the most prominent one, and leaves out hands and faces that it is
unsure of; those are looked for once more around the wrist or nose. It sees real people well and drawn ones often, so
a single picture is tried in several ways.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import unscored_torso_length
from animate_anyone.optional import require
from animate_anyone.perception.pose.mediapipe_layout import Landmarks, to_pose
from animate_anyone.perception.pose.picture_attempts import Attempt
from animate_anyone.perception.pose.pose_tracker import PoseTracker, look_thoroughly
from animate_anyone.perception.pose.protocol import check_frame, collect
from animate_anyone.perception.pose.single_pose import nobody, seen
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import Picture, PoseSequence, Size
from animate_anyone.system.heap import give_back
from animate_anyone.system.silence import silent_stderr

_WRISTS = {"left_hand": (15, 13), "right_hand": (16, 14)}  # MediaPipe's wrist and elbow
_NOSE = 0
_HAND_WINDOW, _FACE_WINDOW = 0.55, 0.6  # half the side of the square searched, in torso lengths
_MIN_WRIST_VISIBILITY = 0.3


class MediapipePose:
    """Estimator ``mediapipe``; see :class:`~animate_anyone.perception.pose.protocol.PoseEstimator`.

    Raises:
        InputError: MediaPipe is not installed (the message names the command).
    """

    def __init__(self) -> None:
        self._solutions = load_solutions()

    def estimate(
        self,
        frames: Iterable[Picture],
        size: Size,
        fps: Fraction,
        times: NDArray[np.float64] | None = None,
        progress: Progress = SILENT,
    ) -> PoseSequence:
        """The poses of a video, in pixels of ``size``, with depth; see the protocol."""
        poses = []
        with _Finder(self._solutions, still=False) as moving, _Finder(self._solutions, still=True) as still:
            tracker = PoseTracker(
                track=lambda frame: seen(*to_pose(moving.find(frame), size)), look=still.look, restart=moving.restart
            )
            for frame in progress.track(frames, description="poses"):
                check_frame(frame, size)
                poses.append(tracker.next(frame) or nobody())
        return collect(poses, size, fps, times)

    def estimate_picture(self, picture: Picture) -> PoseSequence | None:
        """The pose in one picture, drawn characters included, or ``None``; see the protocol.

        The picture is tried as it is, padded, mirrored, with more contrast and cropped to what was
        found; the attempt that the others bear out best is taken, hands and face also from others.
        """
        height, width = picture.shape[:2]
        check_frame(picture, (width, height))
        with _Finder(self._solutions, still=True) as finder:
            pose = look_thoroughly(picture, finder.look)
        return None if pose is None else collect([pose], (width, height), Fraction(24), None)


class _Finder:
    """MediaPipe's graphs, opened when first needed and closed at the end of a ``with`` block."""

    def __init__(self, solutions: ModuleType, still: bool) -> None:
        self._solutions = solutions
        self._options = {
            "static_image_mode": still,
            "smooth_landmarks": False,  # smoothing is conditions/smooth.py, which does not lag
            "min_detection_confidence": 0.3 if still else 0.5,
            "min_tracking_confidence": 0.5,
        }
        self._graphs: dict[str, Any] = {}
        self._warm: set[str] = set()

    def __enter__(self) -> _Finder:
        return self

    def __exit__(self, *_: object) -> None:
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()
        give_back()

    def restart(self) -> None:
        """Forget the frames before: on an empty one the person is lost. (A graph's own reset loads all anew.)"""
        self._run("holistic", np.zeros((256, 256, 3), np.uint8))

    def look(self, attempt: Attempt) -> Attempt:
        """The attempt, with the pose that is seen in its picture."""
        shown = attempt.picture
        return attempt.with_pose(*to_pose(self.find(shown), (shown.shape[1], shown.shape[0])))

    def find(self, picture: Picture) -> Landmarks:
        result = self._run("holistic", picture)
        found = Landmarks(
            _array(result.pose_landmarks, visibility=True),
            _array(result.left_hand_landmarks),
            _array(result.right_hand_landmarks),
            _array(result.face_landmarks),
        )
        return self._with_missing_hands(self._with_missing_face(found, picture), picture)

    def _run(self, name: str, picture: Picture) -> Any:
        # The C++ side writes warnings until each of its networks has run once.
        if name in self._warm:
            return self._graphs[name].process(picture)
        with silent_stderr():
            if name not in self._graphs:
                self._graphs[name] = self._open(name)
            result = self._graphs[name].process(picture)
        last = ("left_hand_landmarks", "right_hand_landmarks", "multi_hand_landmarks", "multi_face_landmarks")
        if any(getattr(result, part, None) for part in last):
            self._warm.add(name)
        return result

    def _open(self, name: str) -> Any:
        if name == "holistic":
            return self._solutions.holistic.Holistic(**self._options)
        if name == "hands":
            return self._solutions.hands.Hands(static_image_mode=True, max_num_hands=2, min_detection_confidence=0.4)
        return self._solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1)

    def _with_missing_face(self, found: Landmarks, picture: Picture) -> Landmarks:
        if found.body is None or found.face is not None:
            return found
        frame = np.array([picture.shape[1], picture.shape[0]])
        points, _, _ = to_pose(found, (picture.shape[1], picture.shape[0]))
        half = max(_FACE_WINDOW * unscored_torso_length(points), 40.0)
        corner = np.floor(found.body[_NOSE, :2] * frame - half).astype(int)
        window = _window(picture, corner, int(2 * half))
        faces = None if window is None else self._run("face_mesh", window).multi_face_landmarks
        if window is None or not faces:
            return found
        face = _array(faces[0])
        assert face is not None
        return replace(found, face=_placed(face, len(window), corner, frame))

    def _with_missing_hands(self, found: Landmarks, picture: Picture) -> Landmarks:
        if found.body is None:
            return found
        frame = np.array([picture.shape[1], picture.shape[0]])
        body = found.body[:, :2] * frame
        points, _, _ = to_pose(found, (picture.shape[1], picture.shape[0]))
        half = max(_HAND_WINDOW * unscored_torso_length(points), 40.0)
        for part, (wrist, elbow) in _WRISTS.items():
            if getattr(found, part) is not None or found.body[wrist, 3] < _MIN_WRIST_VISIBILITY:
                continue
            centre = body[wrist] + 0.3 * (body[wrist] - body[elbow])
            corner = np.floor(centre - half).astype(int)
            window = _window(picture, corner, int(2 * half))
            if window is None:
                continue
            hands = self._run("hands", window).multi_hand_landmarks or ()
            others = [w for w, _ in _WRISTS.values() if w != wrist]
            best, nearest = None, 0.5 * half
            for hand in map(_array, hands):
                assert hand is not None
                root = hand[0, :2] * len(window) + corner
                gap = np.hypot(*(root - body[wrist]))
                if gap < nearest and gap < np.hypot(*(root - body[others[0]])):
                    nearest, best = gap, hand
            if best is not None:
                found = replace(found, **{part: _placed(best, len(window), corner, frame)})
        return found


def _placed(
    part: NDArray[np.float64], side: int, corner: NDArray[np.int_], frame: NDArray[np.int_]
) -> NDArray[np.float64]:
    """Landmarks ``(n, 3)`` in shares of a square window as shares of the frame ``(width, height)``."""
    return np.column_stack([(part[:, :2] * side + corner) / frame, part[:, 2] * side / frame[0]])


def _window(picture: Picture, corner: NDArray[np.int_], side: int) -> Picture | None:
    """The square ``side`` wide from ``corner`` (x, y); grey where it leaves the picture."""
    height, width = picture.shape[:2]
    x, y = int(corner[0]), int(corner[1])
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
    if right - left < 0.3 * side or bottom - top < 0.3 * side:
        return None
    window = np.full((side, side, 3), 127, np.uint8)
    window[top - y : bottom - y, left - x : right - x] = picture[top:bottom, left:right]
    return window


def _array(landmarks: Any, visibility: bool = False) -> NDArray[np.float64] | None:
    if landmarks is None:
        return None
    return np.array([(p.x, p.y, p.z, *([p.visibility] if visibility else [])) for p in landmarks.landmark])


def load_solutions() -> ModuleType:
    """MediaPipe's bundled networks. Raises :class:`InputError`, which says what to install, where they are missing."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with silent_stderr():
        return require("mediapipe", extra="pose").solutions
