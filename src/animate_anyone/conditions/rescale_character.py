"""Random scale augmentation (AA2): the character, with its objects, larger or smaller in its place.

A shape-agnostic mask is always larger than the person, and a model would learn to rely on that. So in training the
character is scaled, while the environment keeps the mask of the character before scaling: some masks are then
smaller than the character.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.boxes import bounding_box
from animate_anyone.conditions.environment import EMPTY
from animate_anyone.conditions.shape_agnostic import check_masks
from animate_anyone.errors import InputError
from animate_anyone.structures import Mask, Picture, PoseSequence

SMALLEST, LARGEST = 0.7, 1.4
"""Bounds of the scale in training; the paper gives none."""


@dataclass(frozen=True)
class Rescaled:
    """A clip whose character was scaled; ``frames`` is what the model is to make.

    Attributes:
        frames: ``(frames, height, width, 3)`` uint8.
        person: ``(frames, height, width)`` bool.
        objects: ``(objects, frames, height, width)`` bool.
        pose: scaled along; ``None`` where none was given.
        unknown: ``(frames, height, width)`` bool: uncovered, and no background is known there. It holds
            ``EMPTY``; a loss leaves it out. It lies within the character's old masks.
    """

    frames: Picture
    person: Mask
    objects: Mask
    pose: PoseSequence | None
    unknown: Mask


def draw_scale(generator: np.random.Generator, smallest: float = SMALLEST, largest: float = LARGEST) -> float:
    """A random scale, one for a clip: as often half a step smaller as half a step larger (even in its logarithm).

    Raises:
        InputError: the bounds are not 0 < smallest <= largest.
    """
    if not 0 < smallest <= largest < math.inf:
        raise InputError(f"scales from {smallest} to {largest} are not possible; give 0 < smallest <= largest")
    return math.exp(generator.uniform(math.log(smallest), math.log(largest)))


def rescale_character(
    frames: Picture,
    person: Mask,
    objects: Mask,
    pose: PoseSequence | None,
    scale: float,
    *,
    background: Picture | None = None,
) -> Rescaled:
    """Cut the character and its objects out, scale them about the feet and put them back.

    The fixed point is one for the clip: the middle of the lower edge of the person's box, median over the frames.
    The environment must be made from the masks and frames as they were **before**.

    Args:
        frames: ``(frames, height, width, 3)`` uint8, RGB.
        person: ``(frames, height, width)`` bool; may be empty in some frames, or all.
        objects: ``(objects, frames, height, width)`` bool; no object is ``(0, ...)``.
        pose: in pixels of the frames, or ``None``.
        scale: above 0; 1 changes nothing.
        background: as ``frames``, the clip without character and objects, where it is known.

    Raises:
        InputError: shapes that do not belong together, a scale of 0 or less.
    """
    _check(frames, person, objects, pose, scale, background)
    point = _fixed_point(person)
    if point is None or scale == 1:
        return Rescaled(frames.copy(), person.copy(), objects.copy(), pose, np.zeros(person.shape, bool))
    layer = person | objects.any(axis=0)
    rows, columns = (_Axis.about(c, scale, n) for c, n in zip(point[::-1], person.shape[1:], strict=True))

    result, unknown = frames.copy(), np.zeros(person.shape, bool)
    for frame, cut in enumerate(layer):
        opacity = _sample(cut[..., None].astype(np.float32), rows, columns)
        colours = _sample(frames[frame] * cut[..., None].astype(np.float32), rows, columns)
        base = frames[frame].astype(np.float32)
        base[cut] = EMPTY if background is None else background[frame][cut]
        result[frame] = np.rint(colours + (1 - opacity) * base).astype(np.uint8)
        if background is None:
            unknown[frame] = cut & (opacity[..., 0] < 1)
    moved_person, moved_objects = (_moved(masks, rows, columns) for masks in (person, objects))
    return Rescaled(result, moved_person, moved_objects, _moved_pose(pose, point, scale), unknown)


@dataclass(frozen=True)
class _Axis:
    """Where each pixel of a side comes from: between two pixels, with the share of the second; outside or not."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    share: NDArray[np.float32]
    inside: NDArray[np.bool_]

    @classmethod
    def about(cls, centre: float, scale: float, length: int) -> _Axis:
        source = (np.arange(length) + 0.5 - centre) / scale + centre - 0.5
        first = np.floor(source).astype(np.intp)
        return cls(
            first.clip(0, length - 1),
            (first + 1).clip(0, length - 1),
            (source - first).astype(np.float32),
            (source >= -0.5) & (source <= length - 0.5),
        )


def _sample(plane: NDArray[np.float32], rows: _Axis, columns: _Axis) -> NDArray[np.float32]:
    """``(height, width, channels)`` interpolated between its pixels; 0 from outside."""
    down, across = rows.share[:, None, None], columns.share[:, None]
    stretched = (1 - down) * plane[rows.first] + down * plane[rows.second]
    stretched = (1 - across) * stretched[:, columns.first] + across * stretched[:, columns.second]
    return stretched * (rows.inside[:, None] & columns.inside)[..., None]


def _moved(masks: Mask, rows: _Axis, columns: _Axis) -> Mask:
    """Masks ``(..., height, width)``."""
    planes = (mask[..., None].astype(np.float32) for mask in masks.reshape(-1, *masks.shape[-2:]))
    return np.array([_sample(plane, rows, columns) >= 0.5 for plane in planes], bool).reshape(masks.shape)


def _moved_pose(pose: PoseSequence | None, point: tuple[float, float], scale: float) -> PoseSequence | None:
    if pose is None:
        return None
    fixed = np.array(point, np.float32)
    depth = None if pose.depth is None else pose.depth * np.float32(scale)
    return replace(pose, keypoints=(fixed + (pose.keypoints - fixed) * np.float32(scale)), depth=depth)


def _fixed_point(person: Mask) -> tuple[float, float] | None:
    """``(x, y)`` in pixels; ``None`` if no frame has a person."""
    boxes = [box for mask in person if (box := bounding_box(mask)) is not None]
    if not boxes:
        return None
    x = float(np.median([(columns.start + columns.stop) / 2 for _, columns in boxes]))
    return x, float(np.median([rows.stop for rows, _ in boxes]))


def _check(
    frames: Picture, person: Mask, objects: Mask, pose: PoseSequence | None, scale: float, background: Picture | None
) -> None:
    check_masks(person)
    for name, value, want in (
        ("frames", frames, (*person.shape, 3)),
        ("objects", objects, (len(objects), *person.shape)),
        ("background", frames if background is None else background, (*person.shape, 3)),
    ):
        if value.shape != want:
            raise InputError(
                f"{name} has shape {value.shape}; it must be {want}, as the person's masks are {person.shape}"
            )
    if pose is not None and (len(pose), pose.size) != (len(person), person.shape[:0:-1]):
        raise InputError(
            f"the pose has {len(pose)} frames of {pose.size[0]}x{pose.size[1]}; it must have {len(person)} of "
            f"{person.shape[2]}x{person.shape[1]}, as the masks: PoseSequence.scaled_to"
        )
    if not 0 < scale < math.inf:
        raise InputError(f"a scale of {scale} is not possible; give a number above 0")
