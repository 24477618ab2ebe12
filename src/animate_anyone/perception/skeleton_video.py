"""Tells a finished skeleton drawing, as other projects ship them, from a video of somebody.

A skeleton video is passed on to the model as it is; to look for a person in it would be vain.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from animate_anyone.errors import InputError

_LONG_SIDE = 384  # frames are looked at in about this size, pixels
_BLACK = 24  # brightest channel of a black pixel, compression included
_DRAWN = 70  # brightest channel of a pixel that is surely part of a stroke
_MIN_BLACK = 0.75  # share of the frame
_MIN_COLOURFUL = 0.8  # share of the drawn pixels that are pure colours or white
_LEVELS, _LEVEL_WIDTH, _MIN_ON_LEVEL = (153, 255), 30, 0.45  # limbs are darkened by 0.6, the rest is not
_MIN_HUES = 5  # of twelve
_MAX_THICK = 0.2  # share of the drawn pixels that lie deep inside something
_THICKNESS = 0.015  # of the frame's longer side: a stroke is nowhere thicker than twice this
_MIN_DEPTH = 5  # pixels of the frame: published strokes do not get thinner in small frames
_MIN_SHARE = 0.7  # of the frames on which something is drawn


def is_skeleton_video(frames: Iterable[NDArray[np.uint8]]) -> bool:
    """Whether these frames show a drawn OpenPose skeleton on black.

    What tells it from a real video at night, or a bright thing before black: the strokes are
    thin, of pure colours in two brightnesses, and of many hues at once.

    Args:
        frames: some frames ``(height, width, 3)`` uint8, RGB; eight from all over the clip will
            do. Frames that are all black say nothing either way.

    Raises:
        InputError: there are no frames.
    """
    number = 0
    verdicts = []
    for frame in frames:
        number += 1
        verdict = _looks_drawn(frame)
        if verdict is not None:
            verdicts.append(verdict)
    if number == 0:
        raise InputError("there are no frames to look at; give a video with 1 frame or more")
    return bool(verdicts) and float(np.mean(verdicts)) >= _MIN_SHARE


def _looks_drawn(frame: NDArray[np.uint8]) -> bool | None:
    """``None`` for a frame that is all black."""
    step = max(round(max(frame.shape[:2]) / _LONG_SIDE), 1)
    small = frame[::step, ::step].astype(np.int16)
    brightest, darkest = small.max(axis=-1), small.min(axis=-1)
    drawn = brightest >= _DRAWN
    if drawn.sum() < 20:
        return None if (brightest < _DRAWN).mean() > 0.999 and (brightest < _BLACK).mean() > 0.98 else False
    if (brightest < _BLACK).mean() < _MIN_BLACK:
        return False

    saturation = (brightest - darkest)[drawn] / brightest[drawn]
    white = darkest[drawn] > 200
    if np.mean((saturation > 0.6) | white) < _MIN_COLOURFUL:
        return False
    coloured = small[drawn][saturation > 0.6]
    if not len(coloured):
        return False
    levels = [np.abs(coloured.max(axis=1) - level) < _LEVEL_WIDTH for level in _LEVELS]
    if np.mean(levels[0] | levels[1]) < _MIN_ON_LEVEL:
        return False
    hues = np.bincount((_hue(coloured) * 12).astype(int) % 12, minlength=12)
    if (hues > 0.01 * len(coloured)).sum() < _MIN_HUES:
        return False
    depth = max(round(_THICKNESS * max(drawn.shape)), _MIN_DEPTH // step)
    return bool(_deep_inside(drawn, depth).sum() < _MAX_THICK * drawn.sum())


def _hue(colours: NDArray[np.int16]) -> NDArray[np.float64]:
    """Hue in [0, 1) of ``(n, 3)`` colours that are not grey."""
    red, green, blue = colours.T.astype(np.float64)
    most, least = colours.max(axis=1), colours.min(axis=1)
    spread = np.maximum(most - least, 1)
    sector = np.select(
        [most == red, most == green],
        [(green - blue) / spread % 6, (blue - red) / spread + 2],
        (red - green) / spread + 4,
    )
    return sector / 6 % 1.0


def _deep_inside(mask: NDArray[np.bool_], depth: int) -> NDArray[np.bool_]:
    """The pixels whose square neighbourhood, ``depth`` pixels to each side, is in the mask."""
    for axis in (0, 1):
        padded = np.pad(mask, [(depth, depth) if axis == a else (0, 0) for a in (0, 1)])
        counts = np.cumsum(np.insert(padded.astype(np.int32), 0, 0, axis=axis), axis=axis)
        length = 2 * depth + 1
        stop, start = np.split(counts, [length], axis=axis)[1], np.split(counts, [mask.shape[axis]], axis=axis)[0]
        mask = stop - start == length
    return mask
