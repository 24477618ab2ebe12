"""A first guess at a frame of Animate Anyone 2: the environment filled up, the carried character, the objects on top.

(Not in the paper; for small models, see :mod:`animate_anyone.first_guess.limb_warp`.) Where nothing was taken out the
guess is the environment, pixel for pixel, so what stands in front of the region stays in front of the character.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.environment import check_alike, fill
from animate_anyone.first_guess.limb_warp import Picture, warp_limbs
from animate_anyone.structures import PoseSequence

AT_ONCE = 8 * 256 * 256
"""Pixels of the frames whose limbs are laid together, of all of them: 200 MiB of layers, however long the clip is."""
LAYERS = 400
"""Bytes a pixel of the layers, one for each part of the body."""


def chunks(frames: int, size: tuple[int, int]) -> Iterator[slice]:
    """``frames`` frames of ``size`` ``(width, height)`` in runs of at most :data:`AT_ONCE` pixels, or of one frame."""
    length = max(AT_ONCE // (size[0] * size[1]), 1)
    return (slice(start, min(start + length, frames)) for start in range(0, frames, length))


def collage(
    reference: Picture,
    own: PoseSequence | None,
    poses: PoseSequence,
    environment: Picture,
    region: NDArray[np.bool_],
    silhouette: NDArray[np.bool_] | None = None,
    objects: Picture | None = None,
    object_mask: NDArray[np.bool_] | None = None,
    unknown: NDArray[np.bool_] | None = None,
) -> Picture:
    """Lay together what is known of some frames, a run of :func:`chunks` after the other.

    Args:
        reference, own, poses, silhouette: as :func:`~animate_anyone.first_guess.limb_warp.warp_limbs` has them; without
            ``own`` no character is laid.
        environment: ``(frames, height, width, 3)`` uint8.
        region: ``(frames, height, width)`` bool, what was taken out of it.
        objects: as ``environment``; ``object_mask``: as ``region``, where they are seen. ``None``: there are none.
        unknown: as ``region``, the part of it where ``environment`` says nothing, which is filled from its edges;
            ``None``: all of it.

    Returns:
        As ``environment``.

    Raises:
        InputError: the parts do not belong together.
    """
    check_alike(environment, region)
    if objects is not None and object_mask is not None:
        check_alike(objects, object_mask)
    guess = np.empty_like(environment)
    for some in chunks(len(environment), (environment.shape[2], environment.shape[1])):
        laid = guess[some]
        laid[:] = fill(environment[some], (region if unknown is None else unknown)[some])
        if own is not None:
            np.copyto(laid, warp_limbs(reference, own, poses[some], laid, silhouette), where=region[some][..., None])
        if objects is not None and object_mask is not None:
            np.copyto(laid, objects[some], where=object_mask[some][..., None])
    return guess
