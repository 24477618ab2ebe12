"""Detects finished skeleton videos, as other projects ship them, among driving videos.

The frames of a skeleton video are given to the model without pose estimation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter
from skimage.measure import label

from animate_anyone.errors import InputError
from animate_anyone.perception.pose.skeleton_look import (
    BLACK,
    JOINTS,
    LIMBS,
    USUAL,
    SkeletonLook,
    brightened,
    largest,
    least,
    saturation,
)
from animate_anyone.structures import Mask, Picture

_LONG_SIDE = 384  # frames are looked at in about this size, pixels
_DRAWN = 70  # brightest channel of a pixel that is surely part of a stroke
_MIN_BLACK = 0.75  # share of the frame
_MIN_COLOURFUL = 0.8  # share of the drawn pixels that are pure colours or white
_LEVELS, _LEVEL_WIDTH, _MIN_ON_LEVEL = (LIMBS, JOINTS), 30, 0.45
_MIN_HUES = 5  # of twelve
_MAX_THICK = 0.2  # share of the drawn pixels that lie deep inside something
_THICKNESS = 0.015  # of the frame's longer side: a stroke is nowhere thicker than twice this
_MIN_DEPTH = 5  # pixels of the frame: published strokes do not get thinner in small frames
_MIN_SHARE = 0.7  # of the frames on which something is drawn

# Of drawings that are dim or blurred, which are recognised by their connected parts, not by brightness.
_PLAIN, _MIN_PLAIN = 32, 0.7  # colours that differ by less are one; share of the frame that two such colours have
_DIM_DRAWN = 48  # brightest channel, once brightened
_LARGEST_SHARE = 0.2  # of the frame that is drawn on
_PALE, _MIN_NOT_PALE = 0.45, 0.55  # saturation of a colour that is not pale, and the share of the drawn pixels
_MAX_DEEP = 0.14  # as _MAX_THICK, of strokes that get thinner in small frames
_MIN_PURE = 0.3  # share of the drawn pixels that are colours, not white
_BODY_HUES, _BODY_SHARE = 5, 0.55  # hues on one connected piece; share of the drawn pixels on such pieces
_GAP = 0.008  # of the frame's longer side, between parts that hang together
_EVEN = 0.75  # share of neighbours on a piece that are of one hue: limbs are, sparks are not


def find_skeletons(frames: Sequence[Picture], told: bool = False) -> SkeletonLook | None:
    """How the skeletons of a finished skeleton video are drawn; ``None`` where these frames show something else.

    Args:
        frames: as :func:`is_skeleton_video` has them, all of one size.
        told: the user says that they are skeletons.

    Raises:
        InputError: there are no frames.
    """
    if not frames:
        raise InputError("there are no frames to look at; give a video with 1 frame or more")
    step = max(round(max(frames[0].shape[:2]) / _LONG_SIDE), 1)
    small = [np.ascontiguousarray(frame[::step, ::step]) for frame in frames]
    usual = not told and is_skeleton_video(frames)
    if not (told or usual) and np.median([_plainness(frame) for frame in small]) < _MIN_PLAIN:
        return None
    look = SkeletonLook.of(small)
    if usual:
        return SkeletonLook(look.larger(step).margins)  # narrow margins of another colour do no harm to that
    if told:
        return look.larger(step)
    if any(look.background) and (look.levels != USUAL or max(look.background) - min(look.background) > BLACK):
        return None  # of pictures on a colour, or dim ones on grey, there are too many
    return look.larger(step) if _mostly([_hangs_together(frame, look) for frame in small]) else None


def _plainness(frame: Picture) -> float:
    """Share of the pixels that have the commonest colour, or nearly; most of a drawing is background, or margin."""
    coarse = (frame.astype(np.int32) + _PLAIN // 2) // _PLAIN
    counts = np.bincount(((coarse[..., 0] * 8 + coarse[..., 1]) * 8 + coarse[..., 2]).ravel())
    return float(np.sort(counts)[-2:].sum() / coarse[..., 0].size)


def is_skeleton_video(frames: Iterable[Picture]) -> bool:
    """Whether these frames show a drawn OpenPose skeleton on black, of the usual brightness.

    What tells it from a real video at night, or a bright thing before black: the strokes are
    thin, of pure colours in two brightnesses, and of many hues at once.

    Args:
        frames: some frames ``(height, width, 3)`` uint8, RGB; eight from all over the clip will
            do. Frames that are all black say nothing either way.

    Raises:
        InputError: there are no frames.
    """
    verdicts = [_looks_drawn(frame) for frame in frames]
    if not verdicts:
        raise InputError("there are no frames to look at; give a video with 1 frame or more")
    return _mostly(verdicts)


def _mostly(verdicts: Sequence[bool | None]) -> bool:
    """Whether enough of the frames that say something show skeletons."""
    said = [verdict for verdict in verdicts if verdict is not None]
    return bool(said) and float(np.mean(said)) >= _MIN_SHARE


def _looks_drawn(frame: Picture) -> bool | None:
    """``None`` for a frame that is all black."""
    step = max(round(max(frame.shape[:2]) / _LONG_SIDE), 1)
    small = frame[::step, ::step].astype(np.int16)
    brightest, darkest = small.max(axis=-1), small.min(axis=-1)
    drawn = brightest >= _DRAWN
    if drawn.sum() < 20:
        return None if (brightest < _DRAWN).mean() > 0.999 and (brightest < BLACK).mean() > 0.98 else False
    if (brightest < BLACK).mean() < _MIN_BLACK:
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


def _hangs_together(frame: Picture, look: SkeletonLook) -> bool | None:
    """Whether a frame shows thin connected strokes of many colours, each of one; ``None`` where nothing is drawn."""
    cleared = look.on_black(frame)
    away = largest(np.abs(frame.astype(np.int16) - np.asarray(look.background)))
    top, bottom, left, right = look.margins
    inner = away[top : len(away) - bottom, left : away.shape[1] - right]
    if any(look.background) and (inner > BLACK).mean() > _LARGEST_SHARE:
        return False  # not of one colour: what lies on it is too much
    small = brightened(cleared, look.levels).astype(np.int16)
    brightest = largest(small)
    drawn = brightest >= _DIM_DRAWN
    if drawn.sum() < 20:
        return None
    marks = away > 2 * BLACK  # black lines on white are drawn too, in no colour
    marks[:top] = marks[len(marks) - bottom :] = False
    marks[:, :left] = marks[:, marks.shape[1] - right :] = False
    if any(look.background) and (marks & ~drawn).sum() > 0.3 * drawn.sum():
        return False
    if drawn.mean() > _LARGEST_SHARE or (brightest < BLACK).mean() < _MIN_BLACK:
        return False
    pure = drawn & (saturation(small) > _PALE)
    if (pure | (least(small) > 200)).sum() < _MIN_NOT_PALE * drawn.sum():
        return False
    depth = max(round(_THICKNESS * max(drawn.shape)), 1)
    if _deep_inside(drawn, depth).sum() >= _MAX_DEEP * drawn.sum() or pure.sum() < _MIN_PURE * drawn.sum():
        return False
    hues = np.full(drawn.shape, -1)
    hues[pure] = (_hue(small[pure]) * 12).astype(int) % 12
    pieces = _pieces(drawn, max(round(_GAP * max(drawn.shape)), 1))
    on_bodies = 0
    for piece in range(1, int(pieces.max()) + 1):
        mine = pieces == piece
        found = np.bincount(hues[mine & pure], minlength=12)
        if (found > 0.015 * found.sum()).sum() >= _BODY_HUES and _evenness(np.where(mine, hues, -1)) >= _EVEN:
            on_bodies += int((mine & pure).sum())
    return bool(on_bodies >= _BODY_SHARE * pure.sum())


def _evenness(hues: NDArray[np.int_]) -> float:
    """Share of the pixels beside each other, both with a hue (of twelve, else -1), that have about the same one."""
    same, pairs = 0, 0
    for one, other in ((hues[:, 1:], hues[:, :-1]), (hues[1:], hues[:-1])):
        both = (one >= 0) & (other >= 0)
        apart = np.abs(one - other)[both]
        same, pairs = same + int((np.minimum(apart, 12 - apart) <= 1).sum()), pairs + int(both.sum())
    return same / max(pairs, 1)


def _pieces(mask: Mask, gap: int) -> NDArray[np.int_]:
    """The number of the connected piece, from 1, that each pixel of a mask is of; 0 outside. Small gaps connect."""
    wide = maximum_filter(mask, 2 * gap + 1, mode="constant")
    return np.asarray(label(wide, connectivity=2) * mask)


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


def _deep_inside(mask: Mask, depth: int) -> Mask:
    """The pixels whose square neighbourhood, ``depth`` pixels to each side, is in the mask."""
    return np.asarray(minimum_filter(mask, 2 * depth + 1, mode="constant"))
