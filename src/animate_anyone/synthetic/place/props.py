"""Things made of bricks: what is shared by all of them, and those that a puppet holds or touches.

A prop's bricks hang on one frame of its own (joint 0; y up, the floor at y = 0 where it stands on one)
that moves through the clip. Lengths are metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from animate_anyone.synthetic.figure.body import JOINT, Body, Placed, rotation
from animate_anyone.synthetic.figure.bricks import Array, Cut, Label, Part, PartTable, Point, ball, tabulate
from animate_anyone.synthetic.figure.look import colour
from animate_anyone.synthetic.figure.paint import Material, Pattern, rgb
from animate_anyone.synthetic.figure.wardrobe import natural
from animate_anyone.synthetic.motion.motion import SIDES, TAU, Score, wave

COATS = ("first", "second", "third")
GRIP = (0.45, 0.75, 0.75, 0.75, 0.75)
OBJECTS = {  # name: share in a random draw
    "tool": 0.22, "ball": 0.13, "umbrella": 0.15, "parcel": 0.14, "bag": 0.12, "balloon": 0.09, "bounce": 0.08,
    "chair": 0.07,
}  # fmt: skip
HEADROOM = {"umbrella": 0.22, "balloon": 0.24}  # over the crown, in body heights


@dataclass(frozen=True)
class Prop:
    """One thing and its way through ``T`` moments.

    Attributes:
        kind: its name. parts: bricks on joint 0, painted with :data:`COATS`. coats: those three paints.
        turns: ``(T, 3, 3)`` and spots: ``(T, 3)`` of its frame in the world.
        feet: ``(x, z, radius)`` in its frame, where it darkens the floor.
    """

    kind: str
    parts: list[Part]
    coats: tuple[Material, Material, Material]
    turns: Array
    spots: Array
    feet: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def moves(self) -> bool:
        return bool((np.ptp(self.spots, axis=0) > 0).any() or (np.ptp(self.turns, axis=0) > 0).any())


def gather(props: Sequence[Prop]) -> tuple[PartTable, list[Material], Placed]:
    """All bricks of one or more props, their paints and where their frames are, for the ray caster."""
    parts, names, paints = [], [], []
    for index, prop in enumerate(props):
        parts += [replace(part, joint=index, material=f"{index} {part.material}") for part in prop.parts]
        names += [f"{index} {coat}" for coat in COATS]
        paints += list(prop.coats)
    turns, spots = np.stack([p.turns for p in props], 1), np.stack([p.spots for p in props], 1)
    return tabulate(parts, names), paints, Placed(turns, spots, np.zeros((len(spots), 2, 5, 3)), np.ones(spots.shape))


def rod(
    start: Point, end: Point, radius: float, coat: str, last: float | None = None, flat: float = 1.0,
    cut: Cut | None = None,
) -> Part:  # fmt: skip
    """A rounded cone from ``start`` to ``end``; ``last`` is the radius there, ``flat`` its depth by its width."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    toward = (0.0, 1.0, 0.0) if abs(b[2] - a[2]) > 0.9 * np.linalg.norm(b - a) else (0.0, 0.0, 1.0)
    return Part(0, a, b, radius, radius if last is None else last, Label.BACKGROUND, coat, (1.0, flat), toward, cut)


def lump(centre: Point, radii: tuple[float, float, float], coat: str, cut: Cut | None = None) -> Part:
    """An ellipsoid."""
    return ball(0, centre, radii, Label.BACKGROUND, coat, cut)


def block(centre: Point, half: tuple[float, float, float], coat: str) -> list[Part]:
    """A box with rounded edges and half sides ``half``: columns along its longest side, cut at both ends."""
    sides, middle = np.eye(3), np.asarray(centre, float)
    long = int(np.argmax(half))
    b, c = (k for k in range(3) if k != long)
    x, y, z = (float(v) for v in sides[c])
    thin = min(half[b], half[c]) < 0.25 * max(half[b], half[c])  # a board: its middle alone
    corners = [] if thin else [(0.62, 0.38 * i, 0.38 * k) for i in (1, -1) for k in (1, -1)]
    out = []
    for size, at_b, at_c in [(0.96, 0.0, 0.0), *corners]:
        start = middle + at_b * half[b] * sides[b] + at_c * half[c] * sides[c]
        radius = size * half[b]
        for way in (1.0, -1.0):
            out.append(Part(0, start, start + way * half[long] * sides[long], radius, radius, Label.BACKGROUND, coat,
                            (1.0, half[c] / half[b]), (x, y, z), (way * sides[long], half[long])))  # fmt: skip
    return out


def sample_coats(rng: np.random.Generator, wide: bool, patterned: float = 0.4) -> tuple[Material, Material, Material]:
    """Three paints; the first may have a pattern. ``wide``: colours of photographs."""
    kinds = (Pattern.STRIPES_ACROSS, Pattern.STRIPES_ALONG, Pattern.CHECKS, Pattern.DOTS, Pattern.NOISE, Pattern.PLAID)

    def coat(patterned: float) -> Material:
        first, second = (natural(rng, 0.15) if wide and rng.random() < 0.7 else colour(rng, 0.2) for _ in range(2))
        kind = kinds[int(rng.integers(len(kinds)))] if rng.random() < patterned else Pattern.PLAIN
        if kind is Pattern.NOISE:
            second = rgb(np.array(first) * rng.uniform(0.4, 0.8))
        cycles = (float(rng.uniform(3, 12)), float(rng.integers(2, 7)))
        return Material(kind, first, second, cycles, float(rng.random()), float(rng.uniform(0.3, 0.6)))

    return coat(patterned), coat(0.15), coat(0.0)


def take_up(kind: str, score: Score, rng: np.random.Generator, hand: int) -> None:
    """Bend a motion so that the arms fit the object; ``hand`` 0 is the left."""
    times = score.times
    sway = 0.06 * wave(times, rng.uniform(0.3, 0.8), rng.random())
    _, _, side = SIDES[hand]
    if kind not in ("chair", "stool"):
        score.curls[:, hand] = GRIP if kind != "ball" else (0.2, 0.45, 0.45, 0.45, 0.45)
    if kind == "umbrella":
        score.arm(side, rng.uniform(0.25, 0.5) + sway, rng.uniform(0.05, 0.3), 0.0, rng.uniform(1.85, 2.15))
    elif kind == "parcel":
        forward, out, elbow = rng.uniform(0.25, 0.6), rng.uniform(0.05, 0.2), rng.uniform(1.0, 1.4)
        for _, _, name in SIDES:
            score.arm(name, forward + sway, out, 0.0, elbow - sway)
            score.angles[:, JOINT[f"{name}_wrist"]] = 0.0
        score.curls[:] = (0.0, 0.1, 0.1, 0.1, 0.1)
    elif kind == "bag":
        score.arm(side, 0.05 + 2 * sway, rng.uniform(0.3, 0.45), 0.0, 0.15)
    elif kind == "balloon":
        score.arm(side, rng.uniform(0.3, 0.9) + sway, rng.uniform(0.2, 0.5), 0.0, rng.uniform(1.0, 1.6))
    elif kind == "bounce":
        beat = np.cos(TAU * times / BOUNCE)
        score.arm(side, rng.uniform(0.45, 0.65), 0.3, 0.0, 0.85 - 0.2 * beat)
        score.curls[:, hand] = (0.1, 0.2, 0.2, 0.2, 0.2)
    elif kind == "chair":
        score.arm(side, rng.uniform(0.0, 0.3), rng.uniform(0.45, 0.7) + 0.2 * sway, 0.0, rng.uniform(0.3, 0.7))


BOUNCE = 0.7  # seconds from hand to floor and back


def find_palm(body: Body, placed: Placed, hand: int, off: float = 0.12) -> Array:
    """``(T, 3)`` a point ``off`` hand lengths before the middle of a palm, world."""
    sign, wrist = SIDES[hand][1], JOINT[f"{SIDES[hand][2]}_wrist"]
    local = body.hand * np.array([-sign * off, -0.38, 0.02])
    return np.asarray(placed.origins[:, wrist] + placed.rotations[:, wrist] @ local)


def make_object(
    kind: str, rng: np.random.Generator, body: Body, placed: Placed, heading: Array, times: Array, hand: int, wide: bool
) -> Prop:
    """The object of a kind in the hands of a placed puppet; ``heading`` ``(T,)`` radians as in ``BodyPose``."""
    h, frames = body.height, len(times)
    coats = sample_coats(rng, wide, 0.6)
    palm = find_palm(body, placed, hand)
    wrist = placed.rotations[:, JOINT[f"{SIDES[hand][2]}_wrist"]]
    sway = [0.08 * wave(times, rng.uniform(0.3, 0.9), rng.random()) for _ in range(2)]
    upright = rotation(np.stack([sway[0], heading, sway[1]], -1))
    fixed = np.broadcast_to(np.eye(3), (frames, 3, 3))
    if kind == "tool":
        return Prop(kind, _tool(rng, h), coats, wrist, palm)
    if kind == "ball":
        r = h * rng.uniform(0.045, 0.085)
        return Prop(kind, [lump((0, 0, 0), (r, r, r), "first")], _round(coats, r), wrist,
                    find_palm(body, placed, hand, 0.1 + r / body.hand), [(0, 0, r)])  # fmt: skip
    if kind == "bounce":
        r = h * rng.uniform(0.06, 0.08)
        away = 2 * (times / BOUNCE % 1.0) - 1
        spots = palm + 0.02 * h * rotation(np.stack([0 * heading, heading, 0 * heading], -1))[:, :, 2]
        spots[:, 1] = r + np.maximum(palm[:, 1] - 2 * r - 0.02 * h, 0) * (1 - away**2)
        spin = rotation(np.stack([5 * times, 0 * times, 0 * times], -1))
        return Prop(kind, [lump((0, 0, 0), (r, r, r), "first")], _round(coats, r), spin, spots, [(0, 0, 1.3 * r)])
    if kind == "umbrella":
        return Prop(kind, _umbrella(rng, h), (_gores(coats[0]), coats[1], coats[2]), upright, palm,
                    [(0, 0, 0.2 * h)])  # fmt: skip
    if kind == "balloon":
        top, r = h * rng.uniform(0.36, 0.46), h * rng.uniform(0.085, 0.12)
        parts = [rod((0, -0.02 * h, 0), (0, top, 0), 0.008 * h, "third"),
                 rod((0, top + 0.4 * r, 0), (0, top + 1.5 * r, 0), 0.45 * r, "first", r)]  # fmt: skip
        return Prop(kind, parts, coats, upright, palm)
    if kind == "parcel":
        left, right = (find_palm(body, placed, k, 0.13) for k in (0, 1))
        across = left - right
        wide_half = 0.5 * float(np.linalg.norm(across, axis=-1).mean())
        x = across / np.linalg.norm(across, axis=-1, keepdims=True)
        z = np.cross(x, np.array([0.0, 1.0, 0.0]))
        z /= np.linalg.norm(z, axis=-1, keepdims=True)
        tall, deep = h * rng.uniform(0.05, 0.11), h * rng.uniform(0.06, 0.1)
        parts = block((0, 0, 0), (wide_half, tall, deep), "first")
        parts += block((0, 0, 0), (0.16 * wide_half, 1.02 * tall, 1.02 * deep), "second")
        spots = 0.5 * (left + right) + 0.3 * deep * z
        return Prop(kind, parts, coats, np.stack([x, np.cross(z, x), z], -1), spots, [(0, 0, 0.12 * h)])
    if kind == "bag":
        drop, half = h * rng.uniform(0.06, 0.1), h * np.array([0.03, rng.uniform(0.055, 0.09), rng.uniform(0.06, 0.09)])
        parts = block((0, -drop - half[1], 0), (float(half[0]), float(half[1]), float(half[2])), "first")
        parts += [rod((0, 0, 0), (0, -drop, k * 0.7 * half[2]), 0.008 * h, "second") for k in (-1, 1)]
        return Prop(kind, parts, coats, upright, palm, [(0, 0, 0.08 * h)])
    if kind == "stool":
        low = int(np.argmin(placed.origins[:, 0, 1]))
        seat = max(0.12 * h, float(placed.origins[low, 0, 1]) - 1.25 * body.widths["pelvis"])
        spots = np.repeat(placed.origins[low : low + 1, 0] * np.array([1.0, 0.0, 1.0]), frames, 0)
        turned = np.repeat(rotation(np.array([[0.0, heading[low], 0.0]])), frames, 0)
        return Prop(kind, _seat(0.15 * h, seat), coats, turned, spots, [(0, 0, 0.17 * h)])
    assert kind == "chair"
    back = palm.mean(0)
    turned = rotation(np.array([[0.0, rng.uniform(-0.6, 0.6) + heading.mean(), 0.0]]))
    side, top = 0.13 * h, float(back[1]) - 0.012 * h
    parts = [*_seat(side, 0.55 * top), *block((0, 0.88 * top, -side), (side, 0.12 * top, 0.02 * h), "second")]
    for k in (1, -1):
        parts.append(rod((k * side, 0.55 * top, -side), (k * side, top - 0.02 * h, -side), 0.016 * h, "third"))
    spot = back * np.array([1.0, 0.0, 1.0]) + (turned[0] @ np.array([0.0, 0.0, side]))
    return Prop(kind, parts, coats, fixed @ turned, np.repeat(spot[None], frames, 0), [(0, 0, 1.3 * side)])


def _round(coats: tuple[Material, Material, Material], radius: float) -> tuple[Material, Material, Material]:
    """The first paint's pattern as wide as suits a ball."""
    first = replace(coats[0], cycles=(1.0 / radius, 4.0))
    return first, coats[1], coats[2]


def _gores(coat: Material) -> Material:
    return replace(coat, pattern=Pattern.STRIPES_ALONG if coat.pattern else Pattern.PLAIN, cycles=(8.0, 4.0), share=0.5)


def _tool(rng: np.random.Generator, h: float) -> list[Part]:
    """A stick through the fist, forward of a hanging hand, with or without something at its end."""
    long, thick = h * rng.uniform(0.28, 0.5), h * rng.uniform(0.011, 0.016)
    stick = [rod((0, 0, -0.25 * long), (0, 0, long), thick, "first")]
    end = int(rng.integers(5))
    if end == 1:  # a racket
        stick.append(lump((0, 0, 1.15 * long), (0.012 * h, 0.07 * h, 0.09 * h), "second"))
    elif end == 2:  # a flag
        stick += block((0, -0.11 * h, long - 0.09 * h), (0.006 * h, 0.11 * h, 0.08 * h), "second")
    elif end == 3:  # a mallet
        stick.append(rod((0, -0.07 * h, long), (0, 0.07 * h, long), 0.035 * h, "second"))
    elif end == 4:  # a lantern or a drumstick's head
        stick.append(lump((0, 0, long), (0.035 * h, 0.035 * h, 0.035 * h), "second"))
    return stick


def _umbrella(rng: np.random.Generator, h: float) -> list[Part]:
    top, wide = h * rng.uniform(0.34, 0.42), h * rng.uniform(0.24, 0.34)
    under = np.array([0.0, -1.0, 0.0]), 0.0
    return [
        rod((0, -0.06 * h, 0), (0, top + 0.36 * wide, 0), 0.009 * h, "third"),
        rod((0, -0.06 * h, 0), (0, -0.09 * h, 0.02 * h), 0.014 * h, "second"),
        lump((0, top, 0), (wide, 0.34 * wide, wide), "first", under),
    ]


def _seat(half: float, height: float) -> list[Part]:
    """A square seat on four legs; ``height`` is its upper side."""
    thick = 0.14 * half
    legs = [rod((x * 0.85 * half, 0, z * 0.85 * half), (x * 0.85 * half, height - thick, z * 0.85 * half),
                0.12 * half, "third") for x in (-1, 1) for z in (-1, 1)]  # fmt: skip
    return block((0, height - thick, 0), (half, thick, 0.98 * half), "first") + legs
