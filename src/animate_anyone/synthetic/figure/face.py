"""Faces: where eyes, brows, nose and mouth sit, how they are painted, and their 68 points.

Feature coordinates are in head heights: x to the person's left of the middle, y up from the chin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from animate_anyone.synthetic.figure.bare import head_parts
from animate_anyone.synthetic.figure.body import Body
from animate_anyone.synthetic.figure.bricks import Array, Label, Part, tabulate
from animate_anyone.synthetic.figure.paint import Colour, rgb

CHIN = 0.18  # the head joint lies this many head heights above the chin


@dataclass(frozen=True)
class Face:
    """Sizes in head heights, colours RGB in [0, 1]; ``eye`` and ``mouth`` are half width and half height."""

    eye_x: float
    eye_y: float
    eye: tuple[float, float]
    iris: float
    brow_y: float
    brow: tuple[float, float]
    brow_tilt: float
    nose_y: float
    nose: float
    mouth_y: float
    mouth: tuple[float, float]
    smile: float
    blush: float
    iris_colour: Colour
    brow_colour: Colour
    lip_colour: Colour


def sample_face(rng: np.random.Generator, body: Body, hair: Array, skin: Array) -> Face:
    """Draw a face; small-headed bodies get larger features so that they stay visible."""
    cartoon = body.kind in ("cartoon", "child")
    big = 1.0 + 0.55 * np.clip((body.height / body.head - 4.0) / 4.0, 0, 1)
    eye = rng.uniform(0.050, 0.078) * (1.05 if cartoon else 0.95) * (0.8 + 0.2 * big)
    dark = 0.15 + 0.35 * rng.random(3) * rng.random()
    brow = np.clip(0.55 * hair if rng.random() < 0.7 else skin * 0.35, 0.02, 0.9)
    if abs(brow.mean() - skin.mean()) < 0.15:
        brow = skin * 0.4
    lips = np.clip(skin * np.array([0.85, 0.45, 0.45]) * rng.uniform(0.7, 1.0), 0, 1)
    if rng.random() < 0.25:
        lips = np.array([0.55, 0.08, 0.12]) * rng.uniform(0.6, 1.4)
    eye_y = rng.uniform(0.40, 0.48)
    return Face(
        eye_x=rng.uniform(0.135, 0.165),
        eye_y=eye_y,
        eye=(eye * rng.uniform(1.0, 1.25), eye * rng.uniform(0.8, 1.3)),
        iris=eye * rng.uniform(0.62, 0.8),
        brow_y=eye_y + rng.uniform(0.125, 0.16),
        brow=(rng.uniform(0.075, 0.105), rng.uniform(0.013, 0.024) * big),
        brow_tilt=rng.uniform(-0.3, 0.3),
        nose_y=eye_y - rng.uniform(0.11, 0.14),
        nose=rng.uniform(0.035, 0.06),
        mouth_y=rng.uniform(0.155, 0.195),
        mouth=(rng.uniform(0.085, 0.14), rng.uniform(0.014, 0.024) * big),
        smile=rng.uniform(-0.02, 0.045),
        blush=rng.uniform(0, 0.3) if rng.random() < 0.4 else 0.0,
        iris_colour=rgb(dark),
        brow_colour=rgb(brow),
        lip_colour=rgb(lips),
    )


def on_head(origin: Array, direction: Array, body: Body) -> Array:
    """Where rays from inside the head leave it: ``(N, 3)`` origins and directions, head joint's frame."""
    head = tabulate(head_parts(body)[:1], ["face"])
    low, high, length = head.radius_start[0], head.radius_end[0], head.length[0]
    slope = (low - high) / length
    flank = np.sqrt(1 - slope**2)
    start = ((origin - head.origin[0]) @ head.axes[0]) / head.stretch[0]
    way = (direction @ head.axes[0]) / head.stretch[0]
    near, far = np.zeros(len(origin)), np.full(len(origin), 1.5 * body.head)
    for _ in range(24):
        middle = 0.5 * (near + far)
        local = start + way * middle[:, None]
        out, y = np.hypot(local[:, 0], local[:, 2]), local[:, 1]
        side = y * flank - out * slope  # which of the two spheres or the cone between is nearest
        distance = np.where(side < 0, np.hypot(out, y) - low,
                            np.where(side > flank * length, np.hypot(out, y - length) - high,
                                     out * flank + y * slope - low))  # fmt: skip
        near, far = np.where(distance > 0, near, middle), np.where(distance > 0, middle, far)
    return origin + direction * near[:, None]


def _feature_points(face: Face, mouth: float, blink: float) -> Array:
    """``(51, 2)`` the points 17 to 67 on the face plane."""
    points: list[tuple[float, float]] = []
    for side in (-1, 1):
        for k in (-1.0, -0.5, 0.0, 0.5, 1.0):  # right brow outer to inner, left brow inner to outer
            outward = k * side  # 1 at the outer end
            points.append((side * face.eye_x + k * face.brow[0],
                           face.brow_y - outward * face.brow[0] * face.brow_tilt + 0.012 * (1 - k * k)))  # fmt: skip
    top = face.eye_y - 0.02
    points += [(0.0, top + (face.nose_y - top) * k / 3) for k in range(4)]
    points += [(k * face.nose * 0.55, face.nose_y - face.nose * (0.9 - 0.15 * abs(k))) for k in (-2, -1, 0, 1, 2)]
    for side in (-1, 1):
        x, (w, h) = side * face.eye_x, face.eye
        lid = face.eye_y + h * 0.8 * (1 - 2 * blink * 0.9)
        low = face.eye_y - h * 0.8
        points += [(x - w, face.eye_y), (x - 0.4 * w, lid), (x + 0.4 * w, lid), (x + w, face.eye_y),
                   (x + 0.4 * w, low), (x - 0.4 * w, low)]  # fmt: skip
    w, h = face.mouth
    drop = 0.10 * mouth
    corner = face.mouth_y + face.smile
    for scale, height, across in ((1.0, h, (-1, -0.66, -0.3, 0, 0.3, 0.66, 1)), (0.85, 0.3 * h, (-1, -0.4, 0, 0.4, 1))):
        curve = [(k * w * scale, face.mouth_y + face.smile * k * k) for k in across]
        upper = [(x, y + (height if 0 < i < len(curve) - 1 else 0)) for i, (x, y) in enumerate(curve)]
        lower = [(x, y - height - drop * (1 - (x / w) ** 2)) for x, y in curve[-2:0:-1]]
        upper[0], upper[-1] = (-w * scale, corner), (w * scale, corner)
        points += upper + lower
    return np.array(points)


def landmarks(body: Body, face: Face, mouth: Array, blink: Array) -> Array:
    """``(T, 68, 3)`` face points in the head joint's frame, metres; ``mouth`` and ``blink`` are ``(T,)``."""
    size = body.head
    angle = np.linspace(-1.02, 1.02, 17) * np.pi / 2  # right ear, chin, left ear
    centre = np.array([0.0, (0.42 - CHIN) * size, 0.02 * size])
    way = np.stack([np.sin(angle), -np.cos(angle), 0.35 * np.cos(angle) + 0.12], -1)
    jaw = on_head(np.broadcast_to(centre, (17, 3)), way / np.linalg.norm(way, axis=1, keepdims=True), body)

    flat = np.concatenate([_feature_points(face, *state) for state in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))]) * size
    origin = np.concatenate([flat - np.array([0, CHIN * size]), np.zeros((len(flat), 1))], 1)
    spots = on_head(origin, np.broadcast_to(np.array([0.0, 0.0, 1.0]), origin.shape), body).reshape(3, 51, 3)
    spots[:, 10:14, 2] += np.linspace(0.0, 1.0, 4) * face.nose * size
    spots[:, 14:19, 2] += 0.3 * face.nose * size
    rest, talking, blinking = (np.concatenate([jaw, spot]) for spot in spots)
    moved = mouth[:, None, None] * (talking - rest) + blink[:, None, None] * (blinking - rest)
    return np.asarray(rest + moved)


def ears(body: Body) -> Array:
    """``(2, 3)`` right and left ear in the head joint's frame."""
    right, left = head_parts(body)[1:3]
    return np.stack([right.start, left.start])


def nose_part(body: Body, face: Face) -> Part:
    """The nose, a small bump; its tip is landmark 30."""
    size = body.head * face.nose
    middle = np.array([[0.0, (face.nose_y - CHIN) * body.head, 0.0]])
    tip = on_head(middle, np.array([[0.0, 0.0, 1.0]]), body)[0] + np.array([0.0, 0.0, size])
    start, end = tip - np.array([0, -1.3 * size, 1.3 * size]), tip - np.array([0, 0, 0.8 * size])
    return Part(4, start, end, 0.45 * size, 0.8 * size, Label.HEAD, "nose")


def paint_face(face: Face, x: Tensor, y: Tensor, front: Tensor, skin: Tensor, mouth: Tensor, blink: Tensor) -> Tensor:
    """Colours ``(N, 3)`` of head points at ``x, y`` (head heights, ``(N,)``) over ``skin`` ``(N, 3)``.

    ``front`` says which points look forward; ``mouth`` and ``blink`` are ``(N,)`` in [0, 1].
    """

    def lay(colour: Tensor, where: Tensor, paint: tuple[float, float, float], cover: float = 1.0) -> Tensor:
        tint = torch.tensor(paint, dtype=colour.dtype, device=colour.device)
        return torch.where((where & front)[:, None], colour + (tint - colour) * cover, colour)

    colour = skin
    side = x.abs()
    dx, dy = side - face.eye_x, y - face.eye_y
    if face.blush:
        blush = (dx - 0.05) ** 2 + (y - face.eye_y + 0.17) ** 2 < 0.006
        colour = lay(colour, blush, (0.95, 0.35, 0.35), face.blush)
    w, h = face.eye
    eye = (dx / w) ** 2 + (dy / h) ** 2
    open_eye = (eye < 1) & (dy < h * (1 - 2 * blink))
    colour = lay(colour, eye < 1.5, (0.12, 0.09, 0.09), 0.55)
    colour = torch.where(((eye < 1) & ~open_eye & front)[:, None], skin * 0.85, colour)
    colour = lay(colour, open_eye, (0.97, 0.97, 0.96))
    gaze = (dx * dx + dy * dy) / face.iris**2
    colour = lay(colour, open_eye & (gaze < 1), face.iris_colour)
    colour = lay(colour, open_eye & (gaze < 0.3), (0.02, 0.02, 0.03))
    rise = y - face.brow_y + dx * face.brow_tilt - 0.012 * (1 - (dx / face.brow[0]) ** 2)
    colour = lay(colour, (dx.abs() < face.brow[0]) & (rise.abs() < face.brow[1]), face.brow_colour)
    w, h = face.mouth
    across = (x / w) ** 2
    line = y - face.mouth_y - face.smile * across
    shape = h * (1 - across).clamp_min(0).sqrt()
    drop = 0.10 * mouth * (1 - across)
    colour = lay(colour, (across < 1) & (line < shape) & (line > -shape - drop), face.lip_colour)
    inside = (across < 0.72) & (line < 0.3 * shape) & (line > -0.3 * shape - drop)
    return lay(colour, inside, (0.25, 0.04, 0.06))
