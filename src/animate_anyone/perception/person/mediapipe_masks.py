"""Masker ``mediapipe``: the person by MediaPipe's segmentation networks, all of them inside its wheel."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.perception.classical import WORKING_SIDE, cv2
from animate_anyone.perception.person.masks import GrabCutMasker
from animate_anyone.perception.pose.mediapipe import load_solutions
from animate_anyone.structures import Mask, Picture
from animate_anyone.system.silence import silent_stderr

_MARGIN = 0.05  # of the window's side around everything that may be body
_BEYOND, _AGREED = 0.5, 0.8
"""Torso lengths beyond what may be body in which pixels are the person's if all three networks say so by that."""
_WINDOW = 256  # side of the pictures that the selfie networks see


class MediapipeMasker(GrabCutMasker):
    """Masker ``mediapipe``: the networks' answers, then as ``grabcut``.

    Three answers are averaged: both selfie networks on the square around the person, and the mask of
    the pose network on the whole frame; what the skeleton cannot reach is left out, but for hats, hair and wide clothes
    on which all three agree.
    """

    def __init__(self, side: int = WORKING_SIDE) -> None:
        super().__init__(side)
        self._solutions = load_solutions()
        self._graphs: dict[str, Any] = {}  # opened when first needed
        # A graph that nobody closes keeps its memory, about 130 MB for these, when it is gone.
        weakref.finalize(self, _close, self._graphs).atexit = False

    def begin(self) -> None:
        if "pose" in self._graphs:  # the only one that remembers the frames before
            self._graphs.pop("pose").close()

    def chance(
        self, frame: Picture, small: Picture, sure: Mask, maybe: Mask, torso: float
    ) -> tuple[NDArray[np.float32], Mask]:
        if not maybe.any():
            return np.zeros(maybe.shape, np.float32), maybe
        answers = self._in_window(frame, maybe)
        whole = self._answer("pose", frame)
        if whole is not None:
            answers.append(cv2.resize(whole, small.shape[1::-1]))
            away = cv2.distanceTransform((~maybe).astype(np.uint8), cv2.DIST_L2, 5)  # from what the skeleton reaches
            maybe = maybe | ((away <= _BEYOND * torso) & (np.min(answers, axis=0) > _AGREED))
        return np.mean(answers, axis=0), maybe

    def _in_window(self, frame: Picture, maybe: Mask) -> list[NDArray]:
        """What the selfie networks say of the square around the person; 0 outside it."""
        height, width = frame.shape[:2]
        scale = np.array([width / maybe.shape[1], height / maybe.shape[0]])
        spots = np.argwhere(maybe)[:, ::-1]
        low, high = spots.min(axis=0) * scale, (spots.max(axis=0) + 1) * scale
        side = max(round(float((high - low).max()) * (1 + 2 * _MARGIN)), 16)
        x, y = (int(v) for v in (low + high - side) / 2)
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
        window = np.full((side, side, 3), 127, np.uint8)
        window[top - y : bottom - y, left - x : right - x] = frame[top:bottom, left:right]
        shown = cv2.resize(window, (_WINDOW, _WINDOW), interpolation=cv2.INTER_AREA)
        answers = []
        for name in ("general", "landscape"):
            whole = np.zeros((height, width), np.float32)
            enlarged = cv2.resize(self._answer(name, shown), (side, side))
            whole[top:bottom, left:right] = enlarged[top - y : bottom - y, left - x : right - x]
            answers.append(cv2.resize(whole, maybe.shape[::-1], interpolation=cv2.INTER_AREA))
        return answers

    def _answer(self, name: str, picture: Picture) -> NDArray[np.float32] | None:
        """Chances ``(height, width)`` in [0, 1] that pixels are a person's; ``None`` where ``pose`` finds nobody."""
        if name in self._graphs:
            mask = self._graphs[name].process(picture).segmentation_mask
        else:
            with silent_stderr():  # the C++ side writes warnings until each of its networks has run once
                self._graphs[name] = self._opened(name)
                mask = self._graphs[name].process(picture).segmentation_mask
        return None if mask is None else np.asarray(mask, np.float32)

    def _opened(self, name: str) -> Any:
        if name == "pose":
            return self._solutions.pose.Pose(enable_segmentation=True, smooth_segmentation=False)
        return self._solutions.selfie_segmentation.SelfieSegmentation(model_selection=int(name == "landscape"))


def _close(graphs: dict[str, Any]) -> None:
    for graph in graphs.values():
        graph.close()
