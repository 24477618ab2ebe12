"""The bricks that puppets are made of: rounded cones, stretched, cut and hung on joints.

One brick covers everything: a rounded cone (two spheres and the cone that touches both) in a local
frame whose x and z axes may be stretched, so that a flat chest, a palm and an ellipsoid are the same
thing; a plane may cut a piece off, so that hems are open and hair leaves the face free.
Lengths are metres. A joint's frame has x to the person's left, y up, z forward in the rest pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Point = Sequence[float] | Array
Cut = tuple[Array, float]  # see `Part.cut`


class Label(IntEnum):
    """What a pixel shows. Clothes carry the label of the limb they cover; "left" is the person's own."""

    BACKGROUND = 0
    HEAD = 1
    HAIR = 2
    HAT = 3
    NECK = 4
    TORSO = 5
    LEFT_UPPER_ARM = 6
    RIGHT_UPPER_ARM = 7
    LEFT_LOWER_ARM = 8
    RIGHT_LOWER_ARM = 9
    LEFT_HAND = 10
    RIGHT_HAND = 11
    LEFT_THIGH = 12
    RIGHT_THIGH = 13
    LEFT_SHIN = 14
    RIGHT_SHIN = 15
    LEFT_FOOT = 16
    RIGHT_FOOT = 17
    SKIRT = 18


@dataclass(frozen=True)
class Part:
    """One brick.

    Attributes:
        joint: index of the joint it hangs on (body.JOINTS).
        start, end: ``(3,)`` centres of the two spheres in the joint's frame, metres.
        radius_start, radius_end: metres.
        label: what its pixels are called.
        material: name of the material that paints it (look.py).
        stretch: factors of the local x and z axes; the local y axis runs from start to end.
        toward: the direction that the local z axis leans to.
        cut: ``(normal, offset)`` in the joint's frame: kept is ``normal . (q - start) <= offset``.
    """

    joint: int
    start: Array
    end: Array
    radius_start: float
    radius_end: float
    label: Label
    material: str
    stretch: tuple[float, float] = (1.0, 1.0)
    toward: tuple[float, float, float] = (0.0, 0.0, 1.0)
    cut: Cut | None = None


def ball(
    joint: int, centre: Point, radii: tuple[float, float, float], label: Label, material: str, cut: Cut | None = None
) -> Part:
    """An ellipsoid with half axes ``radii`` along the joint's x, y and z."""
    middle = np.asarray(centre, float)
    x, y, z = radii
    return Part(joint, middle, middle, y, y, label, material, (x / y, z / y), cut=cut)


def above(height: float) -> Array:
    """``(3,)`` the point so many metres above a joint, in its frame."""
    return np.array([0.0, height, 0.0])


def hem(part_start: Array, part_end: Array, fraction: float) -> Cut:
    """The cut that ends a sleeve, a trouser leg or a skirt at a fraction of its length."""
    axis = part_end - part_start
    length = float(np.linalg.norm(axis))
    return axis / length, length * fraction


@dataclass(frozen=True)
class PartTable:
    """All bricks of one puppet as arrays over ``P`` bricks, ready for the ray caster.

    Attributes:
        joint: ``(P,)`` int64.
        origin: ``(P, 3)`` centre of the first sphere in the joint's frame.
        axes: ``(P, 3, 3)`` columns are the local axes in the joint's frame.
        stretch: ``(P, 3)`` factors of the local axes.
        length, radius_start, radius_end: ``(P,)``.
        cut: ``(P, 4)`` plane in local coordinates (normal, offset); a zero normal never cuts.
        label: ``(P,)`` uint8.
        material: ``(P,)`` int64 index into the look's materials.
    """

    joint: NDArray[np.int64]
    origin: Array
    axes: Array
    stretch: Array
    length: Array
    radius_start: Array
    radius_end: Array
    cut: Array
    label: NDArray[np.uint8]
    material: NDArray[np.int64]


def tabulate(parts: Sequence[Part], materials: Sequence[str]) -> PartTable:
    """Lay bricks out as arrays; ``materials`` gives the order of the material names."""
    order = {name: index for index, name in enumerate(materials)}
    start = np.stack([p.start for p in parts])
    span = np.stack([p.end for p in parts]) - start
    length = np.linalg.norm(span, axis=1)
    y = np.where(length[:, None] > 1e-9, span / np.maximum(length, 1e-9)[:, None], np.array([0.0, 1.0, 0.0]))
    z = np.array([p.toward for p in parts], float)
    z = z - (z * y).sum(1, keepdims=True) * y
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    axes = np.stack([np.cross(y, z), y, z], axis=2)
    stretch = np.array([(p.stretch[0], 1.0, p.stretch[1]) for p in parts])
    cut = np.zeros((len(parts), 4))
    cut[:, 3] = 1.0
    for index, part in enumerate(parts):
        if part.cut is not None:
            cut[index, :3] = stretch[index] * (axes[index].T @ part.cut[0])
            cut[index, 3] = part.cut[1]
    return PartTable(
        joint=np.array([p.joint for p in parts], np.int64),
        origin=start,
        axes=axes,
        stretch=stretch,
        length=length,
        radius_start=np.array([p.radius_start for p in parts]),
        radius_end=np.array([p.radius_end for p in parts]),
        cut=cut,
        label=np.array([p.label for p in parts], np.uint8),
        material=np.array([order[p.material] for p in parts], np.int64),
    )
