"""Bones of a pose in the picture plane, and the affine map that takes each bone from one pose to another.

(Not in the papers; for the first guess of small models.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.skeleton import HEAD, JOINT
from animate_anyone.structures import LEFT_HAND, RIGHT_HAND, PoseSequence

Points = NDArray[np.float64]
Maps = dict[str, Points]
"""``(2, 3)`` by name of a bone: takes ``(x, y, 1)`` of one pose to the other."""

PARENT = {"hips": "shoulders", "head": "shoulders", "shoulders": "hips", "skirt": "hips"}
for _side in ("right", "left"):
    for _child, _parent in (("hand", "forearm"), ("forearm", "upper_arm"), ("shin", "thigh")):
        PARENT[f"{_side}_{_child}"] = f"{_side}_{_parent}"
    PARENT |= {f"{_side}_upper_arm": "shoulders", f"{_side}_thigh": "hips"}

_LIMBS = {"upper_arm": ("shoulder", "elbow"), "forearm": ("elbow", "wrist"), "thigh": ("hip", "knee"),
          "shin": ("knee", "ankle")}  # fmt: skip
_FINGER_ENDS = (8, 12, 16)  # index, middle and ring finger, of the 21 points of a hand
_SHORTEST = 0.25  # a limb that points at the camera keeps so much of its length
_WIDTH_NOISE, _SCALE_NOISE = 0.25, 0.1  # relative changes that are taken for noise of the poses
_NARROWEST = 0.5  # a trunk seen from the side keeps so much of its width
_PROFILE = 0.2  # trunk lengths of width, as of :class:`Body`, up to which a body is seen from the side
_UPRIGHT = 0.3  # how much the line from the neck to the head says of how that leans, beside those of eyes and ears
_HIPS_WIDTH = 0.6  # of the shoulders'
_THIGH = 0.4  # how thick a thigh is with its clothes, trunk lengths
_SOFT = 4.0  # exponent of the maximum of a skirt's own width and its legs'


class Skirt(NamedTuple):
    """How wide a skirt is: ``width`` at ``place`` of the way from the hips to the knees, ``at_hips`` at the hips.

    Widths in trunk lengths. It is pushed apart by legs that part, less where there is room between them and it; one
    that legs have pushed apart hangs down again as they come together.
    """

    place: float
    width: float
    at_hips: float

    def widened(self, apart: float, apart2: float) -> float:
        """How many times as wide it is where thighs are ``apart2`` apart, for ``apart``; trunk lengths."""
        legs = min(apart + _THIGH, self.width)
        legs2 = max(legs + apart2 - apart, 0.0)
        # A soft maximum of the legs' width and that to which the cloth hangs.
        pushed = (self.width**_SOFT - legs**_SOFT + legs2**_SOFT) ** (1 / _SOFT)
        return float(max(pushed, min(self.width, self.at_hips)) / self.width)


class Body(NamedTuple):
    """The body of one frame of a pose.

    Attributes:
        points: ``(18, 2)`` pixels; NaN where a joint is not there. Missing hips are placed below the neck.
        bones: ``(start, end)`` by name, both ``(2,)`` pixels; bones with a missing end are left out.
        unit: length of the trunk, pixels, at least 1.
        width: of the trunk, from the person's right to its left across the trunk, in trunk lengths: negative where
            it is seen from behind.
        depth: ``(18,)``, as :class:`PoseSequence` has it; ``None`` where that is not known.
        skirt: what it wears, where that is known and a skirt.
    """

    points: Points
    bones: dict[str, tuple[Points, Points]]
    unit: float
    width: float
    depth: NDArray[np.float32] | None
    skirt: Skirt | None = None

    @classmethod
    def of(cls, pose: PoseSequence, frame: int = 0) -> Body:
        """The body of a frame; joints count from a score above 0 on, as a cleaned pose marks them."""
        points = pose.keypoints[frame, :18].astype(np.float64)
        points[pose.scores[frame, :18] <= 0] = np.nan
        shoulders, hips = _pair(points, "shoulder"), _pair(points, "hip")
        neck = points[JOINT["neck"]]
        if np.isnan(neck).any():
            neck = points[JOINT["neck"]] = shoulders.mean(0)
        unit = _trunk_length(points, shoulders, hips)
        across = (shoulders[1] - shoulders[0]) / 2 * _HIPS_WIDTH
        across = np.where(np.isnan(across), [0.2 * unit, 0.0], across)
        for number, sign in ((0, -1), (1, 1)):
            other = hips[1 - number]
            middle = neck + np.array([0.0, unit]) if np.isnan(other).any() else other + sign * across
            if np.isnan(hips[number]).any():
                hips[number] = middle + sign * across
        for side, hip in zip(("right", "left"), hips, strict=True):
            points[JOINT[f"{side}_hip"]] = hip
        bones = {"shoulders": (shoulders[0], shoulders[1]), "hips": (hips[0], hips[1])}
        head = points[list(HEAD)]
        if np.isfinite(head).all(1).any():
            bones["head"] = (neck, np.nanmean(head, 0))
        for side, hand in (("right", RIGHT_HAND), ("left", LEFT_HAND)):
            for name, (start, end) in _LIMBS.items():
                bones[f"{side}_{name}"] = (points[JOINT[f"{side}_{start}"]], points[JOINT[f"{side}_{end}"]])
            ends = [hand.start + number for number in _FINGER_ENDS]
            if (pose.scores[frame, ends] > 0).all():
                tips = pose.keypoints[frame, ends].astype(np.float64).mean(0)
                bones[f"{side}_hand"] = (points[JOINT[f"{side}_wrist"]], tips)
        bones = {name: ends for name, ends in bones.items() if np.isfinite(ends).all()}
        down = hips.mean(0) - neck if "hips" in bones else np.array([0.0, unit])
        right = _turned(down) * -1
        pairs = [b - a for a, b in (bones[name] for name in ("shoulders", "hips") if name in bones)]
        wide = np.mean([pair @ right for pair in pairs]) / max(np.linalg.norm(down), 1e-3) / unit if pairs else 0.0
        return cls(points, bones, unit, float(wide), None if pose.depth is None else pose.depth[frame, :18])

    @property
    def with_skirt(self) -> dict[str, tuple[Points, Points]]:
        """:attr:`bones`, and ``skirt`` from the middle of the hips to that of the knees, where both are there."""
        thighs = [self.bones[name] for name in ("right_thigh", "left_thigh") if name in self.bones]
        if len(thighs) < 2:
            return self.bones
        start, end = np.mean(thighs, 0)
        return self.bones | {"skirt": (start, end)}

    def thighs_apart(self, place: float) -> float:
        """How far the thighs are apart at ``place`` of the way to the knees, across the skirt's bone, trunk lengths."""
        right, left = (np.array(self.bones[f"{side}_thigh"]) for side in ("right", "left"))
        start, end = (right + left) / 2
        across = _turned(end - start) / max(float(np.linalg.norm(end - start)), 1e-3)
        apart = (left - right) @ across
        return float(abs(apart[0] + place * (apart[1] - apart[0]))) / self.unit

    @property
    def down(self) -> Points:
        """From the middle of the shoulders to the middle of the hips, ``(2,)`` pixels."""
        if not {"shoulders", "hips"} <= self.bones.keys():
            return np.array([0.0, self.unit])
        return np.mean(self.bones["hips"], 0) - np.mean(self.bones["shoulders"], 0)


def bone_maps(before: Body, after: Body) -> Maps:
    """The map of every bone that both poses have.

    A bone is stretched along itself as its ends say, and across itself by the body's change of scale. Of a body that is
    seen from its other side every bone is a mirror image.
    """
    side = -1.0 if turned_away(before, after) else 1.0
    scale = steady(after.unit / before.unit, _SCALE_NOISE)
    maps: Maps = {}
    if (head := _head_map(before, after, scale)) is not None:
        maps["head"] = head
    bones, bones2 = before.with_skirt, after.with_skirt
    for name in (bones.keys() & bones2.keys()) - {"head"}:
        (a, b), (a2, b2) = bones[name], bones2[name]
        if name in ("shoulders", "hips"):
            across, across2 = b - a, _resized(b - a, b2 - a2, scale, _NARROWEST)
            if before.width * after.width < 0 and side > 0:  # a profile, from a little behind
                across2 = _mirrored(across2, after.down)
            maps[name] = _fit(across, before.down, across2, after.down, (a + b) / 2, (a2 + b2) / 2)
        else:
            along, along2 = b - a, b2 - a2
            length, length2 = max(float(np.linalg.norm(along)), 1e-3), float(np.linalg.norm(along2))
            if length2 < _SHORTEST * scale * length:
                direction = along2 / length2 if length2 > 1e-3 else along / length
                along2, length2 = direction * _SHORTEST * scale * length, _SHORTEST * scale * length
            across, across2 = _turned(along) / length, _turned(along2) / length2 * scale * side
            if name == "skirt" and (skirt := before.skirt) is not None:
                across2 *= skirt.widened(before.thighs_apart(skirt.place), after.thighs_apart(skirt.place))
            maps[name] = _fit(along / length, across, along2 / length, across2, a, a2)
    return maps


def map_of(name: str, maps: Maps) -> Points | None:
    """The map of a bone; of the next one towards the trunk where the bone has none; ``None`` where no bone has."""
    seen: set[str] = set()
    while name not in maps:
        seen.add(name)
        name = PARENT[name]
        if name in seen:
            return None
    return maps[name]


def turned_away(before: Body, after: Body) -> bool:
    """Whether one of two poses shows the front of the body and the other the back; a profile is neither."""
    return before.width * after.width < 0 and min(abs(before.width), abs(after.width)) > _PROFILE


def off_bone(places: Points, ends: tuple[Points, Points], beyond: float = 0.0) -> Points:
    """Distance of ``(..., 2)`` places from a bone, which goes on for ``beyond`` pixels past its end."""
    along = ends[1] - ends[0]
    length = max(float(np.linalg.norm(along)), 1e-3)
    reach = np.clip((places - ends[0]) @ (along / length), 0, length + beyond)
    distance: Points = np.linalg.norm(places - ends[0] - reach[..., None] * (along / length), axis=-1)
    return distance


def _pair(points: Points, joint: str) -> Points:
    """Copies of the right and the left one, ``(2, 2)``."""
    return points[[JOINT[f"right_{joint}"], JOINT[f"left_{joint}"]]]


def _trunk_length(points: Points, shoulders: Points, hips: Points) -> float:
    """In pixels: the trunk, or, where that is bent towards the camera or unseen, from other lengths."""
    neck = points[JOINT["neck"]]
    lengths = [
        np.linalg.norm(neck - np.mean(hips, 0)),
        1.2 * np.linalg.norm(shoulders[0] - shoulders[1]),
        1.2 * np.linalg.norm(points[JOINT["nose"]] - neck),
    ]
    return float(max(np.nan_to_num(lengths).max(), 1.0))


def steady(ratio: float, margin: float) -> float:
    """A ratio of lengths of two poses; 1 within ``margin``, for poses are not more precise, itself from twice on."""
    least, log = np.log1p(margin), np.log(max(ratio, 1e-6))
    return float(np.exp(np.sign(log) * np.clip(2 * (abs(log) - least), 0, abs(log))))


def _mirrored(line: Points, axis: Points) -> Points:
    """``(2,)`` mirrored at an axis."""
    axis = axis / max(float(np.linalg.norm(axis)), 1e-3)
    return 2 * (line @ axis) * axis - line


def _resized(line: Points, line2: Points, scale: float, least: float) -> Points:
    """The direction of ``line2``, as long as ``line`` scaled; more or less where the two differ much."""
    length, length2 = max(float(np.linalg.norm(line)) * scale, 1e-3), max(float(np.linalg.norm(line2)), 1e-3)
    return line2 / length2 * length * max(steady(length2 / length, _WIDTH_NOISE), least)


def _turned(line: Points) -> Points:
    """At a right angle to ``(2,)``, as long."""
    return np.array([-line[1], line[0]])


def _fit(a: Points, b: Points, a2: Points, b2: Points, origin: Points, origin2: Points) -> Points:
    """``(2, 3)``: takes the vectors ``a`` and ``b`` to ``a2`` and ``b2``, and ``origin`` to ``origin2``."""
    linear = np.stack([a2, b2], 1) @ np.linalg.pinv(np.stack([a, b], 1))
    return np.c_[linear, origin2 - linear @ origin]


def _head_map(before: Body, after: Body, scale: float) -> Points | None:
    """The head turned as its eyes and ears are; ``None`` where too little of it is known.

    Its size is the body's and it moves with its middle, near to the axis about which it turns: the face's own points
    move across a head that turns, so that the nose says nothing of how it leans. Where that middle is not known, and of
    the same profile in both poses, it moves and turns as the points of the face do that are in both. Where those are
    fewer than three, and of a body that is seen from its other side, it turns as the trunk does; about the neck, where
    nothing else is known.
    """
    both = [joint for joint in HEAD if np.isfinite([before.points[joint], after.points[joint]]).all()]
    away = turned_away(before, after)
    mirror = np.array([-1.0 if away else 1.0, 1.0])
    x, y = before.down[None] * mirror, after.down[None]
    neck, neck2 = before.points[JOINT["neck"]], after.points[JOINT["neck"]]
    middle, middle2 = _head_middle(before), _head_middle(after)
    ears, ears2 = (np.isfinite(_pair(body.points, "ear")).all(1) for body in (before, after))
    same_profile = ears.sum() == 1 and (ears == ears2).all()
    if middle is None or middle2 is None or same_profile:
        middle, middle2 = neck, neck2
        if len(both) >= 3 and not away:
            middle, middle2 = (body.points[both].mean(0) for body in (before, after))
            x, y = (body.points[both] - body.points[both].mean(0) for body in (before, after))
    elif not away:
        lines = [[_UPRIGHT * (middle - neck), middle2 - neck2]]
        for joint in ("eye", "ear"):
            lines.append([np.subtract(*_pair(body.points, joint)) for body in (before, after)])
        known = [line for line in lines if np.isfinite(line).all()]
        x, y = np.stack(known, 1) if known else (x, y)
    if not np.isfinite([middle, middle2]).all():
        return None
    turn = (x[:, 0] - 1j * x[:, 1]) @ (y[:, 0] + 1j * y[:, 1])
    turn *= scale / max(float(abs(turn)), 1e-6)
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]]) * mirror
    return np.c_[linear, middle2 - linear @ middle]


def _head_middle(body: Body) -> Points | None:
    """Between the ears, or the ear of a profile, ``(2,)``; ``None`` where that is not known."""
    ears, eyes = (np.isfinite(_pair(body.points, joint)).all(1) for joint in ("ear", "eye"))
    if ears.all() or (ears.sum() == eyes.sum() == 1 and (ears == eyes).all()):
        middle: Points = _pair(body.points, "ear")[ears].mean(0)
        return middle
    return None
