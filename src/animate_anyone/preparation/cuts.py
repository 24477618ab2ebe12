"""Cuts in a video, found by PySceneDetect: a frame that differs far more from the one before it than its neighbours."""

from __future__ import annotations

from collections.abc import Iterable

from animate_anyone.optional import require
from animate_anyone.perception.classical import cv2, shrink
from animate_anyone.structures import Picture

_SIDE = 256  # pixels of the longer side in which cuts are looked for
_SHORTEST_SHOT = 8  # frames


def load_detector() -> None:
    """See that PySceneDetect is there. Raises :class:`InputError`."""
    require("scenedetect.detectors", extra="prepare")


def find_cuts(frames: Iterable[Picture]) -> list[int]:
    """The numbers of the frames, counted from 0, that begin a new shot; frame 0 is not among them.

    Args:
        frames: ``(height, width, 3)`` uint8, RGB, in order; read once.
    """
    detectors = require("scenedetect.detectors", extra="prepare")
    detector = detectors.AdaptiveDetector(min_scene_len=_SHORTEST_SHOT)
    cuts: list[int] = []
    for number, frame in enumerate(frames):
        small = cv2.cvtColor(shrink(frame, _SIDE), cv2.COLOR_RGB2BGR)
        cuts += [int(cut) for cut in detector.process_frame(number, small)]
    return sorted(cut for cut in set(cuts) if cut > 0)
