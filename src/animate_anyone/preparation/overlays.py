"""Writing and signs laid over a video: edges that stand still where the picture behind them changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.crop_scene import Crop
from animate_anyone.perception.classical import cv2, shrink
from animate_anyone.perception.person.body_hull import body_hulls
from animate_anyone.structures import Mask, Picture, PoseSequence

_SIDE = 256  # pixels of the longer side in which edges are looked for
_SAMPLES = 12  # frames
_EDGE = 24.0  # grey levels from one pixel to the next
_STEADY = 0.25  # mean deviation of an edge from its median, over the median
_COVERED = (0.25, 0.75)  # share of the frames in which a pixel is the person's: it should change
_STANDING = 0.2  # share of the strong edges that stand still below which the camera moves
_STRIP = 9  # pixels; less wide is the outline of a part that hardly moves
_INNER = 7  # pixels, twice by how much the outline may be wrong, and one
_NEAR = 25  # pixels within which writing has edges of two directions
_ACROSS = 0.05  # share of their strength that the weaker of two directions has
_FEWEST = 64  # pixels that should change, below which nothing is said


def static_share(read: Callable[[list[int]], Iterator[Picture]], poses: PoseSequence, crop: Crop) -> float:
    """The share of the pixels that should change, but hold an edge that stands still; in [0, 1].

    Those are where the person is in some frames and not in others, and all around the person where the camera moves.

    Args:
        read: gives the frames of these numbers.
        poses: the person's, as many as there are frames.
        crop: the part that is looked at.
    """
    count = len(poses)
    numbers = sorted({round(number) for number in np.linspace(0, count - 1, min(_SAMPLES, count))})
    rows, columns = crop.part
    edges: list[NDArray[np.float32]] = []
    people: list[Mask] = []
    for number, frame in zip(numbers, read(numbers), strict=True):
        small = shrink(np.ascontiguousarray(frame[rows, columns]), _SIDE).astype(np.float32).mean(axis=2)
        height, width = small.shape
        edges.append(np.stack(np.gradient(small)) * 2)
        scale = np.array([width / crop.width, height / crop.height])
        points = (poses.keypoints[number] - [crop.left, crop.top]) * scale
        people.append(body_hulls(points, poses.scores[number], (width, height))[0])
    all_edges = np.stack(edges)  # (samples, 2, height, width)
    median = np.median(all_edges, axis=0)
    strength = np.hypot(*median)
    apart = np.hypot(*(all_edges - median).transpose(1, 0, 2, 3))  # (samples, height, width)
    steady = (strength > _EDGE) & (apart.mean(axis=0) < _STEADY * strength)
    covered = np.stack(people).mean(axis=0)
    swept = ((covered >= _COVERED[0]) & (covered <= _COVERED[1])).astype(np.uint8)
    # Along the outline of a part that hardly moves the edges are the person's own: such narrow strips do not count.
    changing = cv2.morphologyEx(swept, cv2.MORPH_OPEN, np.ones((_STRIP, _STRIP), np.uint8)) > 0
    # An edge of the background is gone while the person is before it, for however short a time; writing stays. The
    # outline is uncertain by some pixels: only what lies further inside is surely the person's.
    inner = np.stack([cv2.erode(mask.astype(np.uint8), np.ones((_INNER, _INNER), np.uint8)) for mask in people])
    changing &= inner.any(axis=0)
    steady &= ~changing | ((apart * inner).sum(axis=0) < _STEADY * strength * inner.sum(axis=0))
    around = covered < _COVERED[0]
    strong = (np.hypot(all_edges[:, 0], all_edges[:, 1]) > _EDGE).mean(axis=0) * around
    if strong.sum() and steady[around].sum() < _STANDING * strong.sum():
        changing |= around
        steady &= ~around | _in_two_directions(median * steady)  # a line along which the camera moves stands still too
    return float(steady[changing].mean()) if changing.sum() >= _FEWEST else 0.0


def _in_two_directions(edges: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where edges ``(2, height, width)`` have more than one direction nearby: the eigenvalues of their tensor."""
    down, along = edges
    rows, columns, both = (cv2.blur(part, (_NEAR, _NEAR)) for part in (down * down, along * along, down * along))
    total = rows + columns
    least = total / 2 - np.sqrt(((rows - columns) / 2) ** 2 + both**2)
    return least > _ACROSS * total
