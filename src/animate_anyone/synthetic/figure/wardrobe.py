"""Clothes, skin and hair as photographs and films show them, put over a look that is already drawn.

Only paint changes: bricks, face and emblem places stay, so that the ground truth does.
"""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np

from animate_anyone.synthetic.figure.look import MATERIALS, Look, colour
from animate_anyone.synthetic.figure.paint import Colour, Emblem, Material, Pattern, Relief, rgb

CLOTHS = (
    Pattern.DENIM, Pattern.PRINT, Pattern.PLEATS, Pattern.TARTAN, Pattern.SPRINKLES, Pattern.OPEN, Pattern.GRADIENT,
    Pattern.STRIPES_ACROSS, Pattern.STRIPES_ALONG, Pattern.PLAID, Pattern.DOTS, Pattern.NOISE, Pattern.HALVES,
)  # fmt: skip
KINDS = {  # share in a random draw, folds, gloss, weave
    "wool": (0.3, 0.45, 0.0, 0.22), "cotton": (0.45, 0.6, 0.02, 0.08), "silk": (0.15, 0.8, 0.25, 0.04),
    "armour": (0.1, 0.08, 0.7, 0.04),
}  # fmt: skip
_BARE = (Emblem.NONE, Emblem.NONE)


def natural(rng: np.random.Generator, low: float = 0.1, high: float = 0.95) -> Colour:
    """A colour as they are frequent in photographs: earth, sky, leaves; mostly of low saturation."""
    which = int(rng.choice(4, p=(0.5, 0.22, 0.16, 0.12)))
    centre, spread = ((0.08, 0.035), (0.59, 0.05), (0.27, 0.06), (0.5, 0.5))[which]
    return colorsys.hsv_to_rgb(rng.normal(centre, spread) % 1.0, rng.beta(1.4, 3.0), rng.uniform(low, high))


def garment(rng: np.random.Generator) -> Colour:
    """A colour that clothes have: white, black and grey, navy, red and natural ones; seldom any."""
    draw = rng.random()
    if draw < 0.20:
        return rgb(rng.uniform(0.85, 0.99) * (1 + 0.02 * rng.normal(size=3)))
    if draw < 0.38:
        return rgb(rng.uniform(0.05, 0.2) * (1 + 0.08 * rng.normal(size=3)))
    if draw < 0.50:
        return rgb(rng.uniform(0.3, 0.75) * (1 + 0.03 * rng.normal(size=3)))
    if draw < 0.62:
        return colorsys.hsv_to_rgb(rng.normal(0.61, 0.03), rng.uniform(0.35, 0.75), rng.uniform(0.2, 0.65))
    if draw < 0.74:
        return colorsys.hsv_to_rgb(rng.normal(0.98, 0.025) % 1.0, rng.uniform(0.5, 0.95), rng.uniform(0.35, 0.9))
    return natural(rng, 0.2) if draw < 0.88 else colour(rng)


def _relief(rng: np.random.Generator, kind: str) -> Relief:
    """Folds, weave and gloss of a kind of cloth."""
    folds, gloss, weave = KINDS[kind][1:]
    folds, gloss, weave = folds * rng.uniform(0.3, 1.2), gloss * rng.uniform(0.4, 1.2), weave * rng.uniform(0.3, 1.5)
    return Relief(float(folds), float(rng.uniform(4, 11)), float(rng.uniform(1.5, 6)), float(weave), float(gloss))


def _woven(rng: np.random.Generator, old: Material, kind: str, plain: float) -> Material:
    """New paint for a piece of cloth; emblems stay on half of those that had one."""
    first, second, third = garment(rng), garment(rng), garment(rng)
    pattern = Pattern.PLAIN if rng.random() < plain else CLOTHS[int(rng.integers(len(CLOTHS)))]
    across, around = old.cycles
    if pattern in (Pattern.DENIM, Pattern.PLEATS, Pattern.NOISE):
        second = rgb(np.array(first) * rng.uniform(0.6, 0.85))
    if pattern is Pattern.PLEATS:
        around = max(6.0, around * rng.uniform(1.0, 2.0))
    if pattern in (Pattern.STRIPES_ACROSS, Pattern.STRIPES_ALONG, Pattern.DOTS, Pattern.PLAID, Pattern.TARTAN):
        finer = rng.uniform(0.8, 2.2)
        across, around = across * finer, float(max(2, round(around * finer)))
    emblems = old.emblems if rng.random() < 0.5 else _BARE
    return replace(old, pattern=pattern, first=first, second=second, third=third, cycles=(across, around),
                   phase=float(rng.random()), share=float(rng.uniform(0.15, 0.6)), emblems=emblems,
                   relief=_relief(rng, kind))  # fmt: skip


def redress(rng: np.random.Generator, look: Look) -> tuple[Look, str]:
    """The look in other cloth, with skin and hair that take light; and the kind of cloth."""
    kind = str(rng.choice(list(KINDS), p=[k[0] for k in KINDS.values()]))
    paints = dict(zip(MATERIALS, look.materials, strict=True))
    top, legs = _woven(rng, paints["top"], kind, 0.35), _woven(rng, paints["legs"], kind, 0.6)
    skirt = _woven(rng, paints["skirt"], kind, 0.3)
    one_piece = paints["skirt"].first == paints["top"].first  # dresses and coats
    if one_piece:
        skirt = replace(top, cycles=(top.cycles[0], 2 * top.cycles[1]), emblems=_BARE)
    if paints["legs"].first == paints["top"].first:  # suits
        legs = replace(top, emblems=_BARE)
    sleeves = replace(top, emblems=_BARE, cycles=(top.cycles[0], max(2.0, round(top.cycles[1] * 0.4))))
    if top.pattern is Pattern.OPEN:
        sleeves = replace(sleeves, pattern=Pattern.PLAIN)
    hips = {paints["top"].first: top, paints["skirt"].first: skirt}.get(paints["hips"].first, legs)
    new = {
        "top": top,
        "sleeves": sleeves if rng.random() < 0.8 else _woven(rng, paints["sleeves"], kind, 0.7),
        "legs": legs,
        "hips": hips,
        "skirt": skirt,
        "shoes": replace(paints["shoes"], first=garment(rng), relief=_relief(rng, "silk")),
        "socks": _woven(rng, paints["socks"], "cotton", 0.8),
        "gloves": replace(paints["gloves"], first=garment(rng), relief=_relief(rng, "cotton")),
        "hat": _woven(rng, paints["hat"], "wool", 0.7),
        "trim": replace(paints["trim"], first=garment(rng), relief=_relief(rng, "cotton")),
    }
    sheen = float(rng.uniform(0.03, 0.18))
    tone = rng.uniform(0.9, 1.08) * (1 + 0.02 * rng.normal(size=3))
    for name in ("skin", "face", "nose", "neck"):
        old = paints[name]
        new[name] = replace(old, first=rgb(np.array(old.first) * tone), relief=Relief(0.05, 5.0, 5.0, 0.05, sheen))
    hair = np.clip(np.array(paints["hair"].first) * rng.uniform(0.6, 1.1), 0.02, 1.0)
    new["hair"] = replace(
        paints["hair"], first=rgb(hair), second=rgb(hair * rng.uniform(0.45, 0.75)),
        cycles=(9.0, float(rng.integers(12, 26))), relief=Relief(0.35, 16.0, 2.0, 0.15, float(rng.uniform(0.1, 0.5))),
    )  # fmt: skip
    return replace(look, materials=[new[name] for name in MATERIALS]), kind
