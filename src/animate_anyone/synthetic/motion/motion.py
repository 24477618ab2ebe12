"""Motions: idle, walk, wave, dance and others, drawn at random, smooth, within the joints' limits.

A motion writes a :class:`Score` in the body's own measure (leg lengths) and :func:`perform` turns
it into a :class:`BodyPose` for one body. All times are seconds, all angles radians.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from animate_anyone.synthetic.figure.body import JOINT, NUM_POSED, Body, BodyPose, joint_limits, rotation
from animate_anyone.synthetic.figure.bricks import Array

TAU = 2 * np.pi
SIDES = ((0, 1.0, "left"), (1, -1.0, "right"))
HANDS = {"open": (0.05, 0.02, 0.02, 0.02, 0.02), "fist": (0.9, 1.0, 1.0, 1.0, 1.0),
         "point": (0.8, 0.03, 1.0, 1.0, 1.0), "relaxed": (0.25, 0.28, 0.33, 0.38, 0.42),
         "victory": (0.9, 0.03, 0.03, 1.0, 1.0), "thumb": (0.0, 1.0, 1.0, 1.0, 1.0)}  # fmt: skip


class Score:
    """What a motion says, over ``T`` moments, at first nothing; lengths in leg lengths, in the heading's frame.

    Attributes:
        pelvis: ``(T, 3)`` shift from standing. travel: ``(T, 3)`` shift of everything, world axes.
        heading: ``(T,)``. angles: ``(T, 11, 3)``. feet: ``(T, 2, 3)`` shift of the ankles from standing.
        pitch: ``(T, 2)`` toes down. toe_out: ``(T, 2)`` turn of the feet, outward.
        curls: ``(T, 2, 5)``. mouth, blink: ``(T,)``.
    """

    def __init__(self, times: Array) -> None:
        frames = len(times)
        self.times = times
        self.heading, self.mouth, self.blink = np.zeros((3, frames))
        self.pelvis, self.travel = np.zeros((2, frames, 3))
        self.angles, self.feet = np.zeros((frames, NUM_POSED, 3)), np.zeros((frames, 2, 3))
        self.pitch, self.toe_out = np.zeros((2, frames, 2))
        self.curls = np.zeros((frames, 2, 5))

    def bend(self, joint: str, x: Array | float = 0.0, y: Array | float = 0.0, z: Array | float = 0.0) -> None:
        """Add to a joint's angles; y and z are mirrored on the right side."""
        side = -1.0 if joint.startswith("right") else 1.0
        self.angles[:, JOINT[joint]] += np.stack(np.broadcast_arrays(x, side * y, side * z, self.times)[:3], -1)

    def arm(
        self, side: str, forward: Array | float, out: Array | float, twist: Array | float, elbow: Array | float
    ) -> None:
        """Set an arm: raise forward, raise outward, twist (elbow flexes upward when positive), elbow bend."""
        sign = -1.0 if side == "right" else 1.0
        for joint, (x, y, z) in (("shoulder", (-forward, sign * twist, sign * out)), ("elbow", (-elbow, 0.0, 0.0))):
            self.angles[:, JOINT[f"{side}_{joint}"]] = np.stack(np.broadcast_arrays(x, y, z, self.times)[:3], -1)


def ease(t: Array) -> Array:
    """0 to 1 with speed and acceleration zero at both ends."""
    t = np.clip(t, 0, 1)
    return np.asarray(t * t * t * (t * (6 * t - 15) + 10))


def between(times: Array, knots: Array, values: Array, hold: float = 0.0) -> Array:
    """Eased passage through ``values`` ``(K, ...)`` at rising ``knots`` ``(K,)``; ``hold`` rests before moving."""
    index = np.clip(np.searchsorted(knots, times, side="right") - 1, 0, len(knots) - 2)
    part = (times - knots[index]) / (knots[index + 1] - knots[index])
    amount = ease((part - hold) / (1 - hold)).reshape(-1, *([1] * (values.ndim - 1)))
    return np.asarray(values[index] * (1 - amount) + values[index + 1] * amount)


def wave(times: Array, frequency: float, phase: float) -> Array:
    return np.asarray(np.sin(TAU * (frequency * times + phase)))


def stand(rng: np.random.Generator, times: Array) -> Score:
    """Standing at ease: breath, sway, relaxed arms, a wandering look, a blink."""
    score, width = Score(times), rng.uniform(0.0, 0.16)
    score.toe_out[:] = rng.uniform(0.05, 0.35)
    stagger = rng.uniform(-0.08, 0.08)
    for index, sign, _ in SIDES:
        score.feet[:, index, 0] = sign * width
        score.feet[:, index, 2] = sign * stagger
    breath = wave(times, rng.uniform(0.2, 0.35), rng.random())
    score.bend("chest", x=0.02 * breath + rng.uniform(-0.06, 0.06))
    score.bend("waist", x=rng.uniform(-0.03, 0.06), z=rng.uniform(-0.04, 0.04))
    sway = wave(times, rng.uniform(0.15, 0.4), rng.random())
    score.pelvis[:, 0] = 0.02 * sway + rng.uniform(-0.04, 0.04)
    score.pelvis[:, 1] = -rng.uniform(0.008, 0.03)
    score.bend("pelvis", z=0.02 * sway)
    score.bend(
        "head",
        y=rng.uniform(-0.35, 0.35) + rng.uniform(0, 0.2) * wave(times, rng.uniform(0.1, 0.4), rng.random()),
        x=rng.uniform(-0.12, 0.15) + 0.05 * wave(times, rng.uniform(0.1, 0.5), rng.random()),
        z=rng.uniform(-0.1, 0.1),
    )
    for index, _, side in SIDES:
        out, elbow = rng.uniform(0.16, 0.42), rng.uniform(0.1, 0.6)
        score.arm(side, rng.uniform(-0.15, 0.25) + 0.04 * sway, out + 0.02 * breath, rng.uniform(-0.2, 0.3), elbow)
        score.bend(f"{side}_wrist", y=rng.uniform(-0.4, 0.4), z=rng.uniform(-0.15, 0.15))
        score.curls[:, index] = HANDS[str(rng.choice(list(HANDS), p=(0.25, 0.1, 0.05, 0.52, 0.04, 0.04)))]
    blink_at = rng.uniform(0.2, max(0.4, times[-1] + 1.0))
    score.blink = np.exp(-(((times - blink_at) / 0.09) ** 2))
    open_wide = rng.uniform(0, 0.9) * (rng.random() < 0.45)
    score.mouth = open_wide * (0.5 + 0.5 * wave(times, rng.uniform(0.5, 1.6), rng.random())) ** 2
    return score


def idle(rng: np.random.Generator, times: Array) -> Score:
    score = stand(rng, times)
    pose = rng.choice(["rest", "hips", "crossed_ish", "shift"])
    shift = between(times, np.array([0.0, rng.uniform(0.8, 1.4), 2.4, 60.0]), rng.uniform(-0.09, 0.09, (4, 1)))[:, 0]
    score.pelvis[:, 0] += shift
    score.bend("waist", z=0.6 * shift, y=rng.uniform(-0.8, 0.8) * shift)
    for _, _, side in SIDES:
        if pose == "hips":
            score.arm(side, -0.25, 0.75, -0.45, 1.65)
        elif pose == "crossed_ish":
            score.arm(side, 0.35 + 0.03 * shift, 0.12, -0.75, 1.6)
    return score


def walk(rng: np.random.Generator, times: Array) -> Score:
    """A walking cycle on the spot or drifting: feet swing and stand, arms answer."""
    score = stand(rng, times)
    pace, stride = rng.uniform(0.6, 1.05), rng.uniform(0.14, 0.34)
    lift, first = rng.uniform(0.05, 0.16), rng.random()
    swing = rng.uniform(0.2, 0.75) * stride / 0.3
    elbow = rng.uniform(0.2, 0.5) if rng.random() < 0.7 else rng.uniform(0.9, 1.5)
    for index, _, side in SIDES:
        phase = TAU * (pace * times + first + 0.5 * index)
        score.feet[:, index, 0] *= 0.4
        score.feet[:, index, 2] = stride * np.cos(phase)
        up = 0.5 - 0.5 * np.sin(phase + 0.25)  # the foot swings forward while the cosine rises
        score.feet[:, index, 1] = lift * up**3
        score.pitch[:, index] = 0.42 * up**2 * np.cos(phase + 2.1) + 0.12 * up
        score.arm(side, -swing * np.cos(phase) + 0.05, rng.uniform(0.14, 0.3), 0.1, elbow - 0.3 * swing * np.cos(phase))
    both = TAU * (pace * times + first)
    score.pelvis[:, 1] += -0.012 - 0.5 * stride**2 + 0.018 * np.cos(2 * both + np.pi)
    score.pelvis[:, 0] += 0.035 * np.sin(both)
    score.bend("pelvis", y=-0.35 * stride * np.cos(both), z=0.05 * np.sin(both), x=rng.uniform(0, 0.08))
    score.bend("chest", y=0.7 * stride * np.cos(both))
    if rng.random() < 0.5:
        way = rng.uniform(-0.25, 0.25)
        score.travel[:, 0] = way * (times - times[-1] / 2)
        score.heading += np.sign(way) * min(1.0, abs(way) * 4)
    return score


def waving(rng: np.random.Generator, times: Array) -> Score:
    score = stand(rng, times)
    start, up = rng.uniform(-0.6, 0.5), rng.uniform(0.45, 0.8)
    rise = ease((times - start) / up)
    for side in ([("left",), ("right",), ("left", "right")])[int(rng.choice(3, p=(0.4, 0.4, 0.2)))]:
        out, elbow = rng.uniform(1.2, 2.5), rng.uniform(0.4, 1.5)
        beat = wave(times, rng.uniform(0.9, 1.5), rng.random())
        joint, fore = JOINT[f"{side}_shoulder"], JOINT[f"{side}_elbow"]
        low_arm, low_fore = score.angles[:, joint].copy(), score.angles[:, fore].copy()
        score.arm(side, rng.uniform(0.0, 0.4), out + 0.08 * beat, rng.uniform(1.0, 1.5), elbow + 0.38 * beat)
        for index, low in ((joint, low_arm), (fore, low_fore)):
            score.angles[:, index] = low + (score.angles[:, index] - low) * rise[:, None]
        score.bend(f"{side}_wrist", x=0.25 * rise * beat)
        score.curls[:, 0 if side == "left" else 1] = HANDS["open"]
    score.bend("waist", z=rng.uniform(-0.1, 0.1) * rise)
    score.mouth = np.maximum(score.mouth, 0.4 * rise * (rng.random() < 0.5))
    return score


def squat(rng: np.random.Generator, times: Array) -> Score:
    score = stand(rng, times)
    period, deep = rng.uniform(1.6, 2.6), rng.uniform(0.25, 0.55)
    down = (0.5 - 0.5 * np.cos(TAU * (times / period + rng.random()))) ** 1.3
    for index, sign, side in SIDES:
        score.feet[:, index, 0] = sign * rng.uniform(0.1, 0.28)
        score.toe_out[:, index] = rng.uniform(0.2, 0.6)
        score.arm(side, 0.2 + rng.uniform(0.3, 1.3) * down, rng.uniform(0.15, 0.4), 0.1, rng.uniform(0.1, 0.8))
    score.pelvis[:, 1] -= deep * down
    score.pelvis[:, 2] -= 0.16 * down
    score.bend("pelvis", x=0.4 * down)
    score.bend("waist", x=0.25 * down)
    score.bend("head", x=-0.35 * down)
    return score


def kick(rng: np.random.Generator, times: Array) -> Score:
    score = stand(rng, times)
    index, sign, side = SIDES[int(rng.integers(2))]
    period = rng.uniform(1.3, 2.2)
    phase = (times / period + rng.random()) % 1.0
    back, hit = np.exp(-(((phase - 0.25) / 0.12) ** 2)), np.exp(-(((phase - 0.55) / 0.14) ** 2))
    far, high = rng.uniform(0.35, 0.7), rng.uniform(0.2, 0.65)
    sideways = rng.uniform(-0.1, 0.5) * sign
    score.feet[:, index] += np.stack([sideways * hit, 0.22 * back + high * hit, -0.25 * back + far * hit], -1)
    score.pitch[:, index] = 0.5 * back + 0.2 * hit
    score.pelvis[:, 0] -= sign * 0.07 * (back + hit)
    score.bend("pelvis", x=-0.18 * hit)
    score.bend("waist", x=0.1 * hit, y=0.2 * sign * (hit - back))
    for _, _, name in SIDES:
        score.arm(name, 0.5 * (hit - back) * (-1 if name == side else 1), 0.4 + 0.4 * hit, 0.2, 0.5 + 0.3 * back)
    return score


def turn(rng: np.random.Generator, times: Array) -> Score:
    """All the way round, or back and forth, in small steps."""
    score = stand(rng, times)
    length = max(times[-1], 1.0)
    speed = TAU / rng.uniform(2.0, 3.6) * (1 if rng.random() < 0.5 else -1)
    if rng.random() < 0.75:
        score.heading = score.heading + speed * times + rng.uniform(-0.5, 0.5)
    else:
        score.heading = score.heading + rng.uniform(1.2, 2.4) * wave(times, 0.8 / length, rng.random())
    pace = rng.uniform(0.8, 1.3)
    for index, _, _ in SIDES:
        up = np.clip(0.5 - 0.5 * np.cos(TAU * (pace * times + 0.5 * index)), 0, 1) ** 2
        score.feet[:, index, 1] += rng.uniform(0.03, 0.1) * up
        score.pitch[:, index] += 0.2 * up
    high = rng.uniform(0.2, 1.5)
    for _, _, side in SIDES:
        score.arm(side, rng.uniform(-0.1, 0.5), high + 0.1 * wave(times, 0.6, rng.random()), 0.2, rng.uniform(0.1, 0.9))
    return score


def sit(rng: np.random.Generator, times: Array) -> Score:
    """Sits down (on nothing) and rises, or stays."""
    score = stand(rng, times)
    start, way = rng.uniform(-1.2, 0.4), rng.uniform(0.9, 1.2)
    down = ease((times - start) / way)
    if rng.random() < 0.5:
        down = down - ease((times - start - way - 0.15) / way)
    for index, sign, side in SIDES:
        score.feet[:, index, 0] = sign * rng.uniform(0.02, 0.12)
        score.arm(side, 0.25 + 0.45 * down, 0.2, 0.0, 0.3 + 0.6 * down)
    score.pelvis[:, 1] -= rng.uniform(0.38, 0.46) * down
    score.pelvis[:, 2] -= 0.36 * down
    bow = down * (1 - down) * 4
    score.bend("pelvis", x=0.35 * bow)
    score.bend("waist", x=0.1 * down + 0.25 * bow)
    return score


def reach(rng: np.random.Generator, times: Array) -> Score:
    score = stand(rng, times)
    knots = np.concatenate([np.cumsum(np.concatenate([[-rng.uniform(0, 0.6)], rng.uniform(0.7, 1.3, 12)])), [99.0]])
    count = len(knots)
    for _, _, side in SIDES:
        busy = rng.random(count) < 0.65
        forward = np.where(busy, rng.uniform(0.3, 2.4, count), 0.1)
        out = np.where(busy, rng.uniform(0.0, 1.4, count), 0.25)
        elbow = np.where(busy, rng.uniform(0.05, 0.7, count), 0.35)
        twist = np.where(busy, rng.uniform(-0.3, 0.9, count), 0.0)
        values = between(times, knots, np.stack([forward, out, twist, elbow], -1))
        score.arm(side, *values.T)
    lean = between(times, knots, rng.uniform(-1, 1, (count, 3)))
    score.bend("waist", x=0.2 + 0.25 * lean[:, 0], y=0.35 * lean[:, 1], z=0.2 * lean[:, 2])
    score.pelvis[:, 0] += 0.08 * lean[:, 2]
    score.pelvis[:, 1] -= 0.10 * (0.5 + 0.5 * lean[:, 0])
    return score


def jump(rng: np.random.Generator, times: Array) -> Score:
    score = stand(rng, times)
    period, high = rng.uniform(0.95, 1.4), rng.uniform(0.10, 0.24)
    phase = (times / period + rng.random()) % 1.0
    air = np.clip((phase - 0.45) / 0.4, 0, 1)
    fly = (4 * air * (1 - air)) ** 1.5
    crouch = np.exp(-(((phase - 0.28) / 0.11) ** 2)) + 0.7 * np.exp(-(((phase - 0.97) / 0.07) ** 2)) \
        + 0.7 * np.exp(-(((phase + 0.03) / 0.07) ** 2))  # fmt: skip
    spread = rng.uniform(0, 0.3) * (rng.random() < 0.5)
    score.pelvis[:, 1] += high * fly - 0.17 * crouch
    score.pelvis[:, 2] -= 0.05 * crouch
    for index, sign, side in SIDES:
        score.feet[:, index, 1] += 0.92 * high * fly
        score.feet[:, index, 0] += sign * spread * fly
        score.pitch[:, index] = 0.5 * fly
        forward, out = 0.1 - 0.4 * crouch + rng.uniform(0, 1) * fly, 0.3 + rng.uniform(0.2, 1.3) * fly
        score.arm(side, forward, out, 0.3, 0.3 + 0.4 * crouch)
    score.bend("waist", x=0.25 * crouch)
    return score


def arms_raise(rng: np.random.Generator, times: Array) -> Score:
    score = stand(rng, times)
    period, sideways = rng.uniform(1.5, 2.8), rng.random()
    lag = rng.choice([0.0, 0.0, 0.5, 0.25])
    first, top = rng.random(), rng.uniform(1.6, 2.8)
    for index, _, side in SIDES:
        up = 0.5 - 0.5 * np.cos(TAU * (times / period + first + lag * index))
        angle = 0.15 + top * up
        elbow = rng.uniform(0.05, 0.9) * np.abs(1 - 0.6 * up)
        score.arm(side, angle * (1 - sideways), 0.1 + angle * sideways, 0.6 * up, elbow)
    score.pelvis[:, 1] -= 0.05 * (0.5 - 0.5 * np.cos(TAU * (times / period + first)))
    return score


def perform(score: Score, body: Body) -> BodyPose:
    """Put a score on a body: its lengths, its limits, feet on the floor, legs never overstretched."""
    leg, frames = body.leg, len(score.times)
    angles = keep_within(score.angles, joint_limits())
    wide = 0.12 * max(0.0, body.girth - 0.95)  # arms clear wide hips
    for joint, sign in ((JOINT["left_shoulder"], 1.0), (JOINT["right_shoulder"], -1.0)):
        angles[:, joint, 2] += sign * wide
    facing = rotation(np.stack([0 * score.heading, score.heading, 0 * score.heading], -1))
    rest = body.rest_positions()
    ankles = np.zeros((frames, 2, 3))
    turn_out = score.toe_out * np.array([1.0, -1.0])
    heel, toe = 0.022 * body.trunk, 0.105 * body.trunk
    for index, ankle in enumerate((JOINT["left_ankle"], JOINT["right_ankle"])):
        spot = rest[ankle] + leg * score.feet[:, index]
        pitch = score.pitch[:, index]
        sole = body.ankle_height * np.cos(pitch) + np.sqrt(np.sin(pitch) ** 2 + 1e-4) * np.where(pitch > 0, toe, heel)
        spot[:, 1] = np.maximum(sole, body.ankle_height) + leg * np.maximum(score.feet[:, index, 1], 0)
        ankles[:, index] = (facing @ spot[:, :, None])[..., 0] + leg * score.travel
    root = (facing @ (np.array([0.0, rest[0, 1], 0.0]) + leg * score.pelvis)[:, :, None])[..., 0] + leg * score.travel
    full = facing @ rotation(angles[:, 0])
    limit = 0.992 * (-body.offsets[12, 1] - body.offsets[13, 1])
    for index, hip in enumerate((11, 14)):  # a pelvis too far from a foot comes down, softly
        offset = (full @ body.offsets[hip][:, None])[..., 0]
        flat = ankles[:, index] - root - offset
        room = np.sqrt(np.maximum(limit**2 - flat[:, 0] ** 2 - flat[:, 2] ** 2, 1e-4))
        over, soft = root[:, 1] - (ankles[:, index, 1] - offset[:, 1] + room), 0.012 * leg
        root[:, 1] -= soft * np.logaddexp(0, over / soft)
    return BodyPose(root, score.heading, angles, ankles, score.pitch, score.heading[:, None] + turn_out, score.curls,
                    np.clip(score.mouth, 0, 1), np.clip(score.blink, 0, 1))  # fmt: skip


def keep_within(angles: Array, limits: Array) -> Array:
    """Bend angles ``(T, J, 3)`` into their limits ``(J, 3, 2)`` without a kink."""
    middle, half = limits.mean(-1), np.maximum((limits[..., 1] - limits[..., 0]) / 2, 1e-6)
    x = (angles - middle) / half
    size = np.abs(x)
    bent = np.where(size > 0.8, 0.8 + 0.2 * np.tanh((size - 0.8) / 0.2), size)
    return np.asarray(middle + half * np.sign(x) * bent)


Motion = Callable[[np.random.Generator, Array], Score]
