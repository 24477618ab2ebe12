"""The environment that a character is put into (AA2): the source's frames without the person.

Also the way back, which keeps the source's own pixels where nothing was to change.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from animate_anyone.conditions.shape_agnostic import BlockShares, check_masks, shape_agnostic
from animate_anyone.errors import InputError
from animate_anyone.structures import Mask, Masks, Picture, Pictures

FORMULATIONS = ("shape_agnostic", "box", "exact")
"""What of the person's mask is taken out of the environment, the paper's ablation: blocks of its
bounding box (the method), the whole box, the mask itself."""

EMPTY = 127
"""What stands where the person was taken out, of 0 to 255: mid grey, the middle of what a VAE sees
(-0.004 in [-1, 1]), which favours neither dark nor bright surroundings."""


def formulate(masks: Mask, formulation: str = "shape_agnostic", shares: BlockShares | None = None) -> Mask:
    """The region that is taken out, ``(frames, height, width)`` bool, from the person's masks.

    Args:
        masks: ``(frames, height, width)`` bool; frames without a person stay empty.
        formulation: one of :data:`FORMULATIONS`.
        shares: how fine the blocks are in training (``shape_agnostic``); ``None`` for inference.

    Raises:
        InputError: an unknown formulation, or masks of another shape.
    """
    check_masks(masks)
    if formulation not in FORMULATIONS:
        raise InputError(f"there is no environment formulation {formulation!r}; there are: {', '.join(FORMULATIONS)}")
    if formulation == "exact":
        return masks.copy()
    one_block = BlockShares(0.0, 0.0)
    return shape_agnostic(masks, shares if formulation == "shape_agnostic" else one_block)


def empty(frames: Picture, region: Mask) -> Picture:
    """Frames ``(frames, height, width, 3)`` uint8 with :data:`EMPTY` in the region ``(frames, height, width)``."""
    check_alike(frames, region)
    return np.where(region[..., None], np.uint8(EMPTY), frames)


def fill(frames: Picture, region: Mask) -> Picture:
    """Frames ``(frames, height, width, 3)`` uint8 whose region ``(frames, height, width)`` goes over from edge to edge.

    Means of what is known, over ever larger squares, until there is something; a frame without a known pixel is grey.
    """
    check_alike(frames, region)
    known = torch.from_numpy(~region)[:, None].float()
    colour = torch.from_numpy(frames.copy()).permute(0, 3, 1, 2).float() * known
    levels = [(colour, known)]
    while max(levels[-1][1].shape[-2:]) > 1:
        colour, known = (F.avg_pool2d(plane, 2, ceil_mode=True) for plane in levels[-1])
        levels.append((colour, known))
    filled = torch.full_like(colour, EMPTY)
    for colour, known in reversed(levels):
        above = F.interpolate(filled, size=colour.shape[-2:], mode="bilinear")
        filled = torch.where(known > 0, colour / known.clamp(min=1e-6), above)
    return filled.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def latent_mask(region: Masks, factor: int = 8) -> Mask:
    """A region ``(frames, height, width)`` on the latent grid, ``(frames, height / factor, width / factor)``.

    A cell is masked where any of its pixels is: its latent saw :data:`EMPTY`, so none of it can be
    trusted as the environment's own.

    Raises:
        InputError: the sides are no multiples of ``factor``.
    """
    check_masks(region)
    frames, height, width = region.shape
    if height % factor or width % factor:
        raise InputError(
            f"masks of {width}x{height} do not fit the latent grid; give sides that are multiples of {factor}"
        )
    cells = np.empty((frames, height // factor, width // factor), bool)
    for cell, mask in zip(cells, region, strict=True):
        cell[...] = mask.reshape(height // factor, factor, width // factor, factor).any(axis=(1, 3))
    return cells


def feather(region: Mask, pixels: int) -> NDArray[np.float32]:
    """Opacity ``(frames, height, width)`` in [0, 1]: 1 in the region, down to 0 at ``pixels`` outside it.

    The ramp lies outside, so that all of the region shows the result; 0 gives hard edges.

    Raises:
        InputError: a negative width.
    """
    check_masks(region)
    if pixels < 0:
        raise InputError(f"a feather of {pixels} pixels is not possible; give 0 or more")
    from scipy.ndimage import distance_transform_edt

    opacity = np.zeros(region.shape, np.float32)
    for frame, mask in enumerate(region):
        if mask.any():
            distance = distance_transform_edt(~mask).astype(np.float32)
            opacity[frame] = np.clip(1 - distance / (pixels + 1), 0, 1)
    return opacity


def keep_background(result: Picture, source: Picture, region: Mask, pixels: int = 0) -> Picture:
    """The result in the feathered region, elsewhere the source's own pixels, bit for bit.

    Args:
        result: ``(frames, height, width, 3)`` uint8, what the model made.
        source: as ``result``, the source's frames.
        region: ``(frames, height, width)`` bool, what was taken out of the source.
        pixels: width of the ramp between them, outside the region.

    Raises:
        InputError: the three do not belong together.
    """
    check_alike(result, region)
    check_alike(source, region)
    kept = source.copy()
    for frame in range(len(region)):
        opacity = feather(region[frame : frame + 1], pixels)[0]
        changed = opacity > 0
        share = opacity[changed][:, None]
        # Written so that a share of 1 gives the result exactly.
        mixed = share * result[frame][changed] + (1 - share) * source[frame][changed]
        kept[frame][changed] = np.rint(mixed).astype(np.uint8)
    return kept


def check_alike(frames: Pictures, region: Masks) -> None:
    """Raise :class:`InputError` where ``region`` is not that of ``frames`` ``(frames, height, width, 3)`` uint8."""
    check_masks(region)
    if frames.shape != (*region.shape, 3) or frames.dtype != np.uint8:
        raise InputError(
            f"frames are {frames.dtype} {frames.shape}; give uint8 {(*region.shape, 3)}, as their masks are "
            f"{region.shape}"
        )
