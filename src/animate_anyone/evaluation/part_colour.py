"""Colour error of each body part and its clothes: CIEDE2000 between the mean colours of result and truth.

Of every part the mean colour within the truth's outline is compared, so shading, folds and sharpness
do not count, nor does a pattern beyond its mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from animate_anyone.structures import Mask, Picture
from animate_anyone.synthetic.figure.bricks import Label

# Clothes carry the label of the limb they cover: a shirt is the torso and, with sleeves, the arms.
GROUPS: dict[str, tuple[Label, ...]] = {
    "face": (Label.HEAD, Label.NECK),
    "hair": (Label.HAIR, Label.HAT),
    "torso": (Label.TORSO,),
    "arms": (Label.LEFT_UPPER_ARM, Label.RIGHT_UPPER_ARM, Label.LEFT_LOWER_ARM, Label.RIGHT_LOWER_ARM),
    "hands": (Label.LEFT_HAND, Label.RIGHT_HAND),
    "skirt": (Label.SKIRT,),
    "legs": (Label.LEFT_THIGH, Label.RIGHT_THIGH, Label.LEFT_SHIN, Label.RIGHT_SHIN),
    "feet": (Label.LEFT_FOOT, Label.RIGHT_FOOT),
}
LEAST_PIXELS = 12


def colour_error(result: Picture, truth: Picture, labels: NDArray[np.uint8]) -> dict[str, float | None]:
    """CIEDE2000 between the mean colours of each part, the mean over frames.

    Parts count by their pixels. The outermost pixel of a part is left out where enough remain, for
    there colours mix; parts of fewer than 12 pixels are left out. Means are of sRGB values, which
    blurring inside a part does not change.

    Args:
        result, truth: ``(frames, H, W, 3)`` uint8 RGB.
        labels: ``(frames, H, W)`` of the truth, :class:`Label`.

    Returns:
        ``all`` and every name in ``GROUPS``: 0 alike, 1 the least that is seen, above 10 another
        colour, 100 black for white; ``None`` where no frame shows the part.

    Raises:
        ValueError: the three do not belong to one clip.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    if result.shape != truth.shape or labels.shape != truth.shape[:3]:
        raise ValueError(f"result {result.shape}, truth {truth.shape} and labels {labels.shape} are of different clips")
    num_frames, kinds = len(truth), len(Label)
    frame = np.arange(num_frames)[:, None, None] * kinds
    key = labels + frame
    whole, inner = (np.bincount(k.ravel(), minlength=num_frames * kinds) for k in (key, key[_inside(labels)]))
    used = _inside(labels) | (inner < LEAST_PIXELS)[key]
    chosen = key[used]
    count = np.maximum(np.bincount(chosen, minlength=num_frames * kinds), 1)

    def means(frames: Picture) -> NDArray[np.float64]:
        sums = [np.bincount(chosen, frames[..., c][used], num_frames * kinds) for c in range(3)]
        return np.asarray(rgb2lab((np.stack(sums, -1) / count[:, None] / 255)[None])[0])

    error = deltaE_ciede2000(means(result), means(truth)).reshape(num_frames, kinds)
    weight = np.where(whole >= LEAST_PIXELS, whole, 0).reshape(num_frames, kinds).astype(float)
    weight[:, Label.BACKGROUND] = 0

    def mean(of: list[int]) -> float | None:
        total = weight[:, of].sum()
        # Rounded, as the last digits depend on the order of summation, which differs with the arrays' alignment.
        return round(float((error * weight)[:, of].sum() / total), 6) if total else None

    return {"all": mean(list(range(kinds))), **{name: mean([int(k) for k in of]) for name, of in GROUPS.items()}}


def _inside(labels: NDArray[np.uint8]) -> Mask:
    """Where all four neighbours carry the same label."""
    padded = np.pad(labels, ((0, 0), (1, 1), (1, 1)), mode="edge")
    beside = (padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:])
    return np.logical_and.reduce([other == labels for other in beside])
