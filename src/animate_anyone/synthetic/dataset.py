"""Clips: one puppet, one motion, one scene and all the ground truth, from a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.conditions.skeleton import BODY_JOINTS
from animate_anyone.errors import InputError
from animate_anyone.structures import FACE, LEFT_HAND, NUM_KEYPOINTS, RIGHT_HAND, PoseSequence
from animate_anyone.synthetic.figure import face as faces
from animate_anyone.synthetic.figure.body import FIRST_FINGER, JOINT, Body, Placed, place, sample_body
from animate_anyone.synthetic.figure.bricks import Array, Label
from animate_anyone.synthetic.figure.look import MATERIALS, Look, sample_look
from animate_anyone.synthetic.figure.wardrobe import redress
from animate_anyone.synthetic.motion.dance import MOTIONS
from animate_anyone.synthetic.motion.motion import Score, perform
from animate_anyone.synthetic.picture.camera_effects import CameraEffects, photograph, sample_effects
from animate_anyone.synthetic.picture.lighting import Lights, Shading, cast_on_self, sample_lights, sample_shading
from animate_anyone.synthetic.picture.render import Geometry, View, as_bytes, assemble, in_sight, to_camera
from animate_anyone.synthetic.place.backdrop import Backdrop, Camera, cast_shadow, sample_backdrop, sample_camera
from animate_anyone.synthetic.place.surroundings import paint_empty, sample_surroundings

SPLITS = ("train", "held_out")
DOMAINS = ("plain", "wide")
OCCLUDED_SCORE = 0.6
LEAST_PIXELS = 6.0  # hands and faces smaller than this are not found


@dataclass(frozen=True)
class Clip:
    """A rendered clip and its truth.

    Attributes:
        frames: ``(T, H, W, 3)`` uint8 RGB.
        pose: keypoints in pixels and scores as an estimator would give them; body joints 1, or 0.6
            where something hides them, 0 outside the frame; hands and faces 0 where too small,
            hidden or turned away.
        keypoints_3d: ``(T, 128, 3)`` float32, camera space (x right, y down, z forward), metres.
        visible: ``(T, 128)`` bool: in the frame and nothing in front.
        depth: ``(T, H, W)`` float32, metres along the view, inf on the background.
        mask: ``(T, H, W)`` bool, the person.
        labels: ``(T, H, W)`` uint8, :class:`Label`.
        description: what was drawn, JSON-able.

    Tensors lie on the device that rendered them.
    """

    frames: Tensor
    pose: PoseSequence
    keypoints_3d: Tensor
    visible: Tensor
    depth: Tensor
    mask: Tensor
    labels: Tensor
    seed: int
    split: str
    description: dict[str, str | int | float]


def stream(split: str, seed: int, purpose: str, take: int = 0) -> np.random.Generator:
    """The random numbers of one purpose in one take of a clip; no two (split, seed, purpose, take) share them."""
    purpose += f", take {take}" if take else ""
    digest = hashlib.sha256(f"puppet studio 1/{split}/{seed}/{purpose}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def check_request(
    split: str, domain: str, motion: str | None, num_frames: int, size: tuple[int, int], supersample: int,
    frame_indices: Sequence[int] | None,
) -> list[int]:  # fmt: skip
    """The frames to render, after a look at all settings of a clip; InputError names the first that is wrong."""
    if split not in SPLITS:
        raise InputError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}")
    if domain not in DOMAINS:
        raise InputError(f"domain is {domain!r}; it must be one of {', '.join(DOMAINS)}")
    if motion is not None and motion not in MOTIONS:
        raise InputError(f"motion is {motion!r}; it must be one of {', '.join(MOTIONS)}")
    if num_frames < 1 or min(size) < 8 or supersample < 1:
        raise InputError("num_frames and supersample must be at least 1, both sides of size at least 8")
    chosen = list(range(num_frames)) if frame_indices is None else [int(k) for k in frame_indices]
    if not chosen or min(chosen) < 0 or max(chosen) >= num_frames:
        raise InputError(f"frame_indices must name frames 0 to {num_frames - 1} and at least one")
    return chosen


def sample_clip(
    seed: int,
    *,
    split: str = "train",
    num_frames: int = 24,
    size: tuple[int, int] = (128, 128),
    fps: Fraction = Fraction(12),
    motion: str | None = None,
    frame_indices: Sequence[int] | None = None,
    supersample: int = 2,
    device: str | torch.device = "cpu",
    domain: str = "plain",
    take: int = 0,
) -> Clip:
    """Render the clip of a seed.

    Args:
        seed: any integer; the same seed is the same clip. split: ``train`` or ``held_out``; the two
            share no puppet, motion or background.
        num_frames: length of the motion. size: ``(width, height)``; another size, the same scene.
        motion: a name of ``dance.MOTIONS``; ``None`` draws one.
        frame_indices: render only these frames of the clip. supersample: samples per pixel and axis.
        domain: ``plain``, or ``wide``: the same puppets in the same motion, mostly with the cloth, light,
            places and cameras of photographs and films. The truth is that of ``plain``.
        take: another number is another clip of the same character in the same clothes: its motion, camera, light and
            place are others.
    """
    chosen = check_request(split, domain, motion, num_frames, size, supersample, frame_indices)
    device = torch.device(device)

    times = np.arange(num_frames) / float(fps)
    body, look, name, score = sample_performance(split, seed, times, motion, take)
    pose = perform(score, body)
    placed = place(body, pose)
    camera, style = sample_setting(split, seed, domain, body, look, placed, take=take)
    look, backdrop, shading = style.look, style.backdrop, style.shading

    some = placed.at(chosen)
    geometry = assemble(look.parts, some, camera.rotation, camera.position, device)
    expression = pose.expression(chosen)
    picture = View(look, shading, camera.focal, size, supersample, device).person(geometry, body, expression)
    empty = paint_empty(backdrop, camera, size, supersample, device)
    figure = picture.colour
    if style.lights is not None:
        empty = (empty * torch.tensor(style.lights.scene, device=device)).clamp(0, 1)
        figure = figure * cast_on_self(picture.depth, camera.focal, style.lights)[..., None]
    empty = cast_shadow(empty, backdrop, camera, placed, chosen, body)
    frames = figure + empty * (1 - picture.cover[..., None])
    if style.effects is not None:
        frames = photograph(frames, style.effects, [stream(split, seed, f"wide noise {k}", take) for k in chosen])
    seen = observe(body, look, some, expression, camera, [(geometry, 1.0)], size, fps, clip_times(chosen, fps))
    return Clip(
        frames=as_bytes(frames),
        pose=seen.pose,
        keypoints_3d=torch.from_numpy(seen.points.astype(np.float32)).to(device),
        visible=torch.from_numpy(seen.visible).to(device),
        depth=picture.depth,
        mask=picture.labels != int(Label.BACKGROUND),
        labels=picture.labels,
        seed=seed,
        split=split,
        description={"motion": name, "shading": shading.style, "background": backdrop.kind, "framing": camera.framing,
                     "height": round(body.height, 3), **look.words, **style.words},
    )  # fmt: skip


def sample_performance(
    split: str, seed: int, times: Array, motion: str | None, take: int = 0
) -> tuple[Body, Look, str, Score]:
    """The body, its look, the motion's name and the motion of a seed, as yet on no body; times in seconds."""
    body = sample_body(stream(split, seed, "body"))
    look = sample_look(stream(split, seed, "look"), body)
    rng = stream(split, seed, "motion", take)
    drawn = str(rng.choice(list(MOTIONS), p=[share for _, share in MOTIONS.values()]))
    name = motion or drawn
    score = MOTIONS[name][0](stream(split, seed, f"motion {name}", take), times)
    score.heading = score.heading + _facing(rng)
    return body, look, name, score


@dataclass(frozen=True)
class Style:
    """How a clip looks; ``words`` go into its description."""

    words: dict[str, str]
    look: Look
    backdrop: Backdrop
    shading: Shading
    lights: Lights | None = None
    effects: CameraEffects | None = None


def sample_setting(
    split: str, seed: int, domain: str, body: Body, look: Look, placed: Placed, above: float = 0.0, take: int = 0
) -> tuple[Camera, Style]:
    """The camera, the light and the backdrop of a seed; in the wide domain also the look's other cloth.

    ``above``: room wanted over the crown, metres, where hair and hat need less.
    """
    scene = stream(split, seed, "scene", take)
    camera = sample_camera(scene, body, max(above, hat_height(look, body)), placed)
    shading, backdrop = sample_shading(scene), sample_backdrop(scene)
    style = Style({"domain": domain}, look, backdrop, shading)
    return camera, _widen(style, split, seed, take) if domain == "wide" else style


def _widen(style: Style, split: str, seed: int, take: int) -> Style:
    """Mostly cloth, light, place and camera as photographs have them; each stays plain now and then."""
    rng, shares = stream(split, seed, "wide"), (0.85, 0.8, 0.8, 0.85)
    woven, *_ = rng.random(4) < shares  # the cloth is the character's: that of take 0
    lit, elsewhere, filmed = (bool(k) for k in (stream(split, seed, "wide", take).random(4) < shares)[1:])
    look, kind = redress(stream(split, seed, "wide look"), style.look) if woven else (style.look, "plain")
    lights = sample_lights(stream(split, seed, "wide light", take)) if lit else None
    words = {
        **style.words,
        "cloth": kind,
        "top": look.materials[MATERIALS.index("top")].pattern.name.lower(),
        "light": lights.mood if lights else "plain",
        "camera": "photograph" if filmed else "none",
    }
    return Style(
        words,
        look,
        sample_surroundings(stream(split, seed, "wide place", take)) if elsewhere else style.backdrop,
        replace(style.shading, lights=lights),
        lights,
        sample_effects(stream(split, seed, "wide camera", take)) if filmed else None,
    )


@dataclass(frozen=True)
class Observation:
    """Keypoints as they are and as an estimator would give them.

    Attributes:
        pose: pixels, scores and depths. points: ``(T, 128, 3)`` camera space, metres.
        visible: ``(T, 128)`` bool: in the frame and nothing in front.
    """

    pose: PoseSequence
    points: Array
    visible: NDArray[np.bool_]


def observe(
    body: Body, look: Look, placed: Placed, expression: Array, camera: Camera, hiding: Sequence[tuple[Geometry, float]],
    size: tuple[int, int], fps: Fraction, times: Array | None,
) -> Observation:  # fmt: skip
    """Find a puppet's keypoints behind all that may hide them.

    Args:
        hiding: bricks in camera space, each with the factor that brings the puppet's metres to its own.
        times: see ``PoseSequence.times``.
    """
    points = to_camera(find_keypoints(body, look, placed, expression), camera.rotation, camera.position)
    deep = _tolerance(body)
    seen = np.logical_and.reduce([in_sight(points * scale, geometry, deep * scale) for geometry, scale in hiding])
    spots = camera.project(points, size)
    inside = ((spots >= 0) & (spots < np.array(size))).all(-1)
    middle = points[:, [8, 11], 2].mean(1)  # the hips
    pose = PoseSequence(
        keypoints=spots.astype(np.float32),
        scores=_scores(points, spots, seen, inside),
        size=size,
        fps=fps,
        times=times,
        depth=((points[..., 2] - middle[:, None]) * (camera.focal / middle[:, None])).astype(np.float32),
    )
    return Observation(pose, points, seen & inside)


def _facing(rng: np.random.Generator) -> float:
    """Which way the puppet looks: mostly to the camera, sometimes aside, seldom away."""
    draw = rng.random()
    if draw < 0.68:
        return float(rng.normal(0, 0.22))
    if draw < 0.92:
        return float(rng.uniform(0.5, 1.6) * rng.choice([-1, 1]))
    return float(np.pi + rng.normal(0, 0.5))


def hat_height(look: Look, body: Body) -> float:
    """How far hair and hat stand above the crown, metres."""
    parts = look.parts
    above = parts.joint == JOINT["head"]
    ends = parts.origin + parts.axes[:, :, 1] * parts.length[:, None]
    tops = np.maximum(parts.origin[:, 1] + parts.radius_start, ends[:, 1] + parts.radius_end)[above]
    cut = (parts.cut[above, :3] ** 2).sum(-1) > 0
    return max(0.0, float(tops[~cut].max()) - (1 - faces.CHIN) * body.head)


def clip_times(chosen: list[int], fps: Fraction) -> Array | None:
    """Seconds of the chosen frames since the first; ``None`` where they follow one another."""
    steps = np.diff(chosen)
    if (steps == 1).all() or (steps <= 0).any():
        return None
    return (np.array(chosen) - chosen[0]) / float(fps)


def find_keypoints(body: Body, look: Look, placed: Placed, expression: Array) -> Array:
    """``(T, 128, 3)`` the keypoints in the world, metres."""
    points = np.zeros((len(placed.origins), NUM_KEYPOINTS, 3))
    for index, name in enumerate(BODY_JOINTS[2:14], 2):  # shoulders to ankles
        points[:, index] = placed.origins[:, JOINT[name]]
    points[:, 1] = 0.5 * (points[:, 2] + points[:, 5])
    for hand, (group, wrist) in enumerate(((LEFT_HAND, "left_wrist"), (RIGHT_HAND, "right_wrist"))):
        first = FIRST_FINGER + 15 * hand
        fingers = placed.origins[:, first : first + 15].reshape(-1, 5, 3, 3)
        chain = np.concatenate([fingers, placed.tips[:, hand, :, None]], 2).reshape(-1, 20, 3)
        points[:, group] = np.concatenate([placed.origins[:, JOINT[wrist], None], chain], 1)
    local = faces.landmarks(body, look.face, expression[:, 0], expression[:, 1])
    aside = np.broadcast_to(faces.ears(body), (len(points), 2, 3))
    turn, at = placed.rotations[:, JOINT["head"]], placed.origins[:, JOINT["head"], None]
    points[:, FACE] = local @ np.swapaxes(turn, 1, 2) + at
    points[:, 16:18] = aside @ np.swapaxes(turn, 1, 2) + at
    points[:, 0] = points[:, FACE][:, 30]
    points[:, 14], points[:, 15] = points[:, FACE][:, 36:42].mean(1), points[:, FACE][:, 42:48].mean(1)
    return points


def _tolerance(body: Body) -> Array:
    """``(128,)`` how deep under the surface a keypoint may lie, clothes included, metres."""
    w, u = body.widths, body.trunk
    deep = np.zeros(NUM_KEYPOINTS)
    deep[[0, 14, 15]] = 0.03 * body.head
    deep[[16, 17]] = 0.06 * body.head
    deep[1] = 1.3 * w["chest"]
    deep[[2, 5]], deep[[3, 6]], deep[[4, 7]] = 1.7 * w["shoulder"], 2.0 * w["elbow"], 3.0 * w["wrist"]
    deep[[8, 11]], deep[[9, 12]], deep[[10, 13]] = 2.0 * w["pelvis"], 2.0 * w["knee"], 3.0 * w["ankle"]
    deep[18:60] = 0.10 * body.hand
    deep[[18, 39]] = deep[4]
    deep[60:] = 0.03 * body.head
    return deep + 0.004 * u


def _scores(points: Array, spots: Array, seen: NDArray[np.bool_], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """``(T, 128)`` scores, as a pose estimator would give them."""
    scores = np.where(seen, 1.0, OCCLUDED_SCORE)

    def lost(group: slice) -> NDArray[np.bool_]:
        """Too small, or almost all of it hidden."""
        return (np.ptp(spots[:, group], axis=1).max(-1) < LEAST_PIXELS) | (seen[:, group].mean(1) < 0.15)

    for hand in (LEFT_HAND, RIGHT_HAND):
        scores[:, hand] *= ~lost(hand)[:, None]
    face, ear = points[:, FACE], points[:, 16:18]
    sight = face.mean(1)
    ahead = _cosine(face[:, 27:36].mean(1) - ear.mean(1), sight)  # -1: the face looks at the camera
    scores[:, FACE] *= ~((ahead > -0.25) | lost(FACE))[:, None]
    for joint in (0, 14, 15):  # nose and eyes are not found on an averted head
        scores[:, joint] *= seen[:, joint] | (ahead < -0.2)
    for joint, outward in ((16, ear[:, 0] - ear[:, 1]), (17, ear[:, 1] - ear[:, 0])):  # nor the ear on the far side
        scores[:, joint] *= _cosine(outward, sight) < 0.3
    return (scores * inside).astype(np.float32)


def _cosine(a: Array, b: Array) -> Array:
    return np.asarray((a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)))
