"""Fits the driving skeleton to the reference's body (Animate Anyone, section 4.1, inference).

The paper rescales the length of the driving skeleton to that of the reference's. Lengths in a
picture are foreshortened lengths, so a plain quotient of two frames explodes on side views and
bent limbs. Here the driver's lengths come from many frames (a limb is at least once seen nearly
flat), the reference's single frame is believed only where it looks flat, left and right are tied,
and ratios that differ from the whole body's by more than a limit are clamped. The directions of bones, and so
the movement, stay the driver's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from animate_anyone.conditions.body_lengths import (
    AVERAGE_BODY,
    BONES,
    DEPTH_BONES,
    FIRST,
    MIDHIP,
    Length,
    average_torso,
    measure,
    with_midhip,
)
from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.errors import InputError
from animate_anyone.structures import BODY, FACE, LEFT_HAND, NUM_KEYPOINTS, RIGHT_HAND, PoseSequence, Size

Points = NDArray[np.float64]
"""Pixels ``(..., x and y)``; the points of a pose and the middle of its hips are 129."""

_NECK, _NOSE = JOINT["neck"], JOINT["nose"]
_ANKLES = [JOINT["right_ankle"], JOINT["left_ankle"]]
_HALF_FRAMES = 0.5
_ABOVE_GROUND = 0.5  # torso lengths by which the feet are higher than the lowest joint of somebody not on their feet
_HAND_LIMIT = 1.3  # the size of a hand, spread or clenched, is hard to tell from one picture
_SCALE_BONES = ("torso", "shoulders", "upper_arm", "forearm", "thigh", "shin")
# A reference bone that comes out short may be foreshortened: how far it is believed all the same.
_TRUST_IF_SHORT = {"torso": 0.85, "thigh": 0.85, "shin": 0.85, "upper_arm": 0.6, "forearm": 0.6, "neck": 0.6}
# The two bones of a limb grow together; the smaller ratio is at least this share of the larger.
_LIMBS = (("upper_arm", "forearm"), ("thigh", "shin"))
_EVEN = 0.9
# Bones of a standing body one above the other: their common ratio scales the way a person goes.
_UPRIGHT = ("torso", "thigh", "shin")
# The kinematic tree, parents first: (joint, its parent, the name of the ratio of the bone between).
_TREE: list[tuple[int, int, str]] = [
    (MIDHIP, _NECK, "torso"),
    *((JOINT[f"{side}_shoulder"], _NECK, "shoulders") for side in ("right", "left")),
    *((JOINT[f"{side}_hip"], MIDHIP, "hips") for side in ("right", "left")),
    *((end, start, bone) for bone in ("upper_arm", "forearm", "thigh", "shin") for start, end in BONES[bone]),
    (_NOSE, _NECK, "neck"),
    *((JOINT[name], _NOSE, "head") for name in ("right_eye", "left_eye", "right_ear", "left_ear")),
    *((point, _NOSE, "head") for point in range(FACE.start, FACE.stop)),
    *((point, JOINT["left_wrist"], "hand") for point in range(LEFT_HAND.start, LEFT_HAND.stop)),
    *((point, JOINT["right_wrist"], "hand") for point in range(RIGHT_HAND.start, RIGHT_HAND.stop)),
]


@dataclass(frozen=True)
class BodyComparison:
    """How the reference's body differs from the driver's; what :func:`retarget` applies.

    Attributes:
        scale: reference pixels per driver pixel, of the body as a whole.
        ratios: reference pixels per driver pixel for each part of the body.
        clamped: the parts whose ratio was held back at the limit.
        notes: remarks for the user, one line each.
    """

    scale: float
    ratios: dict[str, float]
    clamped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The comparison for people, a few lines."""
        parts = ", ".join(f"{name} {ratio / self.scale:.2f}" for name, ratio in self.ratios.items())
        lines = [f"body scale {self.scale:.3f}; parts, against it: {parts}"]
        if self.clamped:
            lines.append(f"held back at the limit: {', '.join(self.clamped)}")
        return lines + list(self.notes)


def compare_bodies(driving: PoseSequence, reference: PoseSequence, limit: float = 1.6) -> BodyComparison:
    """Measure both bodies and compare them.

    Args:
        driving: the driver, any number of frames.
        reference: the character, one frame.
        limit: no part's ratio differs from the body's scale by more than this factor.

    Raises:
        InputError: the reference has not one frame, ``limit`` is below 1, or the two show no part
            of the body in common.
    """
    if len(reference) != 1:
        raise InputError(f"the reference pose has {len(reference)} frames; give the pose of one picture")
    if limit < 1:
        raise InputError(f"limit is {limit}; give a factor of 1 or more")
    driver, character = measure(driving), measure(reference)
    usual = average_torso(driver)
    known = {bone: _compare(bone, driver[bone], character[bone], usual) for bone in driver if bone in character}
    scale = _body_scale(known)
    if scale is None:
        raise InputError(
            "the driving poses and the reference pose show no part of the body in common, so they cannot be "
            "aligned; take another reference picture, or type --no-align"
        )

    believed = {bone: ratio.believed(scale) for bone, ratio in known.items()}
    for one, other in _LIMBS:
        if one in believed and other in believed:
            least = _EVEN * max(believed[one], believed[other])
            believed |= {bone: max(believed[bone], least) for bone in (one, other)}
    if (head := _head_ratio(known, scale)) is not None:
        believed["head"] = head
    ratios, clamped = {}, []
    for part in (*_SCALE_BONES, "hips", "neck", "head", "hand"):
        reach = min(limit, _HAND_LIMIT) if part == "hand" else limit
        ratio = believed.get(part, scale)
        ratios[part] = float(np.clip(ratio, scale / reach, scale * reach))
        if ratios[part] != ratio:
            clamped.append(part)
    unseen = ", ".join(bone for bone in _SCALE_BONES if bone not in known)
    notes = (f"not seen in both, so scaled like the whole body: {unseen}",) if unseen else ()
    return BodyComparison(scale, ratios, tuple(clamped), notes)


def retarget(
    driving: PoseSequence,
    reference: PoseSequence,
    size: Size | None = None,
    *,
    comparison: BodyComparison | None = None,
) -> PoseSequence:
    """The driver's movement on the reference's body, standing where the reference stands.

    The driver's place in its first reliable frames is mapped to the reference's. Where both show
    their feet, the vertical anchor is the ground: the feet, or, of somebody who begins on head or
    hands, or lies with the legs up, the lowest joint; otherwise hips, neck or nose. From there on
    the driver's path is followed, times the scale of the body. Points that the driver lacks stay
    missing.

    Args:
        driving: the driver, one frame or more.
        reference: the character, one frame, in pixels of its picture.
        size: ``(width, height)`` that the result's pixels refer to; ``None``: the reference's.
            The reference picture is taken to be stretched to it.
        comparison: from :func:`compare_bodies`; ``None`` makes one.

    Returns:
        As many frames as ``driving``, with its times and scores; depth is scaled along.

    Raises:
        InputError: as :func:`compare_bodies`, or there are no driving frames.
    """
    if len(driving) == 0:
        raise InputError("there are no driving poses; give 1 frame or more")
    if comparison is None:
        comparison = compare_bodies(driving, reference)
    points, seen = with_midhip(driving)
    stood, there = with_midhip(reference)
    going = _going_scale(driving, comparison)
    moved = _walk(points, seen, comparison.ratios, going)
    moved += _placement(points, seen, moved, stood[0], there[0], going)[:, None]

    depth = driving.depth
    if depth is not None:
        depth = (depth * (driving.size[1] * comparison.scale / reference.size[1])).astype(np.float32)
    # Coordinates of missing points have no meaning; they are set to 0.
    moved = np.where(driving.scores[..., None] > 0, moved[:, :NUM_KEYPOINTS], 0)
    result = replace(driving, keypoints=moved.astype(np.float32), size=reference.size, depth=depth)
    return result if size is None or size == reference.size else result.scaled_to(size)


def fit_into_frame(driving: PoseSequence, size: Size) -> PoseSequence:
    """The driver's poses without alignment: scaled into ``(width, height)``, aspect kept, centred."""
    scale = min(size[0] / driving.size[0], size[1] / driving.size[1])
    rest = (np.array(size) - scale * np.array(driving.size)) / 2
    depth = driving.depth
    if depth is not None:
        depth = (depth * (driving.size[1] * scale / size[1])).astype(np.float32)
    return replace(driving, keypoints=(driving.keypoints * scale + rest).astype(np.float32), size=size, depth=depth)


@dataclass(frozen=True)
class _Ratio:
    ratio: float
    weight: float  # driver pixels, less where foreshortened
    trust_if_short: float  # in [0, 1]
    trust_if_long: float

    def believed(self, scale: float) -> float:
        """The ratio, drawn towards the body's scale as far as it is not to be believed."""
        trust = self.trust_if_short if self.ratio < scale else self.trust_if_long
        return float(self.ratio**trust * scale ** (1 - trust))


def _compare(bone: str, driver: Length, reference: Length, usual: float | None) -> _Ratio:
    """Foreshortening only shortens: a ratio is too small by the reference's, too large by the driver's."""
    driver_flat = driver.flatness
    if usual is not None and bone in AVERAGE_BODY:
        driver_flat *= float(np.clip((driver.pixels / (usual * AVERAGE_BODY[bone]) - 0.5) / 0.3, 0, 1))
    short = reference.flatness if bone in DEPTH_BONES else 1.0
    short *= _TRUST_IF_SHORT.get(bone, 0.8)
    return _Ratio(
        reference.pixels / driver.pixels, driver.pixels * driver_flat * reference.flatness, short, driver_flat
    )


def _body_scale(known: dict[str, _Ratio]) -> float | None:
    """The weighted median ratio, which a single wrong bone changes little."""
    bones = [known[bone] for bone in _SCALE_BONES if bone in known]
    bones = bones or [known[bone] for bone in ("neck", "head_width", "head_height", "ears") if bone in known]
    if not bones:
        return None
    bones = sorted(bones, key=lambda bone: bone.ratio)
    weights = np.array([bone.weight + 1e-3 for bone in bones])
    middle = np.cumsum(weights) - weights / 2
    logs = np.log([bone.ratio for bone in bones])
    return float(np.exp(np.interp(weights.sum() / 2, middle, logs)))


def _head_ratio(known: dict[str, _Ratio], scale: float) -> float | None:
    """Weighted mean of the ratios of width and height: a turned head is too narrow, a bent one too low."""
    sizes = [known[name] for name in ("head_width", "head_height") if name in known]
    sizes = sizes or [known[name] for name in ("ears",) if name in known]
    if not sizes:
        return None
    logs = np.log([size.believed(scale) for size in sizes])
    return float(np.exp(np.average(logs, weights=[size.weight + 1e-3 for size in sizes])))


def _walk(points: Points, seen: NDArray[np.bool_], ratios: dict[str, float], going: float) -> Points:
    """Forward kinematics from the neck: each bone keeps its direction and takes its new length.

    The neck's own path is scaled by ``going``. A joint that is missing in a frame takes
    the place of its parent in the tree, so that its children are attached there. Where the neck is
    missing, the mean of the body's points that are seen takes its place.
    """
    weights = seen[:, BODY].astype(np.float64)[..., None]
    middle = (points[:, BODY] * weights).sum(1) / np.maximum(weights.sum(1), 1)
    origin = points.copy()  # each joint's place before, or its nearest seen ancestor's
    origin[:, _NECK] = np.where(seen[:, _NECK, None], points[:, _NECK], middle)
    moved = origin * going
    for joint, parent, bone in _TREE:
        there = seen[:, joint, None]
        placed = moved[:, parent] + (points[:, joint] - origin[:, parent]) * ratios[bone]
        moved[:, joint] = np.where(there, placed, moved[:, parent])
        origin[:, joint] = np.where(there, points[:, joint], origin[:, parent])
    return moved


def _going_scale(driving: PoseSequence, comparison: BodyComparison) -> float:
    """The ratio of the bodies' standing heights, from the upright bones that the driver shows."""
    lengths = {bone: length.pixels for bone, length in measure(driving).items() if bone in _UPRIGHT}
    if not lengths:
        return comparison.scale
    return sum(length * comparison.ratios[bone] for bone, length in lengths.items()) / sum(lengths.values())


def _placement(
    points: Points, seen: NDArray[np.bool_], moved: Points, stood: Points, there: NDArray[np.bool_], going: float
) -> Points:
    """``(frames, 2)``: how far each frame of ``moved`` has to be shifted."""
    across = next((j for j in (MIDHIP, _NECK, _NOSE) if there[j] and seen[:, j].mean() >= _HALF_FRAMES), None)
    if across is None:  # none of the three is seen in both: any joint that is
        both = there & seen.any(0)
        across = int(np.flatnonzero(both)[0]) if both.any() else _NECK
    shift = _anchor_shift(points[:, across], moved[:, across], seen[:, across], stood[across], going)

    feet = seen[:, _ANKLES].any(1)
    if across == MIDHIP and there[_ANKLES].any() and feet.mean() >= _HALF_FRAMES:
        on_feet = _begins_on_feet(stood[None], there[None])
        ground = stood[_ANKLES, 1][there[_ANKLES]].max() if on_feet else _lowest(stood[None], there[None])[0]
        if _begins_on_feet(points, seen):
            rows = np.arange(len(points))
            heights = np.where(seen[:, _ANKLES], points[:, _ANKLES, 1], -np.inf)
            lowest = np.array(_ANKLES)[heights.argmax(1)]
            before, after = points[rows, lowest, 1:], moved[rows, lowest, 1:]
        else:
            feet = seen[:, BODY].any(1)
            before, after = (_lowest(at, seen)[:, None] for at in (points, moved))
        shift[:, 1] = _anchor_shift(before, after, feet, np.array([ground]), going)[:, 0]
    return shift


def _lowest(points: Points, seen: NDArray[np.bool_]) -> Points:
    """``(frames,)``: how far down the lowest joint of the body is, pixels; 0 where none is seen."""
    lowest = np.where(seen[:, BODY], points[:, BODY, 1], -np.inf).max(1)
    return np.where(np.isfinite(lowest), lowest, 0.0)


def _begins_on_feet(points: Points, seen: NDArray[np.bool_]) -> bool:
    """Whether in the first frames with trunk and feet the feet are about as far down as anything of the body."""
    frames = np.flatnonzero(seen[:, _ANKLES].any(1) & seen[:, _NECK] & seen[:, MIDHIP])[:FIRST]
    if not len(frames):
        return True
    at, there = points[frames], seen[frames]
    feet = np.where(there[:, _ANKLES], at[:, _ANKLES, 1], -np.inf).max(1)
    torso = np.hypot(*(at[:, _NECK] - at[:, MIDHIP]).T)
    return bool(np.median((_lowest(at, there) - feet) / np.maximum(torso, 1.0)) < _ABOVE_GROUND)


def _anchor_shift(before: Points, after: Points, seen: NDArray[np.bool_], target: Points, going: float) -> Points:
    """Shift ``(frames, d)`` that starts a point at ``target`` and lets it go on as before, scaled.

    In frames without the point the shift is interpolated.
    """
    frames = np.flatnonzero(seen)
    if not len(frames):
        return np.zeros_like(after)
    start = np.median(before[frames[:FIRST]], axis=0)
    shift = target + (before[frames] - start) * going - after[frames]
    every = np.arange(len(seen))
    return np.stack([np.interp(every, frames, column) for column in shift.T], axis=1)
