"""Scenery: furniture, plants and street things that stand before and behind a puppet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from animate_anyone.synthetic.figure.bricks import Array, Part, hem
from animate_anyone.synthetic.figure.paint import Material, Pattern
from animate_anyone.synthetic.place.props import Prop, block, lump, rod, sample_coats

Feet = list[tuple[float, float, float]]
Built = tuple[list[Part], Feet]
OUTDOORS = ("street", "open", "leaves", "lamps")  # backdrops under the sky


def _table(rng: np.random.Generator) -> Built:
    x, z, y = rng.uniform(0.4, 0.75), rng.uniform(0.25, 0.4), rng.uniform(0.62, 0.85)
    legs = [rod((i * 0.9 * x, 0, k * 0.85 * z), (i * 0.9 * x, y - 0.03, k * 0.85 * z), 0.035, "second")
            for i in (-1, 1) for k in (-1, 1)]  # fmt: skip
    things = [lump((rng.uniform(-0.7, 0.7) * x, y + 0.09, 0), (0.07, 0.09, 0.07), "third")] * int(rng.integers(2))
    return [*block((0, y - 0.03, 0), (x, 0.035, z), "first"), *legs, *things], [(0, 0, 1.2 * x)]


def _crate(rng: np.random.Generator) -> Built:
    side, tall = rng.uniform(0.22, 0.4), rng.uniform(0.2, 0.45)
    parts = block((0, tall, 0), (side, tall, side), "first")
    if rng.random() < 0.5:
        parts += block((0.1 * side, 2 * tall + 0.6 * side, 0), (0.7 * side, 0.6 * side, 0.7 * side), "second")
    return parts, [(0, 0, 1.5 * side)]


def _plant(rng: np.random.Generator) -> Built:
    pot, tall = rng.uniform(0.12, 0.2), rng.uniform(0.7, 1.3)
    top = np.array([0.0, 1.9 * pot, 0.0])
    parts = [rod((0, 0.3 * pot, 0), top, 0.8 * pot, "second", pot, cut=hem(np.array([0, 0.3 * pot, 0]), top, 1.0))]
    for k in range(11):
        turn, spread = 2.4 * k + rng.uniform(-0.3, 0.3), rng.uniform(0.12, 0.5)
        end = np.array([np.sin(turn) * spread, tall * rng.uniform(0.6, 1.0), np.cos(turn) * spread])
        parts.append(rod(0.75 * top + 0.35 * (end - 0.75 * top), end, 0.075, "first", 0.03, 0.35))
        parts.append(rod(0.9 * top, 0.75 * top + 0.5 * (end - 0.75 * top), 0.015, "first"))
    return parts, [(0, 0, 1.6 * pot)]


def _post(rng: np.random.Generator) -> Built:
    r = rng.uniform(0.045, 0.1)
    return [rod((0, 0, 0), (0, 3.2, 0), r, "first"), rod((0, 0, 0), (0, 0.18, 0), 1.7 * r, "second")], [(0, 0, 4 * r)]


def _tree(rng: np.random.Generator) -> Built:
    r, tall = rng.uniform(0.08, 0.15), rng.uniform(1.9, 2.6)
    parts = [rod((0, 0, 0), (0.1, tall, 0), 1.2 * r, "second", 0.8 * r)]
    for _ in range(7):
        at = (rng.uniform(-0.6, 0.6), tall + rng.uniform(-0.1, 0.9), rng.uniform(-0.5, 0.5))
        size = rng.uniform(0.3, 0.5)
        parts.append(lump(at, (size, 0.85 * size, size), "first"))
    return parts, [(0, 0, 0.6)]


def _fence(rng: np.random.Generator) -> Built:
    tall, gap, long = rng.uniform(0.6, 1.0), rng.uniform(0.16, 0.3), rng.uniform(0.9, 1.6)
    parts = [rod((-long, y * tall, 0), (long, y * tall, 0), 0.04, "second", flat=0.5) for y in (0.3, 0.75)]
    stakes = np.arange(-long, long + 1e-6, gap)
    parts += [rod((x, 0, 0.03), (x, tall, 0.03), 0.05, "first", flat=0.4) for x in stakes]
    return parts, [(float(x), 0.0, 0.2) for x in stakes[::2]]


def _sofa(rng: np.random.Generator) -> Built:
    x, tall = rng.uniform(0.55, 0.95), rng.uniform(0.22, 0.32)
    parts = block((0, 0.24, 0), (x, 0.19, 0.36), "first") + block((0, 0.4 + tall, -0.32), (x, tall, 0.1), "first")
    for side in (-1.0, 1.0):
        parts += block((side * (x + 0.08), 0.32, 0), (0.09, 0.28, 0.4), "second")
    return parts, [(k * 0.6 * x, 0.0, 0.6) for k in (-1, 0, 1)]


def _lamp(rng: np.random.Generator) -> Built:
    tall, wide = rng.uniform(1.3, 1.7), rng.uniform(0.16, 0.24)
    low, high = np.array([0.0, tall - 0.14, 0.0]), np.array([0.0, tall + 0.14, 0.0])
    shade = rod(low, high, wide, "first", 0.6 * wide, cut=hem(low, high, 1.0))
    return [rod((0, 0.02, 0), (0, tall, 0), 0.022, "third"), lump((0, 0.02, 0), (0.17, 0.03, 0.17), "third"),
            shade], [(0, 0, 0.25)]  # fmt: skip


def _bush(rng: np.random.Generator) -> Built:
    size = rng.uniform(0.25, 0.5)
    spots = rng.uniform(-1, 1, (8, 3)) * np.array([1.4, 0.5, 0.7]) * size
    parts = [lump((x, 0.8 * size + y, z), (0.8 * size, 0.75 * size, 0.8 * size), "first") for x, y, z in spots]
    return parts, [(0, 0, 1.8 * size)]


def _rock(rng: np.random.Generator) -> Built:
    parts = []
    for _ in range(3):
        r = rng.uniform(0.18, 0.4)
        parts.append(lump((rng.uniform(-0.4, 0.4), 0.5 * r, rng.uniform(-0.2, 0.2)), (1.3 * r, r, r), "first"))
    return parts, [(0, 0, 0.8)]


def _shelf(rng: np.random.Generator) -> Built:
    x, tall = rng.uniform(0.35, 0.6), rng.uniform(1.3, 2.0)
    parts = [part for k in (-1, 1) for part in block((k * x, tall / 2, 0), (0.03, tall / 2, 0.16), "first")]
    for y in np.linspace(0.1, tall, 4):
        parts += block((0, y, 0), (x, 0.025, 0.16), "first")
        for _ in range(3):
            r, at, coat = rng.uniform(0.05, 0.11), rng.uniform(-0.8, 0.8) * x, str(rng.choice(["second", "third"]))
            parts.append(rod((at, y, 0), (at, y + 0.1, 0), r, coat))
    return parts, [(0, 0, 1.2 * x)]


def _cone(rng: np.random.Generator) -> Built:
    tall = rng.uniform(0.45, 0.8)
    return [rod((0, 0, 0), (0, tall, 0), 0.26 * tall, "first", 0.05 * tall),
            *block((0, 0.02, 0), (0.32 * tall, 0.03, 0.31 * tall), "second")], [(0, 0, 0.5 * tall)]  # fmt: skip


def _cart(rng: np.random.Generator) -> Built:
    x, tall = rng.uniform(0.25, 0.4), rng.uniform(0.2, 0.35)
    parts = block((0, 0.16 + tall, 0), (x, tall, 0.25), "first")
    parts += [lump((i * 0.75 * x, 0.09, k * 0.24), (0.09, 0.09, 0.03), "second") for i in (-1, 1) for k in (-1, 1)]
    return [*parts, rod((x, 0.9, -0.2), (x, 0.9, 0.2), 0.02, "third")], [(0, 0, 1.4 * x)]


# name: (maker, share in front, share behind, indoors, outdoors)
SCENERY: dict[str, tuple[Callable[[np.random.Generator], Built], float, float, bool, bool]] = {
    "table": (_table, 1.4, 1.0, True, False), "crate": (_crate, 1.0, 1.0, True, True),
    "plant": (_plant, 1.2, 1.0, True, True), "post": (_post, 1.0, 0.7, True, True),
    "tree": (_tree, 0.8, 1.5, False, True), "fence": (_fence, 1.2, 1.2, False, True),
    "sofa": (_sofa, 0.7, 1.5, True, False), "lamp": (_lamp, 0.5, 1.2, True, False),
    "bush": (_bush, 1.0, 1.3, False, True), "rock": (_rock, 0.5, 0.8, False, True),
    "shelf": (_shelf, 0.0, 1.5, True, False), "cone": (_cone, 0.6, 0.5, False, True),
    "cart": (_cart, 0.8, 0.0, True, True),
}  # fmt: skip


def sample_scenery(
    rng: np.random.Generator, front: bool, outdoors: bool, scale: float, spot: Array, turn: Array, wide: bool
) -> Prop:
    """Draw a thing that suits the place.

    Args:
        front: whether it stands before the puppet. scale: factor of its size. spot: ``(T, 3)`` on the floor and
            turn: ``(T, 3, 3)``, where it stands; carts alone may move. wide: colours of photographs.
    """
    shares = {}
    for name, (_, before, behind, inside, outside) in SCENERY.items():
        shares[name] = (before if front else behind) * float(outside if outdoors else inside)
    total = sum(shares.values())
    kind = str(rng.choice(list(shares), p=[share / total for share in shares.values()]))
    parts, feet = SCENERY[kind][0](rng)
    coats = sample_coats(rng, wide)
    if kind in ("plant", "tree", "bush"):
        coats = (_foliage(rng), coats[1], coats[2])
    sized = [_grown(part, scale) for part in parts]
    if kind != "cart":
        spot, turn = np.repeat(spot[len(spot) // 2][None], len(spot), 0), np.repeat(turn[:1], len(spot), 0)
    return Prop(kind, sized, coats, turn, spot, [(scale * x, scale * z, scale * r) for x, z, r in feet])


def _grown(part: Part, scale: float) -> Part:
    return replace(part, start=scale * part.start, end=scale * part.end, radius_start=scale * part.radius_start,
                   radius_end=scale * part.radius_end,
                   cut=None if part.cut is None else (part.cut[0], scale * part.cut[1]))  # fmt: skip


def _foliage(rng: np.random.Generator) -> Material:
    red, green, blue = rng.uniform(0.05, 0.35), rng.uniform(0.3, 0.65), rng.uniform(0.05, 0.3)
    dark = (0.45 * red, 0.5 * green, 0.5 * blue)
    return Material(Pattern.NOISE, (red, green, blue), dark, (float(rng.uniform(8, 20)), 4.0), float(rng.random()), 0.5)
