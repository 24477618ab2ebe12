"""Draws poses the OpenPose way: coloured limbs, rainbow hands, white face dots, on black.

The pixel layout is the one that published checkpoints were trained on (AA1: poses by DWPose,
drawn the OpenPose way): limbs are filled ellipses darkened by 0.6, joints are discs in
full colour on top, then hands, then face. Nothing but NumPy is needed: every stroke is a capsule
or an ellipse, its pixels are found row by row, all strokes of a frame at once.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.skeleton import BODY_COLOURS, BODY_LIMBS, HAND_LIMBS, MIN_SCORE
from animate_anyone.errors import InputError
from animate_anyone.structures import BODY, FACE, LEFT_HAND, RIGHT_HAND, Picture, PoseSequence, Size
from animate_anyone.system.frame_sequence import FrameSequence, MadeFrames

_LIMB_DARKENING = 0.6
_LIMBS = np.array(BODY_LIMBS)
_LIMB_COLOURS = np.floor(np.array(BODY_COLOURS[: len(BODY_LIMBS)]) * _LIMB_DARKENING).astype(np.float32)
_JOINT_COLOURS = np.array(BODY_COLOURS, np.float32)
_FINGERS = np.array(HAND_LIMBS)
_FINGER_COLOURS = np.array(
    [[int(255 * c) for c in colorsys.hsv_to_rgb(edge / len(HAND_LIMBS), 1, 1)] for edge in range(len(HAND_LIMBS))],
    np.float32,
)
_HAND_DOT = np.array([0, 0, 255], np.float32)
_FACE_DOT = np.array([255, 255, 255], np.float32)


@dataclass(frozen=True)
class SkeletonStyle:
    """How thick the strokes are.

    Attributes:
        stick_width: half the width of a limb at its middle, pixels.
        joint_radius: radius of a body joint, pixels.
        hand_thickness: width of a finger line, pixels.
        hand_radius: radius of a hand point, pixels.
        face_radius: radius of a face point, pixels.
        reference_height: height of the picture for which the pixels above are meant; they scale
            with the height of the picture drawn. ``None``: the same pixels at any size.
        smooth: edges are anti-aliased and strokes keep fractions of a pixel. Otherwise edges are
            hard and strokes snap to whole pixels, as the published drawings do.
    """

    stick_width: float = 4.0
    joint_radius: float = 4.0
    hand_thickness: float = 2.0
    hand_radius: float = 4.0
    face_radius: float = 3.0
    reference_height: int | None = None
    smooth: bool = False

    def __post_init__(self) -> None:
        for name in ("stick_width", "joint_radius", "hand_thickness", "hand_radius", "face_radius"):
            if not 0 < getattr(self, name) < np.inf:
                raise InputError(f"SkeletonStyle.{name} is {getattr(self, name)}; give a number of pixels above 0")
        if self.reference_height is not None and self.reference_height < 1:
            raise InputError(
                f"SkeletonStyle.reference_height is {self.reference_height}; give a height in pixels, or None"
            )

    def scale(self, height: int) -> float:
        """What the stroke sizes are multiplied by in a picture of this height."""
        return 1.0 if self.reference_height is None else height / self.reference_height


STYLES = {
    "dwpose": SkeletonStyle(),
    "scaled": SkeletonStyle(reference_height=512, smooth=True),
}
"""``dwpose``: the same pixels at any size, as released weights saw them. ``scaled``: the same share
of the picture at any size, equal in width to ``dwpose`` at height 512; for small pictures."""


def draw_pose(pose: PoseSequence, size: Size, *, style: str | SkeletonStyle = "dwpose") -> Picture:
    """Draw all frames; :func:`draw_frames` does it one by one for clips of any length.

    Points below ``MIN_SCORE`` are left out, and limbs with such an end.

    Args:
        pose: the poses; they are rescaled from ``pose.size`` to ``size``, each axis by itself.
        size: ``(width, height)`` of the pictures, pixels.
        style: a name in :data:`STYLES`, or a style of your own.

    Returns:
        ``(frames, height, width, 3)`` uint8, RGB, 0 to 255.

    Raises:
        InputError: unknown style, or a size below 1.
    """
    pictures = np.empty((len(pose), size[1], size[0], 3), np.uint8)
    for picture, frame in zip(pictures, draw_frames(pose, size, style=style), strict=True):
        picture[:] = frame
    return pictures


def draw_frames(pose: PoseSequence, size: Size, *, style: str | SkeletonStyle = "dwpose") -> Iterator[Picture]:
    """As :func:`draw_pose`, one ``(height, width, 3)`` picture at a time; mistakes raise at once."""
    strokes = checked_style(style, size)
    points = pose.scaled_to(size).keypoints.astype(np.float64)
    return (_draw_frame(*frame, size, strokes) for frame in zip(points, pose.scores >= MIN_SCORE, strict=True))


def drawn_frames(pose: PoseSequence, size: Size, *, style: str | SkeletonStyle = "dwpose") -> FrameSequence[np.uint8]:
    """As :func:`draw_pose`, each frame drawn when asked for, once; mistakes raise at once."""
    strokes, seen = checked_style(style, size), pose.scores >= MIN_SCORE
    points = pose.scaled_to(size).keypoints.astype(np.float64)

    def draw(frame: int) -> Picture:
        return _draw_frame(points[frame], seen[frame], size, strokes)

    return MadeFrames(len(pose), (size[1], size[0], 3), np.uint8, draw, once=True)


def checked_style(style: str | SkeletonStyle, size: Size) -> SkeletonStyle:
    """The style itself, or the one of that name in :data:`STYLES`, for pictures of ``size`` ``(width, height)``.

    Raises:
        InputError: unknown style, or a size below 1.
    """
    if not isinstance(style, SkeletonStyle) and style not in STYLES:
        raise InputError(f"there is no skeleton style {style!r}; there are: {', '.join(STYLES)}")
    if min(size) < 1:
        raise InputError(f"pictures of {size[0]}x{size[1]} cannot be drawn; give a width and height of 1 or more")
    return style if isinstance(style, SkeletonStyle) else STYLES[style]


def _draw_frame(points: NDArray[np.float64], seen: NDArray[np.bool_], size: Size, style: SkeletonStyle) -> Picture:
    width, height = size
    canvas = np.zeros((height * width, 3), np.uint8)
    strokes = Strokes(canvas, size, style)
    for group in stroke_groups(seen):
        strokes.draw(group, points)
    return canvas.reshape(height, width, 3)


@dataclass(frozen=True)
class StrokeGroup:
    """Strokes of one kind, in drawing order.

    Attributes:
        kind: ``limb`` (ellipse), ``line`` or ``dot``.
        points: numbers of points of the pose, ``(n, 2)`` for the ends of limbs and lines, ``(n, 1)`` for dots.
        thickness: the field of :class:`SkeletonStyle` that says how thick.
        colour: ``(n, 3)`` or ``(3,)``, RGB, 0 to 255.
    """

    kind: str
    points: NDArray[np.intp]
    thickness: str
    colour: NDArray[np.float32]


def stroke_groups(seen: NDArray[np.bool_]) -> Iterator[StrokeGroup]:
    """What is drawn of a pose whose points ``(128,)`` are ``seen``, later groups over earlier ones."""
    limbs = np.flatnonzero(seen[BODY][_LIMBS].all(axis=1))
    joints = np.flatnonzero(seen[BODY])
    yield StrokeGroup("limb", _LIMBS[limbs], "stick_width", _LIMB_COLOURS[limbs])
    yield StrokeGroup("dot", joints[:, None], "joint_radius", _JOINT_COLOURS[joints])
    for group in (LEFT_HAND, RIGHT_HAND):
        edges = np.flatnonzero(seen[group][_FINGERS].all(axis=1))
        dots = group.start + np.flatnonzero(seen[group])
        yield StrokeGroup("line", group.start + _FINGERS[edges], "hand_thickness", _FINGER_COLOURS[edges])
        yield StrokeGroup("dot", dots[:, None], "hand_radius", _HAND_DOT)
    dots = FACE.start + np.flatnonzero(seen[FACE])
    yield StrokeGroup("dot", dots[:, None], "face_radius", _FACE_DOT)


class Strokes:
    """Paints on one ``(height * width, 3)`` canvas; later strokes cover earlier ones.

    Ends are ``(strokes, 2, 2)`` pixels; a colour is ``(3,)`` or ``(strokes, 3)``.
    """

    def __init__(self, canvas: NDArray[Any], size: Size, style: SkeletonStyle) -> None:
        self.canvas, self.size, self.style, self.smooth = canvas, size, style, style.smooth
        # Hard-edged lines and limbs, not dots, take in the pixels that their outline runs through.
        self._outline = 0.0 if self.smooth else 0.5

    def draw(self, group: StrokeGroup, points: NDArray[np.float64], colour: NDArray | None = None) -> None:
        """Paint a group of strokes of the pose with these ``points`` ``(128, 2)``; in other colours, if given."""
        colour = group.colour if colour is None else colour
        thickness = getattr(self.style, group.thickness) * self.style.scale(self.size[1])
        ends = points[group.points]  # (strokes, 2, 2), of dots (strokes, 1, 2)
        if group.kind == "limb":
            self._draw_limbs(ends, thickness, colour)
        else:
            radius = thickness if group.kind == "dot" else thickness / 2 + self._outline
            self.paint(self._snap(ends[:, 0]), self._snap(ends[:, -1]), radius, colour, ellipse=False)

    def _draw_limbs(self, ends: NDArray, radius: float, colour: NDArray) -> None:
        """Ellipses whose long axis runs from end to end; ``radius`` is the other half axis."""
        along = (ends[:, 1] - ends[:, 0]) / 2
        centre = ends.mean(axis=1)
        if not self.smooth:  # the published drawings cut centre, length and angle to whole numbers
            centre = self._snap(centre)
            angle = np.deg2rad(np.trunc(np.rad2deg(np.arctan2(-along[:, 1], -along[:, 0]))))
            length = np.floor(np.hypot(*along.T)) + 2 * self._outline
            along = -length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)  # still from start to end
        self.paint(centre - along, centre + along, radius + self._outline, colour, ellipse=True)

    def _snap(self, points: NDArray) -> NDArray:
        return points if self.smooth else np.floor(points) + 0.5

    def covered(
        self, start: NDArray, end: NDArray, radius: float, ellipse: bool
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
        """Pixels on or near the strokes: number of the stroke, of the pixel, and how far outside, negative inside."""
        stroke, column, row = _pixels_near(start, end, radius + 1, self.size)
        outside = _distance(start, end, radius, stroke, column + 0.5, row + 0.5, ellipse)
        return stroke, row * self.size[0] + column, outside

    def paint(self, start: NDArray, end: NDArray, radius: float, colour: NDArray, ellipse: bool) -> None:
        """Fill capsules or ellipses from ``start`` to ``end``, ``(strokes, 2)`` each."""
        stroke, pixel, outside = self.covered(start, end, radius, ellipse)
        if not len(stroke):
            return
        colour = np.broadcast_to(colour, (len(start), 3))
        if not self.smooth:
            inside = outside <= 0
            self.canvas[pixel[inside]] = colour[stroke[inside]]  # of repeated pixels the last one stays
            return
        opacity = np.clip(0.5 - outside, 0, 1)
        touched = opacity > 0
        stroke, pixel, opacity = stroke[touched], pixel[touched], opacity[touched].astype(np.float32)[:, None]
        bounds = np.searchsorted(stroke, np.arange(len(start) + 1))
        for number in range(len(start)):
            own = slice(bounds[number], bounds[number + 1])
            below = self.canvas[pixel[own]]
            self.canvas[pixel[own]] = below + opacity[own] * (colour[number] - below) + 0.5


def _pixels_near(
    start: NDArray, end: NDArray, reach: float, size: Size
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """All pixels that may lie within ``reach`` of each segment: stroke number, column, row of each.

    In a row only that part of a segment matters which is at most ``reach`` rows away; so the
    number of pixels follows the area of the strokes, not that of their bounding boxes.
    """
    width, height = size
    first = np.clip(np.floor(np.minimum(start[:, 1], end[:, 1]) - reach), 0, height).astype(np.intp)
    stop = np.clip(np.ceil(np.maximum(start[:, 1], end[:, 1]) + reach), 0, height).astype(np.intp)
    stroke, row = _runs(first, stop)

    origin, along = start[stroke], (end - start)[stroke]
    slope = np.where(np.abs(along[:, 1]) < 1e-9, 1e-9, along[:, 1])
    above = (row + 0.5 - reach - origin[:, 1]) / slope
    below = (row + 0.5 + reach - origin[:, 1]) / slope
    one, other = (origin[:, 0] + np.clip(t, 0, 1) * along[:, 0] for t in (above, below))
    first = np.clip(np.floor(np.minimum(one, other) - reach), 0, width).astype(np.intp)
    stop = np.clip(np.ceil(np.maximum(one, other) + reach), 0, width).astype(np.intp)
    run, column = _runs(first, stop)
    return stroke[run], column, row[run]


def _runs(first: NDArray[np.intp], stop: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The whole numbers of every half-open range, one after the other, and which range each is of."""
    lengths = np.maximum(stop - first, 0)
    run = np.repeat(np.arange(len(first)), lengths)
    before = np.cumsum(lengths) - lengths
    return run, np.arange(len(run)) + (first - before)[run]


def _distance(
    start: NDArray, end: NDArray, radius: float, stroke: NDArray, x: NDArray, y: NDArray, ellipse: bool
) -> NDArray[np.float64]:
    """Pixels from a stroke's edge, negative inside; for ellipses a first-order estimate, exact on the edge."""
    along = end - start
    length = np.hypot(along[:, 0], along[:, 1])
    unit = along / np.maximum(length, 1e-9)[:, None]
    ux, uy = unit[stroke].T
    dx, dy = x - start[stroke, 0], y - start[stroke, 1]
    u, v = dx * ux + dy * uy, dy * ux - dx * uy
    if not ellipse:
        beyond = u - np.clip(u, 0, length[stroke])
        # A dot has no direction: u and v are then 0, and the offset itself counts.
        return np.where(length[stroke] > 0, np.hypot(beyond, v), np.hypot(dx, dy)) - radius
    half = np.maximum(length / 2, 0.5)[stroke]
    u = u - length[stroke] / 2
    norm = np.hypot(u / half, v / radius)
    slope = np.hypot(u / half**2, v / radius**2)
    return norm * (norm - 1) / np.maximum(slope, 1e-9)
