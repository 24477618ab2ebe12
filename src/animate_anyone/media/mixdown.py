"""Sound of any number of channels mixed down to two, where FFmpeg's own converter or PyAV has no way to.

PyAV 18 frees a channel layout of custom order (the channels named one by one, such as ``FL+FR+SL+SR+FC+LFE``, which MOV
files of other programs have) once more for every look at it: memory is corrupted and the process aborted. Such a layout
is looked at once and then replaced by the bare number of channels; what its channels were is kept here.
"""

from __future__ import annotations

import re

import numpy as np
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

_LEFT = ("FL", "BL", "SL", "FLC", "TFL", "TBL", "TSL", "WL", "SDL", "DL", "BFL")
_RIGHT = ("FR", "BR", "SR", "FRC", "TFR", "TBR", "TSR", "WR", "SDR", "DR", "BFR")
_IN_FRONT = ("FL", "FR", "DL", "DR")
_NO_PLACE = ("LFE", "LFE2")
_HALF_POWER = 0.5**0.5


def tame_layout(context: AudioCodecContext) -> str:
    """The name of a decoder's channel layout, which is replaced by one without names where its order is a custom one.

    Call it once, before anything is decoded.
    """
    layout = context.layout
    name = layout.name
    context.layout = f"{layout.nb_channels} channels" if is_custom(name) else name
    return name


def is_custom(layout: str) -> bool:
    """Whether a layout names its channels one by one, as ``2 channels (FR+FL)``."""
    return re.match(r"\d+ channels \(", layout) is not None


def mix(sound: NDArray[np.float32], layout: str) -> NDArray[np.float32]:
    """``(samples, channels)`` of a named layout to ``(2, samples)``, no louder than the loudest channel can be."""
    return np.ascontiguousarray((sound @ _weights(layout, sound.shape[1])).T)


def _weights(layout: str, count: int) -> NDArray[np.float32]:
    """``(channels, 2)``: how much of each channel is heard left and right."""
    names = layout.partition("(")[2].rstrip(")").split("+") if is_custom(layout) else []
    if layout.startswith("ambisonic"):  # the sum of all directions, and the difference of left and right
        weights = np.zeros((count, 2))
        weights[:2] = [[1, 1], [1, -1]]
    elif len(names) != count:
        weights = np.ones((count, 2))
    else:
        weights = np.array([_places(name) for name in names])
    return (weights / max(1.0, np.abs(weights).sum(axis=0).max())).astype(np.float32)


def _places(name: str) -> tuple[float, float]:
    if name in _NO_PLACE:
        return 0.0, 0.0
    loud = 1.0 if name in _IN_FRONT else _HALF_POWER
    return (0.0 if name in _RIGHT else loud, 0.0 if name in _LEFT else loud)
