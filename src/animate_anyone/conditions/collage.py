"""A first guess at a frame of Animate Anyone 2: the environment filled up, the carried character, the objects on top.

(Not in the paper; for small models, see :mod:`animate_anyone.conditions.carry`.) Where nothing was taken out the guess
is the environment, pixel for pixel, so what stands in front of the region stays in front of the character.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.carry import Picture, carry
from animate_anyone.conditions.environment import check_alike, fill
from animate_anyone.structures import PoseSequence


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
    """Lay together what is known of some frames.

    Args:
        reference, own, poses, silhouette: as :func:`animate_anyone.conditions.carry.carry` has them; without ``own``
            no character is laid.
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
    guess = fill(environment, region if unknown is None else unknown)
    if own is not None:
        laid = carry(reference, own, poses, guess, silhouette)
        guess = np.where(region[..., None], laid, guess)
    if objects is not None and object_mask is not None:
        check_alike(objects, object_mask)
        guess = np.where(object_mask[..., None], objects, guess)
    return guess
