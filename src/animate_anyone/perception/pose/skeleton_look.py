"""How a finished skeleton video differs from the usual drawings, and the way back: strokes of full brightness on black.

Videos come with margins of another colour, on white or grey, or darkened. What a model was trained on is black with
limbs of 0.6 of the full brightness and joints of all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.structures import Picture

BLACK = 24
"""Brightest channel of a black pixel, compression included."""
LIMBS, JOINTS = 153.0, 255.0
"""Brightest channel of the strokes, as they are usually drawn: limbs are darkened by 0.6, the rest is not."""
USUAL = (LIMBS, JOINTS)

_PLAIN = 40  # most that the pixels of a row in a margin differ
_APART = 40  # least that a margin differs from the background
_LARGEST_MARGIN = 0.45  # of the frame's side, on each side
_RIM = 3  # pixels that compression mixes with a margin
_NEAR = 20  # how far a pixel of the background is from its colour, compression included
_COLOURFUL = 0.6  # saturation
_USUAL = 25  # how far from the usual the brightness of strokes is left as it is
_LIMB_RANGE, _ENOUGH = (0.35, 0.8), 0.3  # where limbs may be, of the joints' brightness; their share of the strokes


@dataclass(frozen=True)
class SkeletonLook:
    """How a skeleton video is drawn.

    Attributes:
        margins: top, bottom, left, right: pixels of another colour than the background.
        background: RGB, what the strokes are drawn on; black is ``(0, 0, 0)``.
        levels: brightest channel of limbs and of joints, in (0, 255].
    """

    margins: tuple[int, int, int, int] = (0, 0, 0, 0)
    background: tuple[int, int, int] = (0, 0, 0)
    levels: tuple[float, float] = USUAL

    @classmethod
    def of(cls, frames: Sequence[Picture]) -> SkeletonLook:
        """What some frames ``(height, width, 3)`` of one video have in common; small ones are enough."""
        height, width = frames[0].shape[:2]
        middle = np.stack([f[height // 4 : height - height // 4, width // 4 : width - width // 4] for f in frames])
        colour = np.median(middle.reshape(-1, 3), axis=0)
        red, green, blue = (0, 0, 0) if float(colour.max()) < BLACK else (int(v) for v in colour)
        look = cls(_margins(frames, np.array([red, green, blue], float)), (red, green, blue))
        return cls(look.margins, look.background, _levels([look.on_black(frame) for frame in frames]))

    def larger(self, times: int) -> SkeletonLook:
        """The look of frames of which every so many pixels were looked at, each way."""
        top, bottom, left, right = (m and m + (m - _RIM) * (times - 1) for m in self.margins)
        return SkeletonLook((top, bottom, left, right), self.background, self.levels)

    def usual(self, frame: Picture) -> Picture:
        """A frame as it is usually drawn: on black, the strokes as bright as they should be."""
        return brightened(self.on_black(frame), self.levels)

    def on_black(self, frame: Picture) -> Picture:
        """A frame without margins and background."""
        if any(self.background):
            frame = _without(frame, self.background)
        top, bottom, left, right = self.margins
        if top or bottom or left or right:
            frame = frame.copy()
            frame[:top] = frame[len(frame) - bottom :] = 0
            frame[:, :left] = frame[:, frame.shape[1] - right :] = 0
        return frame

    def line(self) -> str:
        """What is done to the frames, for the user."""
        done = [
            *(["its margins made black"] if any(self.margins) else []),
            *(["its background made black"] if any(self.background) else []),
            *(["its strokes made as bright as they are usually drawn"] if self.levels != USUAL else []),
        ]
        return ", ".join(done) or "taken as it is"


def brightened(frame: Picture, levels: tuple[float, float]) -> Picture:
    """Strokes on black with limbs and joints of these brightnesses, given the usual ones; hues stay."""
    if levels == USUAL:
        return frame
    brightest = np.arange(256)
    wanted = np.interp(brightest, (0, *levels), (0, LIMBS, JOINTS))
    factor = (wanted / np.maximum(brightest, 1)).astype(np.float32)[largest(frame)]
    return np.rint(np.minimum(frame * factor[..., None], 255)).astype(np.uint8)


def largest(frame: NDArray[Any]) -> NDArray[Any]:
    """``(...,)``: the largest channel of ``(..., 3)``; much faster than ``max`` along so short an axis."""
    return np.maximum(np.maximum(frame[..., 0], frame[..., 1]), frame[..., 2])


def least(frame: NDArray[Any]) -> NDArray[Any]:
    """``(...,)``: the least channel of ``(..., 3)``."""
    return np.minimum(np.minimum(frame[..., 0], frame[..., 1]), frame[..., 2])


def saturation(frame: NDArray[np.integer]) -> NDArray[np.float64]:
    """``(...,)`` in [0, 1] of colours ``(..., 3)``."""
    most = largest(frame).astype(np.float64)
    return np.asarray((most - least(frame)) / np.maximum(most, 1))


def _margins(frames: Sequence[Picture], background: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """Rows and columns at the edges that are of one colour in all frames, and not of the background's."""
    clip = np.stack(frames).astype(np.int16)
    rows = _plain(clip, background)
    top, bottom = _run(rows), _run(rows[::-1])
    columns = _plain(clip[:, top : clip.shape[1] - bottom].swapaxes(1, 2), background)
    left, right = _run(columns), _run(columns[::-1])
    return top, bottom, left, right


def _plain(clip: NDArray[np.int16], background: NDArray[np.float64]) -> NDArray[np.bool_]:
    """``(rows,)``: whether the rows of ``(frames, rows, columns, 3)`` are of one other colour than the background."""
    spread = np.percentile(clip, 98, axis=2) - np.percentile(clip, 2, axis=2)
    other = np.abs(np.median(clip, axis=2) - background).max(axis=-1) > _APART
    return np.asarray((spread.max(axis=-1) < _PLAIN).all(axis=0) & other.all(axis=0))


def _run(flags: NDArray[np.bool_]) -> int:
    """How many of the first flags are set, and the rim behind them; 0 where that is no margin."""
    length = int(np.argmin(np.append(flags, False)))
    return 0 if not length or length > _LARGEST_MARGIN * len(flags) else min(length + _RIM, len(flags))


def _without(frame: Picture, background: tuple[int, int, int]) -> Picture:
    """Strokes mixed with a background at their edges, as if they had been drawn on black.

    Strokes are of pure colours, one channel of which is 0, or white: on grey the least channel tells how much of the
    background a pixel holds. On a colour the distance from it does.
    """
    pixels = frame.astype(np.float32)
    grey = float(np.mean(background))
    if max(background) - min(background) > _NEAR:
        away = largest(np.abs(pixels - np.asarray(background, np.float32)))[..., None]
        return np.rint(pixels * np.clip(away / 64 - _NEAR / 64, 0, 1)).astype(np.uint8)
    low = least(pixels)[..., None]
    white = np.clip((low - grey - _NEAR) / max(255 - grey - _NEAR, 1.0), 0, 1) * 255
    colour = pixels - low
    near = largest(np.abs(pixels - grey))[..., None] < _NEAR
    return np.rint(np.where(near, 0, np.minimum(colour + white, 255))).astype(np.uint8)


def _levels(frames: Sequence[Picture]) -> tuple[float, float]:
    """Brightness of limbs and joints; the usual where it is near that, or cannot be measured."""
    bright = [largest(frame) for frame in frames]
    values = np.concatenate(
        [b[(b >= BLACK) & (saturation(f) > _COLOURFUL)] for b, f in zip(bright, frames, strict=True)]
    )
    if len(values) < 20:
        return USUAL
    joints = max(float(np.percentile(values, 98)), 1.0)
    counts = np.convolve(np.bincount(values, minlength=256), np.ones(9), "same")
    low, high = (int(share * joints) for share in _LIMB_RANGE)
    limbs = float(low + np.argmax(counts[low:high])) if high > low else joints * LIMBS / JOINTS
    if counts[int(limbs)] < _ENOUGH * ((values > low).sum()):  # limbs are as bright as joints
        limbs = joints * LIMBS / JOINTS
    if abs(limbs - LIMBS) <= _USUAL and abs(joints - JOINTS) <= _USUAL:
        return USUAL
    return limbs, joints
