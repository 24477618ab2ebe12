"""Identity of a generated character: similarity of its head's colours to the truth's, and rank among all characters.

The descriptor of a head is a CIELAB histogram of each of three horizontal bands (crown, eyes, chin). A turned head
changes a histogram little, another character's head much.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from animate_anyone.structures import Mask, Picture
from animate_anyone.synthetic.figure.bricks import Label

HEAD = (Label.HEAD, Label.HAIR, Label.HAT)
BANDS = 3
LEAST_PIXELS = 20
# Of the histogram: lightness 0 to 100, a and b -80 to 80; values between two centres count to both.
_BINS = (6, 9, 9)
_FIRST, _STEP = np.array([0.0, -80.0, -80.0]), np.array([20.0, 20.0, 20.0])


def head_descriptors(frames: Picture, labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(frames, features)``: rows whose inner product is a similarity, 0 to 1; rows of zeros show no head.

    Args:
        frames: ``(frames, H, W, 3)`` uint8 RGB.
        labels: ``(frames, H, W)`` of the truth, :class:`Label`: where the head should be.

    Raises:
        ValueError: frames and labels of different clips.
    """
    if labels.shape != frames.shape[:3]:
        raise ValueError(f"frames {frames.shape} and labels {labels.shape} are of different clips")
    return np.stack([describe(picture, np.isin(shown, HEAD)) for picture, shown in zip(frames, labels, strict=True)])


def describe(picture: Picture, region: Mask) -> NDArray[np.float32]:
    """``(features,)``: colours of a region of one picture, in three bands from its top to its bottom.

    The inner product of two is their similarity, 0 to 1; zeros where the region has fewer than 20 pixels.

    Args:
        picture: ``(H, W, 3)`` uint8 RGB.
        region: ``(H, W)`` bool.
    """
    from skimage.color import rgb2lab

    ys, xs = np.nonzero(region)
    if len(ys) < LEAST_PIXELS:
        return np.zeros(BANDS * int(np.prod(_BINS)), np.float32)
    band = np.minimum((ys - ys[0]) * BANDS // (ys[-1] - ys[0] + 1), BANDS - 1)
    histogram = _histograms(rgb2lab(picture[ys, xs][None] / 255)[0], band)
    # Bhattacharyya's coefficient is the inner product of the roots.
    return np.sqrt(histogram / len(ys)).ravel().astype(np.float32)


def identity(result: NDArray[np.float32], truths: Sequence[NDArray[np.float32]], own: int) -> dict[str, float | None]:
    """How a result's heads compare with the truth's of all characters.

    Args:
        result: descriptors of the result of character ``own``, made with the truth's labels.
        truths: descriptors of the truth of every character.

    Returns:
        ``identity``: mean similarity to the same frame of the truth, 0 to 1.
        ``identity_drift``: its standard deviation over the frames; 0 for one who stays the same.
        ``identity_rank1``: share of the frames whose head is nearer to one of the own character's, in
        whatever pose, than to any other character's. ``None`` for fewer than two characters, and all are
        ``None`` where no frame shows a head.
    """
    shown = truths[own].any(1)
    if not shown.any():
        return {"identity": None, "identity_drift": None, "identity_rank1": None}
    alike = (result[shown] * truths[own][shown]).sum(1, dtype=np.float64)
    rank1 = None
    if len(truths) > 1:
        nearest = np.stack([(result[shown] @ truth.T).max(1) for truth in truths])
        others = np.delete(nearest, own, 0).max(0)
        rank1 = float((nearest[own] > others).mean())
    # Rounded, as the last digits depend on the order of summation, which differs with the arrays' alignment.
    mean, spread = round(float(alike.mean()), 6), round(float(alike.std()), 6)
    return {"identity": mean, "identity_drift": spread, "identity_rank1": rank1}


def _histograms(lab: NDArray[np.float64], band: NDArray[np.int64]) -> NDArray[np.float64]:
    """``(BANDS, *_BINS)``: colours ``(pixels, 3)`` counted by band, shared between the eight nearest bins."""
    place = np.clip((lab - _FIRST) / _STEP, 0, np.array(_BINS) - 1.001)
    low = place.astype(int)
    part = place - low
    counts = np.zeros((BANDS, *_BINS))
    for corner in np.ndindex(2, 2, 2):
        weight = np.where(corner, part, 1 - part).prod(1)
        np.add.at(counts, (band, *(low + corner).T), weight)
    return counts
