"""Masks that do not show the outline of the person (AA2, shape-agnostic mask).

The bounding box of a mask is cut into ``k_h`` by ``k_w`` blocks, and a block that holds any masked
pixel is masked whole: ``M_f(i, j) = max over the block that holds (i, j)``. One block is the box,
as many blocks as pixels the mask itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from animate_anyone.conditions.boxes import bounding_box
from animate_anyone.errors import InputError
from animate_anyone.structures import Mask, Masks

INFERENCE_BLOCK = 10
"""Side of a block at inference, pixels: the paper's k_h = h / 10, k_w = w / 10."""


@dataclass(frozen=True)
class BlockShares:
    """How fine the blocks of a clip are, whatever the size of the box in each frame.

    A box of ``side`` pixels gets ``1 + floor(share * side)`` blocks, so that 0 gives one block, just
    below 1 as many as pixels, and a share drawn evenly any number in 1..side evenly.

    Attributes:
        rows: share for the height, in [0, 1).
        columns: share for the width, in [0, 1).
    """

    rows: float
    columns: float

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"BlockShares.{name} is {getattr(self, name)}; give a number from 0 up to below 1")

    def blocks(self, height: int, width: int) -> tuple[int, int]:
        """``(k_h, k_w)`` for a box of this size, in 1..height and 1..width."""
        return 1 + int(self.rows * height), 1 + int(self.columns * width)


def draw_shares(generator: np.random.Generator) -> BlockShares:
    """A random fineness for training, one for all frames of a clip: changing blocks would reveal the outline."""
    rows, columns = generator.random(2)
    return BlockShares(float(rows), float(columns))


def inference_blocks(height: int, width: int) -> tuple[int, int]:
    """``(k_h, k_w)`` at inference for a box of this size: a tenth of its sides, at least 1."""
    return max(height // INFERENCE_BLOCK, 1), max(width // INFERENCE_BLOCK, 1)


def shape_agnostic(masks: Mask, shares: BlockShares | None = None) -> Mask:
    """The shape-agnostic masks of a clip.

    Args:
        masks: ``(frames, height, width)`` bool, true on the person.
        shares: how fine, from :func:`draw_shares`, in training; ``None`` for inference.

    Returns:
        As ``masks``; it covers them. A frame with an empty mask stays empty.

    Raises:
        InputError: ``masks`` is not of three axes.
    """
    check_masks(masks)
    result = np.zeros(masks.shape, bool)
    for frame, mask in enumerate(masks):
        box = bounding_box(mask)
        if box is not None:
            inside = mask[box]
            blocks = inference_blocks(*inside.shape) if shares is None else shares.blocks(*inside.shape)
            result[frame][box] = block_maxima(inside, *blocks)
    return result


def block_maxima(mask: Mask, rows: int, columns: int) -> Mask:
    """A mask ``(height, width)`` cut into ``rows`` by ``columns`` blocks, those that hold any of it masked whole.

    Sides that do not divide evenly get blocks that differ by one pixel; more blocks than pixels
    count as one a pixel.
    """
    counts = zip(mask.shape, np.minimum(mask.shape, (rows, columns)).tolist(), strict=True)
    vertical, horizontal = (np.arange(count + 1) * side // count for side, count in counts)  # where blocks begin
    maxima = np.logical_or.reduceat(np.logical_or.reduceat(mask, vertical[:-1], axis=0), horizontal[:-1], axis=1)
    return maxima.repeat(np.diff(vertical), axis=0).repeat(np.diff(horizontal), axis=1)


def check_masks(masks: Masks) -> None:
    """Raise :class:`InputError` unless these are bool ``(frames, height, width)``."""
    if masks.ndim != 3 or masks.dtype != bool:
        raise InputError(f"masks are {masks.dtype} {masks.shape}; give bool (frames, height, width)")
