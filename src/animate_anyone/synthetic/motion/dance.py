"""Dances: a beat, a way of stepping, a way of moving the arms, a way of moving the trunk."""

from __future__ import annotations

import numpy as np

from animate_anyone.synthetic.figure.bricks import Array
from animate_anyone.synthetic.motion import motion as motions
from animate_anyone.synthetic.motion.motion import HANDS, SIDES, TAU, Motion, Score, between, stand, wave

STEPS = ("bounce", "side", "march", "twist", "sway", "kicks")
ARMS = ("poses", "pumps", "circles", "swing", "overhead", "disco", "wings", "together")
_TRUNK = (("pelvis", "z", 0.16), ("waist", "z", 0.22), ("waist", "y", 0.35), ("chest", "x", 0.15), ("chest", "y", 0.25),
          ("head", "z", 0.2), ("head", "x", 0.2), ("head", "y", 0.4))  # joint, axis, most radians  # fmt: skip


def dance(rng: np.random.Generator, times: Array) -> Score:
    """A dance of random steps and arms on a random beat."""
    score = stand(rng, times)
    score.mouth = np.maximum(score.mouth, rng.uniform(0, 0.5))
    tempo = rng.uniform(1.2, 1.9)  # beats per second
    beats = tempo * times + 4 * rng.random()
    _step(str(rng.choice(STEPS)), rng, beats, score)
    _swing_trunk(rng, beats, score)
    first, second = rng.choice(ARMS, 2, replace=False)
    _arms(str(first), rng, beats, tempo, score)
    if times[-1] > 2.5 or rng.random() < 0.3:  # a second figure later on
        early, hands = score.angles.copy(), score.curls.copy()
        _arms(str(second), rng, beats, tempo, score)
        switch = 0.5 * times[-1] + rng.uniform(-0.3, 0.3)
        knots = np.array([-1.0, switch - 0.35, switch + 0.35, 1e3])
        amount = between(times, knots, np.array([[0.0], [0.0], [1.0], [1.0]]))[:, :, None]
        score.angles = early + (score.angles - early) * amount
        score.curls = hands + (score.curls - hands) * amount
    if rng.random() < 0.2:
        score.heading = score.heading + rng.uniform(0.2, 0.8) * wave(beats, 0.25, rng.random())
    return score


def _dip(beats: Array, sharp: float) -> Array:
    """1 on the beat, 0 between."""
    return np.asarray((0.5 + 0.5 * np.cos(TAU * beats)) ** sharp)


def _step(kind: str, rng: np.random.Generator, beats: Array, score: Score) -> None:
    deep, half = rng.uniform(0.03, 0.11), 0.5 * beats
    score.pelvis[:, 1] -= deep * _dip(beats, rng.uniform(1.0, 1.8))
    width = rng.uniform(0.04, 0.22)
    for index, sign, _ in SIDES:
        score.feet[:, index, 0] = sign * width
    sway = np.sin(TAU * half)
    if kind == "bounce":
        score.pelvis[:, 0] += rng.uniform(0, 0.06) * sway
    elif kind == "sway":
        score.pelvis[:, 0] += rng.uniform(0.08, 0.16) * sway
        for index, sign, _ in SIDES:
            score.pitch[:, index] = 0.35 * np.clip(-sign * sway, 0, 1) ** 2
    elif kind in ("side", "march", "kicks"):
        far, high = rng.uniform(0.1, 0.24), rng.uniform(0.1, 0.3)
        front = rng.uniform(0.25, 0.5)
        for index, sign, _ in SIDES:
            up = np.clip(sign * sway, 0, 1) ** 2
            score.pelvis[:, 0] -= 0.06 * sign * up
            if kind == "side":
                score.feet[:, index, 0] += sign * far * up
                score.feet[:, index, 1] += 0.5 * up * (1 - up)
            elif kind == "march":
                score.feet[:, index, 1] += high * up
                score.feet[:, index, 2] += 0.4 * high * up
                score.pitch[:, index] = 0.4 * up
            else:
                score.feet[:, index, 1] += 0.8 * high * up
                score.feet[:, index, 2] += front * up
                score.pitch[:, index] = 0.2 * up
    elif kind == "twist":
        score.bend("pelvis", y=rng.uniform(0.25, 0.5) * sway)
        score.pelvis[:, 1] -= 0.06
        for index, sign, _ in SIDES:
            score.toe_out[:, index] += sign * 0.5 * sway


def _swing_trunk(rng: np.random.Generator, beats: Array, score: Score) -> None:
    rate = float(rng.choice([0.25, 0.5, 0.5, 1.0]))
    size = 0.5 if rate == 1.0 else 1.0
    for joint, axis, most in _TRUNK:
        amount = size * rng.uniform(0, most) * (rng.random() < 0.7)
        score.bend(joint, **{axis: amount * wave(beats, rate, rng.random())})


def _arms(kind: str, rng: np.random.Generator, beats: Array, tempo: float, score: Score) -> None:
    mirror = rng.random() < 0.5
    lag = float(rng.choice([0.0, 0.5]))
    grip = HANDS[str(rng.choice(["open", "fist", "relaxed", "point", "victory"]))]
    base = rng.uniform(0, 1, 8)
    for index, _, side in SIDES:
        score.curls[:, index] = grip
        slow = 0.5 * beats + lag * index
        swing, cosine = np.sin(TAU * slow), np.cos(TAU * slow)
        if kind == "poses":
            span = 2.0 if tempo > 1.25 else 1.0  # beats between poses
            knots = np.arange(np.floor(beats[0] / span) - 1, beats[-1] / span + 2)
            draw = np.random.Generator(np.random.PCG64(int(1e9 * base[0]) + (0 if mirror else index)))
            spots = draw.uniform((-0.3, 0.15, -0.5, 0.1), (1.7, 2.5, 1.3, 2.0), (len(knots), 4))
            values = between(beats, knots * span, spots, hold=0.25 * (base[1] > 0.5))
            score.arm(side, *values.T)
        elif kind == "pumps":
            score.arm(side, 0.5 + base[0] + 0.4 * swing, 0.25 + 0.5 * base[1], 0.2, 1.5 - 0.6 * swing)
        elif kind == "circles":
            size = 0.35 + 0.35 * base[0]
            score.arm(side, 0.7 + base[1] + size * swing, 0.5 + 0.5 * base[2] + size * cosine, 0.2, 0.3 + base[3])
        elif kind == "swing":
            score.arm(side, 0.2 + 0.9 * base[0] * swing, 0.35 + 0.5 * base[1] * (1 + cosine), 0.1, 0.3 + 0.9 * base[2])
        elif kind == "overhead":
            out = 2.3 + 0.3 * base[0] + 0.35 * swing * (1 if index else -1)
            score.arm(side, 0.2, out, 0.8, 0.3 + 0.5 * base[1] + 0.2 * cosine)
        elif kind == "disco":
            up = 0.5 + 0.5 * np.sin(TAU * 0.25 * beats + np.pi * index)
            score.curls[:, index] = HANDS["point"]
            score.arm(side, 0.5 * (1 - up), 0.3 + 2.1 * up, 0.5 * up, 0.2 + 0.9 * (1 - up) * base[0])
        elif kind == "wings":
            score.arm(side, 0.15, 0.9 + 0.4 * base[0] + 0.4 * swing, -0.3 + base[1], 1.2 + 0.6 * base[2] + 0.3 * cosine)
        elif kind == "together":
            close = 0.5 + 0.5 * swing
            score.arm(side, 1.1 + 0.5 * base[0], 0.05 + 0.9 * close * (0.5 + 0.5 * base[1]), 0.1, 0.9 - 0.5 * close)


MOTIONS: dict[str, tuple[Motion, float]] = {  # name: (motion, share in a random draw)
    "idle": (motions.idle, 0.08), "walk": (motions.walk, 0.13), "wave": (motions.waving, 0.09), "dance": (dance, 0.34),
    "squat": (motions.squat, 0.05), "kick": (motions.kick, 0.05), "turn": (motions.turn, 0.09),
    "sit": (motions.sit, 0.03), "reach": (motions.reach, 0.05), "jump": (motions.jump, 0.04),
    "arms_raise": (motions.arms_raise, 0.05),
}  # fmt: skip
