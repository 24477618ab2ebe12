"""Bodies: proportions, bones, forward kinematics and the legs' inverse kinematics.

World: y up, the floor at y = 0, metres. At rest a puppet stands upright and looks along +z, its
left is +x, arms hang down with the palms inward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from animate_anyone.synthetic.figure.bricks import Array

JOINTS = (
    "pelvis", "waist", "chest", "neck", "head",
    "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
    "left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle",
    "skirt",
)  # fmt: skip
JOINT = {name: index for index, name in enumerate(JOINTS)}
NUM_POSED = 11  # joints whose angles a motion gives: the pelvis to the right wrist; legs follow the feet
FIRST_FINGER = len(JOINTS)  # then hand (left, right) x finger (thumb first) x three joints
NUM_JOINTS = FIRST_FINGER + 30
# Each joint's parent; a finger's first joint hangs on its wrist.
PARENTS = [-1, 0, 1, 2, 3, 2, 5, 6, 2, 8, 9, 0, 11, 12, 0, 14, 15, 0]
PARENTS += [wrist if k == 0 else len(PARENTS) + 15 * hand + 3 * finger + k - 1
            for hand, wrist in enumerate((7, 10)) for finger in range(5) for k in range(3)]  # fmt: skip
FINGER_BEND = np.radians([[25.0, 35.0, 50.0]] + [[80.0, 95.0, 65.0]] * 4)  # at curl 1, per finger and joint

# Joint limits in radians: (x, y, z) low and high of the left side; the right mirrors y and z.
_DEGREES = {
    "pelvis": ((-35, 35), (-60, 60), (-25, 25)),
    "waist": ((-25, 50), (-40, 40), (-30, 30)),
    "chest": ((-20, 35), (-35, 35), (-25, 25)),
    "neck": ((-25, 30), (-40, 40), (-20, 20)),
    "head": ((-25, 30), (-45, 45), (-20, 20)),
    "shoulder": ((-175, 50), (-85, 100), (-40, 175)),
    "elbow": ((-150, 0), (-10, 10), (-5, 5)),
    "wrist": ((-40, 40), (-90, 90), (-70, 70)),
}


def joint_limits() -> Array:
    """``(11, 3, 2)`` lowest and highest angle of every posed joint, radians."""
    limits = np.zeros((NUM_POSED, 3, 2))
    for index, name in enumerate(JOINTS[:NUM_POSED]):
        side, _, kind = name.rpartition("_")
        limits[index] = np.radians(_DEGREES[kind])
        if side == "right":
            limits[index, 1:] = -limits[index, 1:, ::-1]
    return limits


@dataclass(frozen=True)
class Body:
    """One puppet's bones and widths.

    Attributes:
        kind: adult, child, giant, stocky, thin or cartoon.
        height: from the floor to the crown, metres.
        head: chin to crown, metres.
        trunk: floor to chin, metres: the unit that limbs are measured in.
        girth: factor of all widths; 1 is an average adult.
        offsets: ``(48, 3)`` each joint from its parent at rest (fingers: before their base rotation).
        tips: ``(2, 5, 3)`` finger ends in the frame of each finger's last joint.
        widths: radii in metres by name.
        skull: cranium radius, jaw radius (in head heights), sideways and depth stretch.
    """

    kind: str
    height: float
    head: float
    trunk: float
    girth: float
    offsets: Array
    tips: Array
    widths: dict[str, float]
    skull: tuple[float, float, float, float]
    hand: float

    @property
    def leg(self) -> float:
        """Height of the hip joints above the floor at rest, metres."""
        hip = self.offsets[JOINT["left_hip"]] + self.offsets[0]
        return float(hip[1])

    @property
    def ankle_height(self) -> float:
        return float(self.leg + self.offsets[JOINT["left_knee"], 1] + self.offsets[JOINT["left_ankle"], 1])

    def rest_positions(self) -> Array:
        """``(48, 3)`` joints of the rest pose with straight fingers, world metres."""
        place = np.zeros((NUM_JOINTS, 3))
        for joint in range(NUM_JOINTS):
            place[joint] = self.offsets[joint] + (place[PARENTS[joint]] if joint else 0.0)
        return place


KINDS = {  # height range, heads tall, girth, share of the kind
    "adult": ((1.55, 1.90), (6.8, 7.7), (0.88, 1.15), 0.38),
    "child": ((0.95, 1.35), (4.8, 6.0), (0.90, 1.20), 0.14),
    "giant": ((2.05, 2.60), (8.0, 9.2), (1.05, 1.40), 0.08),
    "stocky": ((1.40, 1.75), (5.8, 6.8), (1.25, 1.55), 0.13),
    "thin": ((1.60, 2.05), (7.2, 8.4), (0.68, 0.84), 0.10),
    "cartoon": ((0.95, 1.60), (2.9, 4.3), (0.85, 1.45), 0.17),
}


def sample_body(rng: np.random.Generator) -> Body:
    """Draw a body."""
    kind = str(rng.choice(list(KINDS), p=[k[3] for k in KINDS.values()]))
    heights, heads, girths, _ = KINDS[kind]
    height, girth = rng.uniform(*heights), rng.uniform(*girths)
    head = height / rng.uniform(*heads)
    trunk = height - head
    u = trunk  # the unit below
    cartoon = kind == "cartoon"
    leg = u * (rng.uniform(0.50, 0.60) if kind in ("cartoon", "child") else rng.uniform(0.585, 0.635))
    shoulder_y, rise = 0.945 * u, (0.945 * u - leg)
    shoulder_x = u * rng.uniform(0.106, 0.132) * (0.5 + 0.5 * girth)
    hip_x = u * rng.uniform(0.055, 0.068) * (0.55 + 0.45 * girth)
    arm = rng.uniform(0.93, 1.08)
    thigh, shin = leg * rng.uniform(0.45, 0.475), leg * 0.455
    hand = u * 0.118 * rng.uniform(0.9, 1.12) * (1.3 if cartoon else 1.0)
    offsets = np.zeros((NUM_JOINTS, 3))
    offsets[0] = (0, leg + 0.09 * rise, 0)
    offsets[1] = (0, 0.24 * rise, 0)
    offsets[2] = (0, 0.25 * rise, 0)
    offsets[3] = (0, 0.96 * u - (leg + 0.58 * rise), -0.008 * u)
    offsets[4] = (0, u + 0.18 * head - 0.96 * u, 0.012 * u)
    for side, shoulder, hip in ((1.0, 5, 11), (-1.0, 8, 14)):
        offsets[shoulder] = (side * shoulder_x, shoulder_y - (leg + 0.58 * rise), -0.005 * u)
        offsets[shoulder + 1] = (0, -0.198 * u * arm, 0)
        offsets[shoulder + 2] = (0, -0.172 * u * arm, 0)
        offsets[hip] = (side * hip_x, -0.09 * rise, 0)
        offsets[hip + 1] = (0, -thigh, 0)
        offsets[hip + 2] = (0, -shin, 0)
    tips = np.zeros((2, 5, 3))
    for index in range(2):
        first = FIRST_FINGER + 15 * index
        offsets[first] = hand * np.array([0.0, -0.14, 0.12])
        offsets[first + 1], offsets[first + 2] = (0, -0.20 * hand, 0), (0, -0.16 * hand, 0)
        tips[index, 0] = (0, -0.13 * hand, 0)
        for finger, (z, long) in enumerate(((0.155, 0.92), (0.052, 1.0), (-0.052, 0.94), (-0.15, 0.76)), 1):
            base = first + 3 * finger
            offsets[base] = hand * np.array([0.0, -0.50 + 0.25 * abs(z), z])
            offsets[base + 1], offsets[base + 2] = (0, -0.22 * long * hand, 0), (0, -0.14 * long * hand, 0)
            tips[index, finger] = (0, -0.11 * long * hand, 0)
    g, limb = girth * u, girth * u * rng.uniform(0.9, 1.1)
    widths = {
        "neck": min(0.036 * u * (0.6 + 0.4 * girth) * rng.uniform(0.92, 1.15), 0.21 * head), "shoulder": 0.040 * limb,
        "elbow": 0.030 * limb, "forearm": 0.031 * limb, "wrist": 0.0205 * limb * (1.2 if cartoon else 1.0),
        "thigh": 0.059 * limb, "knee": 0.040 * limb, "calf": 0.037 * limb, "ankle": 0.026 * limb,
        "chest": 0.066 * g * rng.uniform(0.93, 1.1), "waist": 0.059 * g * rng.uniform(0.88, 1.25),
        "pelvis": 0.064 * g * rng.uniform(0.95, 1.15), "foot": 0.030 * (0.5 * u + 0.5 * limb),
    }  # fmt: skip
    if cartoon:
        skull = (rng.uniform(0.40, 0.46), rng.uniform(0.30, 0.42), rng.uniform(0.88, 1.12), rng.uniform(0.9, 1.02))
    else:
        skull = (rng.uniform(0.375, 0.40), rng.uniform(0.21, 0.28), rng.uniform(0.80, 0.92), rng.uniform(0.96, 1.06))
    return Body(kind, height, head, trunk, girth, offsets, tips, widths, skull, hand)


def rotation(angles: Array) -> Array:
    """``(..., 3)`` angles -> ``(..., 3, 3)``: a twist y about the bone, then a swing about (x, 0, z), radians."""
    x, y, z = np.moveaxis(angles, -1, 0)
    size = np.sqrt(x * x + z * z)
    safe = np.maximum(size, 1e-9)
    ax, az, c, s = x / safe, z / safe, np.cos(size), np.sin(size)
    one, o = 1 - c, np.zeros_like(x)
    swing = np.stack([c + ax * ax * one, -az * s, ax * az * one, az * s, c, -ax * s, ax * az * one, ax * s,
                      c + az * az * one], -1).reshape(*x.shape, 3, 3)  # fmt: skip
    cy, sy = np.cos(y), np.sin(y)
    twist = np.stack([cy, o, sy, o, o + 1, o, -sy, o, cy], -1).reshape(*x.shape, 3, 3)
    return np.asarray(swing @ twist)


@dataclass(frozen=True)
class BodyPose:
    """What a motion says about ``T`` moments, in metres and radians.

    Attributes:
        root: ``(T, 3)`` the pelvis in the world. heading: ``(T,)`` turn about y; 0 looks along +z.
        angles: ``(T, 11, 3)`` of the posed joints, in their parents' frames.
        ankles: ``(T, 2, 3)`` left and right ankle wished for, world.
        foot_pitch: ``(T, 2)`` toes down is positive. foot_turn: ``(T, 2)`` in the world, about y.
        curls: ``(T, 2, 5)`` finger bending, 0 straight to 1 fist; left hand first, thumb first.
        mouth: ``(T,)`` open 0 to 1. blink: ``(T,)`` eyes shut 0 to 1.
    """

    root: Array
    heading: Array
    angles: Array
    ankles: Array
    foot_pitch: Array
    foot_turn: Array
    curls: Array
    mouth: Array
    blink: Array

    def expression(self, moments: Sequence[int]) -> Array:
        """``(F, 2)`` mouth and blink at some moments."""
        return np.stack([self.mouth, self.blink], -1)[moments]


@dataclass(frozen=True)
class Placed:
    """Where all joints are: ``rotations`` (T, 48, 3, 3), ``origins`` (T, 48, 3), finger ``tips``
    (T, 2, 5, 3), world; ``stretch`` (T, 48, 3) widens the skirt's frame, 1 elsewhere."""

    rotations: Array
    origins: Array
    tips: Array
    stretch: Array

    def at(self, moments: Sequence[int] | Array) -> Placed:
        """Some moments of the clip."""
        k = np.asarray(moments, int)
        return Placed(self.rotations[k], self.origins[k], self.tips[k], self.stretch[k])


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def _leg(hip: Array, ankle: Array, thigh: float, shin: float, forward: Array) -> tuple[Array, Array]:
    """Rotations ``(T, 3, 3)`` of a thigh and its shin that bring the ankle there; the knee bends forward."""
    line = ankle - hip
    reach = np.clip(np.linalg.norm(line, axis=-1), abs(thigh - shin) * 1.01 + 1e-6, (thigh + shin) * 0.9995)
    down = _unit(line)
    cosine = np.clip((thigh**2 + reach**2 - shin**2) / (2 * thigh * reach), -1, 1)[:, None]
    floor = np.array([0.0, -1.0, 0.0])  # the pole turns with the leg: a leg held forward bends its knee upward
    lean = (down * forward).sum(-1, keepdims=True) / np.maximum(1 + (down * floor).sum(-1, keepdims=True), 0.05)
    pole = _unit(forward - lean * (floor + down))
    along = down * cosine + pole * np.sqrt(1 - cosine**2)
    lower = _unit(hip + down * reach[:, None] - hip - along * thigh)
    side = _unit(np.cross(pole, down))  # the knee's hinge, the person's +x
    thigh_turn, shin_turn = (np.stack([side, -bone, np.cross(side, -bone)], -1) for bone in (along, lower))
    return thigh_turn, shin_turn


def place(body: Body, pose: BodyPose) -> Placed:
    """Forward kinematics of everything, and the legs bent so that the ankles are where they should be."""
    frames = len(pose.root)
    turns, spots = np.zeros((frames, NUM_JOINTS, 3, 3)), np.zeros((frames, NUM_JOINTS, 3))
    local = rotation(pose.angles)
    zero = np.zeros(frames)
    turns[:, 0] = rotation(np.stack([zero, pose.heading, zero], -1)) @ local[:, 0]
    spots[:, 0] = pose.root
    for joint in range(1, NUM_POSED):
        parent = PARENTS[joint]
        spots[:, joint] = spots[:, parent] + turns[:, parent] @ body.offsets[joint]
        turns[:, joint] = turns[:, parent] @ local[:, joint]
    thigh, shin = -body.offsets[12, 1], -body.offsets[13, 1]
    for index, hip in enumerate((11, 14)):
        spots[:, hip] = spots[:, 0] + turns[:, 0] @ body.offsets[hip]
        foot = rotation(np.stack([zero, pose.foot_turn[:, index], zero], -1))
        pelvis_forward = turns[:, 0, :, 2] * np.array([1.0, 0.0, 1.0])
        forward = _unit(_unit(pelvis_forward) + foot[:, :, 2])
        turns[:, hip], turns[:, hip + 1] = _leg(spots[:, hip], pose.ankles[:, index], thigh, shin, forward)
        spots[:, hip + 1] = spots[:, hip] + turns[:, hip] @ body.offsets[hip + 1]
        spots[:, hip + 2] = spots[:, hip + 1] + turns[:, hip + 1] @ body.offsets[hip + 2]
        turns[:, hip + 2] = foot @ rotation(np.stack([pose.foot_pitch[:, index], zero, zero], -1))
    stretch = np.ones((frames, NUM_JOINTS, 3))
    _hang_skirt(spots, turns, stretch, body)
    tips = np.zeros((frames, 2, 5, 3))
    for hand, wrist in enumerate((7, 10)):
        _bend_fingers(spots, turns, tips, body, pose.curls[:, hand], hand, wrist)
    return Placed(turns, spots, tips, stretch)


def _hang_skirt(spots: Array, turns: Array, stretch: Array, body: Body) -> None:
    """The skirt's frame: at the pelvis, down the middle of both thighs, wide enough for them."""
    joint = JOINT["skirt"]
    knees = 0.5 * (spots[:, 12] + spots[:, 15])
    hips = 0.5 * (spots[:, 11] + spots[:, 14])
    up = _unit(_unit(hips - knees) + 0.25 * turns[:, 0, :, 1])
    side = turns[:, 0, :, 0]
    side = _unit(side - (side * up).sum(-1, keepdims=True) * up)
    turns[:, joint] = np.stack([side, up, np.cross(side, up)], -1)
    spots[:, joint] = hips
    apart = np.einsum("tij,ti->tj", turns[:, joint], spots[:, 12] - spots[:, 15])
    room = 0.105 * body.trunk
    stretch[:, joint, 0] = 1 + np.maximum(np.abs(apart[:, 0]) / 2 / room - 1.0, 0) * 0.55
    stretch[:, joint, 2] = 1 + np.maximum(np.abs(apart[:, 2]) / 2 / room - 0.3, 0) * 0.75


def _bend_fingers(spots: Array, turns: Array, tips: Array, body: Body, curls: Array, hand: int, wrist: int) -> None:
    """Fill in the 15 finger joints and five tips of one hand; fingers bend towards the palm."""
    side = (1.0, -1.0)[hand]
    first = FIRST_FINGER + 15 * hand
    bend = curls[:, :, None] * FINGER_BEND  # frames, fingers, joints
    zero = np.zeros_like(bend[:, :, 0])
    at, turn = spots[:, wrist, None], turns[:, wrist, None]
    for segment in range(3):
        joints = first + 3 * np.arange(5) + segment
        at = at + (turn @ body.offsets[joints][:, :, None])[..., 0]
        angles = np.stack([zero, zero, -side * bend[:, :, segment]], -1)
        if segment == 0:  # the fingers fan out a little, the thumb stands off
            angles[:, :, 0] -= np.array([0.85, 0.10, 0.03, -0.04, -0.12])
            angles[:, 0, 0] += 0.35 * curls[:, 0]
            angles[:, 0, 2] -= side * 0.25
        elif segment == 1:
            angles[:, 0, 0] += 0.30
        turn = turn @ rotation(angles)
        spots[:, joints], turns[:, joints] = at, turn
    tips[:, hand] = at + (turn @ body.tips[hand][:, :, None])[..., 0]
