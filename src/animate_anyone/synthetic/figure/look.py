"""Looks: clothes, hair, hats, colours and faces, drawn at random and built from bricks."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace

import numpy as np

from animate_anyone.synthetic.figure.bare import body_parts, head_parts
from animate_anyone.synthetic.figure.body import JOINT, Body
from animate_anyone.synthetic.figure.bricks import Array, Label, Part, PartTable, above, ball, hem, tabulate
from animate_anyone.synthetic.figure.face import Face, nose_part, sample_face
from animate_anyone.synthetic.figure.paint import Colour, Emblem, Material, Pattern, rgb

SKINS = ((0.99, 0.87, 0.78), (0.95, 0.77, 0.64), (0.87, 0.66, 0.50), (0.72, 0.50, 0.35), (0.52, 0.34, 0.23),
         (0.34, 0.22, 0.16))  # fmt: skip
HAIRS = ((0.10, 0.07, 0.06), (0.28, 0.17, 0.10), (0.48, 0.30, 0.16), (0.86, 0.70, 0.38), (0.66, 0.28, 0.12),
         (0.72, 0.72, 0.74))  # fmt: skip
HAIR_STYLES = ("bald", "short", "bob", "long", "ponytail", "bun", "afro", "mohawk", "spikes", "pigtails", "topknot")
UNDER_HAT = ("bald", "short", "bob", "long", "ponytail", "pigtails")
HATS = ("none", "cap", "beanie", "top_hat", "brim", "cone", "band")
OUTFITS = ("trousers", "shorts", "skirt", "dress", "coat", "suit")
SLEEVES = ("none", "short", "half", "long")
MATERIALS = ("skin", "neck", "face", "nose", "hair", "top", "sleeves", "hips", "legs", "skirt", "shoes", "socks",
             "gloves", "hat", "trim")  # fmt: skip


@dataclass(frozen=True)
class Look:
    """One puppet's bricks, paints and face; ``words`` say what was drawn (JSON-able)."""

    parts: PartTable
    materials: list[Material]
    face: Face
    lattice: Array
    words: dict[str, str]


def colour(rng: np.random.Generator, low: float = 0.2, high: float = 1.0) -> Colour:
    """A colour: any hue, mostly saturated, sometimes near grey."""
    saturation = rng.uniform(0.0, 0.15) if rng.random() < 0.2 else rng.uniform(0.3, 0.95)
    return colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(low, high))


def _contrast(rng: np.random.Generator, other: Colour) -> Colour:
    """Of four colours drawn, the one that differs most from another."""
    drawn = [colour(rng, 0.1) for _ in range(4)]
    return max(drawn, key=lambda c: float(np.abs(np.array(c) - np.array(other)).sum()))


def _cloth(rng: np.random.Generator, turn_cycles: float, plain: float = 0.35) -> Material:
    """A plain or patterned cloth; ``turn_cycles`` is what one turn round the limb is worth, in trunks."""
    first = colour(rng)
    second = _contrast(rng, first)
    if rng.random() < plain:
        return Material(Pattern.PLAIN, first, second)
    pattern = Pattern(int(rng.integers(1, 10)))
    cycles = float(rng.uniform(5, 14))
    if pattern in (Pattern.CHECKS, Pattern.DOTS, Pattern.PLAID):
        cycles *= 1.15
    if pattern is Pattern.NOISE:
        cycles = float(rng.uniform(6, 18))
    around = float(max(2, round(cycles * turn_cycles)))
    middle = rng.uniform(0.3, 0.9)
    return Material(pattern, first, second, (cycles, around), float(rng.random()), float(rng.uniform(0.3, 0.65)),
                    (middle - 0.25, middle + 0.2))  # fmt: skip


def _emblazoned(rng: np.random.Generator, cloth: Material, body: Body) -> Material:
    """The cloth with an emblem on the chest, on the back, or a different one on each."""
    front, back = (Emblem(int(k)) for k in rng.integers(1, len(Emblem), 2))
    which = rng.random()
    emblems = (front, back) if which < 0.45 else (front, Emblem.NONE) if which < 0.85 else (Emblem.NONE, back)
    return replace(
        cloth,
        emblems=emblems,
        emblem_colours=(_contrast(rng, cloth.first), _contrast(rng, cloth.first)),
        emblem_size=float(rng.uniform(0.045, 0.075) * (0.6 + 0.4 * body.girth)),
        emblem_height=float(rng.uniform(0.80, 0.84)),
    )


def sample_look(rng: np.random.Generator, body: Body) -> Look:
    """Draw clothes, colours, hair, hat and face for a body."""
    if rng.random() < 0.85:
        place = rng.uniform(0, len(SKINS) - 1.001)
        low, part = int(place), place % 1
        skin = (1 - part) * np.array(SKINS[low]) + part * np.array(SKINS[low + 1])
    else:
        skin = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.25, 0.7), rng.uniform(0.55, 0.95)))
    hair = np.array(HAIRS[int(rng.integers(len(HAIRS)))]) * rng.uniform(0.75, 1.2)
    if rng.random() < 0.25:
        hair = np.array(colour(rng, 0.4))
    hair = np.clip(hair, 0.03, 1.0)
    outfit = str(rng.choice(OUTFITS, p=(0.28, 0.17, 0.17, 0.17, 0.12, 0.09)))
    sleeves = "long" if outfit in ("coat", "suit") else str(rng.choice(SLEEVES, p=(0.2, 0.35, 0.12, 0.33)))
    hat = str(rng.choice(HATS, p=(0.58, 0.11, 0.09, 0.06, 0.07, 0.04, 0.05)))
    style = str(rng.choice(UNDER_HAT if hat not in ("none", "band") else HAIR_STYLES))
    gloved = rng.random() < 0.15
    boots = rng.random() < 0.3
    barefoot = not boots and rng.random() < 0.12
    cloth = _cloth(rng, 0.55)
    top = _emblazoned(rng, cloth, body) if outfit != "dress" and rng.random() < 0.6 else cloth
    sleeve_cloth = replace(cloth, cycles=(cloth.cycles[0], max(2.0, round(cloth.cycles[1] * 0.4))))
    legs = sleeve_cloth if outfit == "suit" else _cloth(rng, 0.28, plain=0.55)
    skirt = cloth if outfit in ("dress", "coat") else _cloth(rng, 1.0, plain=0.3)
    skin_colour, hair_colour = rgb(skin), rgb(hair)
    darker, shade = rgb(hair * 0.72), rgb(skin * 0.86)
    nose = rgb(skin * np.array([0.93, 0.82, 0.80]))
    plain = Pattern.PLAIN
    paints = {
        "skin": Material(plain, skin_colour),
        "face": Material(Pattern.FACE, skin_colour),
        "nose": Material(plain, nose),
        "neck": Material(plain, shade),
        "hair": Material(Pattern.STRANDS, hair_colour, darker, (9.0, float(rng.integers(9, 16)))),
        "top": top,
        "sleeves": sleeve_cloth if rng.random() < 0.75 else _cloth(rng, 0.24),
        "legs": legs,
        "hips": {"dress": top, "skirt": skirt}.get(outfit, legs),
        "skirt": skirt,
        "shoes": Material(plain, colour(rng, 0.1, 0.9)),
        "socks": _cloth(rng, 0.25, plain=0.6),
        "gloves": Material(plain, _contrast(rng, skin_colour)),
        "hat": _cloth(rng, 0.5, plain=0.6),
        "trim": Material(plain, _contrast(rng, top.first)),
    }
    parts = body_parts(body, "top", "hips", "skin" if barefoot else "shoes", "gloves" if gloved else "skin")
    face = sample_face(rng, body, hair, skin)
    parts += [*head_parts(body), nose_part(body, face)]
    parts += _sleeves(rng, body, sleeves) + _legwear(rng, body, outfit, boots, barefoot)
    parts += _extras(rng, body, outfit) + _hair(rng, body, style) + _hat(rng, body, hat)
    words = {"body": body.kind, "outfit": outfit, "sleeves": sleeves, "hair": style, "hat": hat,
             "top": top.pattern.name.lower(), "emblem_front": top.emblems[0].name.lower(),
             "emblem_back": top.emblems[1].name.lower(), "feet": "boots" if boots else "bare" if barefoot else "shoes",
             "gloves": "yes" if gloved else "no"}  # fmt: skip
    return Look(tabulate(parts, MATERIALS), [paints[name] for name in MATERIALS], face, rng.random((16, 16, 16)), words)


def _sides() -> list[tuple[str, int, int]]:
    return [(name, JOINT[f"{name.lower()}_shoulder"], JOINT[f"{name.lower()}_hip"]) for name in ("LEFT", "RIGHT")]


def _sleeves(rng: np.random.Generator, body: Body, kind: str) -> list[Part]:
    w, o, zero = body.widths, body.offsets, np.zeros(3)
    loose = rng.uniform(1.08, 1.3)
    flare = rng.uniform(1.1, 1.7) if rng.random() < 0.7 else rng.uniform(1.7, 2.2)
    parts: list[Part] = []
    if kind == "none":
        return parts
    whole = kind in ("half", "long")
    for name, shoulder, _ in _sides():
        arm, fore = o[shoulder + 1], o[shoulder + 2]
        wide, elbow = w["shoulder"] * (0.5 + 0.5 * loose), w["elbow"] * (1.12 if whole else 1.0) * loose
        cut = None if whole else hem(zero, arm, rng.uniform(0.42, 0.62))
        parts.append(Part(shoulder, zero, arm, wide, elbow, Label[f"{name}_UPPER_ARM"], "sleeves", cut=cut))
        if whole:
            parts.append(Part(shoulder + 1, zero, fore, elbow, w["wrist"] * flare * loose, Label[f"{name}_LOWER_ARM"],
                              "sleeves", cut=hem(zero, fore, 0.96 if kind == "long" else 0.28)))  # fmt: skip
    return parts


def _legwear(rng: np.random.Generator, body: Body, outfit: str, boots: bool, barefoot: bool) -> list[Part]:
    w, o, zero, u = body.widths, body.offsets, np.zeros(3), body.trunk
    loose, flare = rng.uniform(1.04, 1.2), rng.uniform(1.15, 2.2)
    boot, sock, short = rng.uniform(0.35, 0.75), rng.uniform(0.2, 0.7), rng.uniform(0.45, 0.8)
    socks = not boots and not barefoot and outfit in ("shorts", "skirt", "dress") and rng.random() < 0.6
    parts: list[Part] = []
    for name, _, hip in _sides():
        thigh, shin = o[hip + 1], o[hip + 2]
        upper, lower = Label[f"{name}_THIGH"], Label[f"{name}_SHIN"]
        if outfit in ("trousers", "coat", "suit"):
            parts += [
                Part(hip, zero, thigh, w["thigh"] * loose, w["knee"] * 1.14 * loose, upper, "legs"),
                Part(hip + 1, zero, shin, w["knee"] * 1.14 * loose, w["ankle"] * flare * loose, lower, "legs",
                     cut=hem(zero, shin, 0.97)),
            ]  # fmt: skip
        elif outfit == "shorts":
            parts.append(Part(hip, zero, thigh, w["thigh"] * 1.06 * loose, w["knee"] * 1.3 * loose, upper, "legs",
                              cut=hem(zero, thigh, short)))  # fmt: skip
        if boots:
            parts.append(Part(hip + 1, shin, zero, w["ankle"] * 1.35, w["calf"] * 1.32, Label[f"{name}_FOOT"], "shoes",
                              cut=hem(shin, zero, boot)))  # fmt: skip
        elif socks:
            parts.append(Part(hip + 1, shin, zero, w["ankle"] * 1.1, w["calf"] * 1.16, lower, "socks",
                              cut=hem(shin, zero, sock)))  # fmt: skip
    if outfit in ("skirt", "dress", "coat"):
        long = body.leg * (rng.uniform(0.3, 0.85) if outfit != "coat" else rng.uniform(0.25, 0.6))
        start, end = np.array([0, 0.05 * u, 0]), np.array([0, -1.3 * long, 0])
        waist = w["pelvis"] * 1.08
        wide = waist + long * rng.uniform(0.10, 0.45 if outfit != "coat" else 0.25)
        stretch = max(1.38, (abs(o[JOINT["left_hip"], 0]) + 1.3 * w["thigh"]) / waist)
        parts.append(Part(JOINT["skirt"], start, end, waist, waist + (wide - waist) * 1.3, Label.SKIRT, "skirt",
                          (stretch, 1.0), cut=(np.array([0.0, -1.0, 0.0]), long)))  # fmt: skip
        parts += _drape(body, long)
    return parts


def _drape(body: Body, long: float) -> list[Part]:
    """The skirt's cloth on the legs themselves, so that a raised knee lifts it instead of piercing it."""
    w, zero, parts = body.widths, np.zeros(3), []
    for _, _, hip in _sides():
        thigh, shin = body.offsets[hip + 1], body.offsets[hip + 2]
        upper, lower = float(-thigh[1]), float(-shin[1])
        share = min(1.0, 0.88 * long / upper)
        parts.append(Part(hip, zero, thigh, 1.04 * w["thigh"], 1.25 * w["knee"], Label.SKIRT, "skirt",
                          cut=hem(zero, thigh, share) if share < 1 else None))  # fmt: skip
        if 0.85 * long > upper:
            share = min(0.9, (0.85 * long - upper) / lower)
            parts.append(Part(hip + 1, zero, shin, 1.1 * w["knee"], 1.5 * w["ankle"], Label.SKIRT, "skirt",
                              cut=hem(zero, shin, share)))  # fmt: skip
    return parts


def _extras(rng: np.random.Generator, body: Body, outfit: str) -> list[Part]:
    """A belt, a scarf or a backpack now and then."""
    w, u = body.widths, body.trunk
    parts: list[Part] = []
    if rng.random() < 0.35:
        spot = (0.0, 0.035 * u, 0.0)
        parts.append(ball(0, spot, (1.52 * w["pelvis"], 0.030 * u, 1.10 * w["pelvis"]), Label.TORSO, "trim"))
    if rng.random() < 0.14:
        spot = body.offsets[3] + np.array([0, 0.012 * u, 0])
        parts.append(ball(2, spot, (2.0 * w["neck"], 1.0 * w["neck"], 1.9 * w["neck"]), Label.NECK, "trim"))
    if rng.random() < 0.10 and outfit != "dress":
        spot = (0.0, 0.05 * u, -1.45 * w["chest"])
        parts.append(ball(2, spot, (0.085 * u, 0.12 * u, 0.055 * u), Label.TORSO, "trim"))
    return parts


def _skull(body: Body) -> tuple[Array, float, float, float]:
    """Centre and half axes (x, y, z) of the cranium in the head joint's frame, metres."""
    cranium, _, wide, deep = body.skull
    r = cranium * body.head
    return np.array([0, (1 - cranium - 0.18) * body.head, 0]), r * wide, r, r * deep


def _hair(rng: np.random.Generator, body: Body, style: str) -> list[Part]:
    if style == "bald":
        return []
    c, x, r, z = _skull(body)
    thick = rng.uniform(1.045, 1.10)
    slope = rng.uniform(0.60, 0.95)
    normal, forward = np.array([0.0, -np.sin(slope), np.cos(slope)]), np.array([0.0, 0.0, 1.0])
    hairline = rng.uniform(0.22, 0.34) * r

    def tail(start: tuple[float, float, float], end: tuple[float, float, float], ra: float, rb: float) -> Part:
        first, last = (c + np.array(at) * (x, r, z) for at in (start, end))
        return Part(4, first, last, ra * r, rb * r, Label.HAIR, "hair")

    cap = ball(4, c, (x * thick, r * thick, z * thick), Label.HAIR, "hair", cut=(normal, hairline))
    parts = [cap]
    if style == "bob":
        low = c - np.array([0, 0.28 * r, 0.06 * z])
        parts.append(ball(4, low, (1.17 * x, 1.02 * r, 1.10 * z), Label.HAIR, "hair", cut=(forward, 0.12 * z)))
    elif style == "long":
        long = rng.uniform(1.5, 2.6)
        start, end = c - np.array([0, 0.05 * r, 0.2 * z]), c - np.array([0, long * r, 0.62 * z])
        parts.append(Part(4, start, end, 1.02 * r, 0.8 * r, Label.HAIR, "hair", (1.05 * x / r, 0.62),
                          cut=(forward, 0.25 * z)))  # fmt: skip
    elif style == "ponytail":
        parts.append(tail((0, 0.35, -0.95), (0, -0.3, -1.55), 0.26, 0.30))
        parts.append(tail((0, -0.3, -1.55), (0, -1.5, -1.45), 0.30, 0.1))
    elif style == "pigtails":
        for s in (-1, 1):
            parts.append(tail((s * 1.0, 0.2, -0.3), (s * 1.55, -0.2, -0.35), 0.2, 0.28))
            parts.append(tail((s * 1.55, -0.2, -0.35), (s * 1.6, -1.3, -0.3), 0.28, 0.08))
    elif style == "bun":
        parts.append(tail((0, 0.55, -0.9), (0, 0.6, -1.0), 0.38, 0.36))
    elif style == "topknot":
        parts.append(tail((0, 1.0, -0.1), (0, 1.3, -0.15), 0.26, 0.32))
    elif style == "afro":
        size = rng.uniform(1.25, 1.5)
        parts = [ball(4, c + np.array([0, 0.12 * r, -0.08 * z]), (size * x, size * r, size * z), Label.HAIR, "hair",
                      cut=(normal, 0.42 * r))]  # fmt: skip
    elif style == "mohawk":
        for angle in np.linspace(-0.7, 1.9, 6):
            way = np.array([0.0, np.cos(angle), -np.sin(angle)])
            parts.append(tail(tuple(way * 0.85), tuple(way * 1.42), 0.24, 0.12))
    elif style == "spikes":
        for turn in np.arange(9) * 2.4:
            tilt = 0.25 + 0.75 * np.sqrt((turn / 2.4 + 0.5) / 9)
            way = np.array([np.sin(tilt) * np.sin(turn), np.cos(tilt), np.sin(tilt) * np.cos(turn) * 0.8 - 0.25])
            parts.append(tail(tuple(way * 0.8), tuple(way * 1.45), 0.32, 0.05))
    return parts


def _hat(rng: np.random.Generator, body: Body, kind: str) -> list[Part]:
    c, x, r, z = _skull(body)
    low = (np.array([0.0, -1.0, 0.0]), -rng.uniform(0.25, 0.4) * r)
    dome = ball(4, c, (1.14 * x, 1.14 * r, 1.14 * z), Label.HAT, "hat", cut=low)
    up = above(1.0)
    if kind == "cap":
        spot = c + np.array([0, -low[1] + 0.03 * r, 0.85 * z])
        return [dome, ball(4, spot, (0.72 * x, 0.075 * r, 0.75 * z), Label.HAT, "hat")]
    if kind == "beanie":
        bobble = ball(4, c + up * 1.2 * r, (0.25 * r, 0.25 * r, 0.25 * r), Label.HAT, "trim")
        return [dome, bobble] if rng.random() < 0.6 else [dome]
    if kind in ("top_hat", "brim"):
        tall = rng.uniform(1.2, 1.9) if kind == "top_hat" else rng.uniform(0.85, 1.1)
        wide = rng.uniform(1.35, 1.6) if kind == "top_hat" else rng.uniform(1.7, 2.3)
        start = c - up * low[1]
        tube = Part(4, start, start + up * r * (tall + 0.6), 1.03 * r, 0.92 * r, Label.HAT, "hat", (x / r, z / r),
                    cut=(up, tall * r - (-low[1]) + 0.35 * r))  # fmt: skip
        brim = ball(4, start + up * 0.04 * r, (wide * x, 0.09 * r, wide * z * 0.97), Label.HAT, "hat")
        band = ball(4, start + up * 0.16 * r, (1.16 * x, 0.16 * r, 1.16 * z), Label.HAT, "trim")
        return [tube, brim, band]
    if kind == "cone":
        start, end = c + up * 0.45 * r, c + up * rng.uniform(1.9, 2.6) * r
        return [dome, Part(4, start, end, 0.92 * r, 0.07 * r, Label.HAT, "hat", (x / r, z / r))]
    if kind == "band":
        return [ball(4, c + above(0.42 * r), (1.09 * x, 0.13 * r, 1.09 * z), Label.HAT, "trim")]
    return []
