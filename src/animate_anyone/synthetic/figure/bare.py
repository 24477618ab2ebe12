"""The bare figure: a body's bones clad in bricks."""

from __future__ import annotations

import numpy as np

from animate_anyone.synthetic.figure.body import FIRST_FINGER, Body
from animate_anyone.synthetic.figure.bricks import Label, Part, above, ball


def body_parts(body: Body, top: str, hips: str, feet: str, gloves: str) -> list[Part]:
    """The bricks of the bare figure, painted with the named materials (torso, hips, feet, hands)."""
    w, u, o = body.widths, body.trunk, body.offsets
    zero = np.zeros(3)
    chest, waist, pelvis = w["chest"], w["waist"], w["pelvis"]
    wide, hip_wide = (abs(o[5, 0]) - 0.012 * u) / chest, (abs(o[11, 0]) + 0.8 * w["thigh"]) / pelvis
    ribs, hip_line = above(o[5, 1] - 0.8 * chest), above(o[11, 1] + 0.015 * u)
    neck_top = o[4] + above(0.05 * body.head)
    parts = [
        Part(2, above(-0.05 * u), ribs, 0.82 * chest, chest, Label.TORSO, top, (min(wide, 1.75), 1.0)),
        Part(1, above(-0.02 * u), o[2] + above(0.02 * u), waist, 0.93 * chest, Label.TORSO, top, (1.42, 1.0)),
        Part(0, above(0.03 * u), hip_line, 0.95 * pelvis, pelvis, Label.TORSO, hips, (hip_wide, 1.0)),
        Part(3, above(-0.03 * u), neck_top, 1.12 * w["neck"], 0.95 * w["neck"], Label.NECK, "neck"),
    ]
    for side, name, shoulder, hip in ((1.0, "LEFT", 5, 11), (-1.0, "RIGHT", 8, 14)):

        def label(limb: str, name: str = name) -> Label:
            return Label[f"{name}_{limb}"]

        collar, armpit = o[3] + np.array([side * 0.012 * u, -0.012 * u, 0]), o[shoulder] * np.array([0.9, 1.0, 1.0])
        fore, shin = o[shoulder + 2], o[hip + 2]
        high, low = (share * shin - np.array([0, 0, back * u]) for share, back in ((0.18, 0.006), (0.5, 0.004)))
        parts += [
            Part(2, collar, armpit, 0.95 * w["neck"], 0.95 * w["shoulder"], Label.TORSO, top),
            Part(shoulder, zero, o[shoulder + 1], w["shoulder"], w["elbow"], label("UPPER_ARM"), "skin"),
            Part(shoulder + 1, zero, 0.35 * fore, w["elbow"], w["forearm"], label("LOWER_ARM"), "skin"),
            Part(shoulder + 1, 0.3 * fore, fore, w["forearm"], w["wrist"], label("LOWER_ARM"), "skin"),
            Part(hip, zero, o[hip + 1], w["thigh"], w["knee"], label("THIGH"), "skin"),
            Part(hip + 1, zero, shin, w["knee"], w["ankle"], label("SHIN"), "skin"),
            Part(hip + 1, high, low, w["calf"], 0.85 * w["calf"], label("SHIN"), "skin"),
            *_foot(body, hip + 2, label("FOOT"), feet),
            *_hand(body, shoulder + 2, int(side < 0), label("HAND"), gloves),
        ]
    return parts


def _foot(body: Body, ankle: int, label: Label, material: str) -> list[Part]:
    u, r = body.trunk, body.widths["foot"]
    sole = -body.ankle_height
    heel, toe = np.array([0, sole + r, -0.022 * u]), np.array([0, sole + 0.78 * r, 0.105 * u])
    instep = np.array([0, 0, -0.008 * u])
    return [
        Part(ankle, heel, toe, r, 0.78 * r, label, material, (1.12, 1.0), (0.0, 1.0, 0.0)),
        Part(ankle, instep, 0.5 * (heel + toe), max(1.05 * body.widths["ankle"], 0.8 * r), 0.95 * r, label, material),
    ]


def _hand(body: Body, wrist: int, hand: int, label: Label, material: str) -> list[Part]:
    size, o = body.hand, body.offsets
    parts = [
        Part(wrist, above(-0.08 * size), above(-0.40 * size), 0.15 * size, 0.185 * size, label, material, (0.48, 1.0)),
        Part(wrist, np.zeros(3), above(-0.1 * size), body.widths["wrist"], 0.11 * size, label, material),
    ]
    for finger in range(5):
        radius = size * (0.060, 0.052, 0.054, 0.051, 0.046)[finger]
        for segment in range(3):
            joint = FIRST_FINGER + 15 * hand + 3 * finger + segment
            end = o[joint + 1] if segment < 2 else body.tips[hand, finger]
            first, last = (radius * thin for thin in (1.1, 1.0, 0.92, 0.84)[segment : segment + 2])
            parts.append(Part(joint, np.zeros(3), end, first, last, label, material))
    return parts


def head_parts(body: Body) -> list[Part]:
    """The head (first, painted with the face), nose and ears; the head joint is 0.18 heads above the chin."""
    size = body.head
    cranium, jaw, wide, deep = body.skull
    start, end = np.array([0, (1 - cranium - 0.18) * size, 0]), np.array([0, (jaw - 0.18) * size, 0.02 * size])
    parts = [Part(4, start, end, cranium * size, jaw * size, Label.HEAD, "face", (wide, deep))]
    for side in (-1.0, 1.0):
        spot = (side * cranium * wide * size * 0.99, (0.44 - 0.18) * size, -0.03 * size)
        parts.append(ball(4, spot, (0.035 * size, 0.085 * size, 0.055 * size), Label.HEAD, "skin"))
    return parts
