"""Scene setups: character, motion, object, place and camera of a scene, drawn at random before it is rendered."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch

from animate_anyone.synthetic.dataset import Style, sample_performance, sample_setting, stream
from animate_anyone.synthetic.figure.body import Body, BodyPose, Placed, place, rotation, sample_body
from animate_anyone.synthetic.figure.bricks import Array
from animate_anyone.synthetic.motion.motion import perform
from animate_anyone.synthetic.picture.render import Geometry, assemble
from animate_anyone.synthetic.place.backdrop import WALLS, Backdrop
from animate_anyone.synthetic.place.compositing import Shot, deepen, nearest_depth, sample_shot, seen_from, share_hidden
from animate_anyone.synthetic.place.furniture import OUTDOORS, sample_scenery
from animate_anyone.synthetic.place.props import HEADROOM, OBJECTS, Prop, gather, make_object, take_up

OBJECT_SHARE, FRONT_SHARE = 0.7, 0.5  # of the clips
ALIKE, TALLER_COUNTS = 0.1, 4.0  # logarithm of two heights' ratio that counts for nothing, and what more counts


@dataclass(frozen=True)
class SceneSetup:
    """All that a scene is rendered from; ``target`` (3,) is the middle of the pelvis' way."""

    body: Body
    motion: str
    pose: BodyPose
    placed: Placed
    prop: Prop | None
    style: Style
    backdrop: Backdrop
    shot: Shot
    target: Array


def sample_setup(split: str, seed: int, num_frames: int, fps: Fraction, motion: str | None, domain: str) -> SceneSetup:
    """Draws character, motion, object, place and camera; arguments as in ``sample_clip``."""
    return sample_setups(split, seed, num_frames, fps, motion, domain)[0]


def sample_setups(
    split: str, seed: int, num_frames: int, fps: Fraction, motion: str | None, domain: str, cast: int | None = None
) -> tuple[SceneSetup, SceneSetup]:
    """As :func:`sample_setup`; and the same with the character of the seed ``cast``, in its plain cloth.

    That one does in this scene what the scene's own would do, as its body allows; place and camera stay. ``None``: the
    same again.
    """
    times = np.arange(num_frames) / float(fps)
    body, look, name, score = sample_performance(split, seed, times, motion)
    rng = stream(split, seed, "stage object")
    with_object, hand = rng.random() < OBJECT_SHARE, int(rng.integers(2))
    kind = str(rng.choice(list(OBJECTS), p=list(OBJECTS.values())))
    kind = "stool" if name == "sit" else kind
    if with_object:
        take_up(kind, score, rng, hand)
    drawn = deepcopy(rng)

    def play(body: Body) -> tuple[BodyPose, Placed, Prop | None]:
        pose = perform(score, body)
        placed = place(body, pose)
        if not with_object:
            return pose, placed, None
        how = deepcopy(drawn), body, placed, pose.heading, times, hand, domain == "wide"
        return pose, placed, make_object(kind, *how)

    pose, placed, prop = play(body)
    above = HEADROOM.get(kind, 0.0) * body.height if with_object else 0.0
    camera, style = sample_setting(split, seed, domain, body, look, placed, above)
    backdrop = deepen(stream(split, seed, "stage place"), style.backdrop)
    target = placed.origins[:, 0].mean(0)
    shot = sample_shot(stream(split, seed, "stage shot"), camera, target, times, backdrop.kind)
    own = SceneSetup(body, name, pose, placed, prop, style, backdrop, shot, target)
    if cast is None:
        return own, own
    body, look, *_ = sample_performance(split, cast, times, motion)
    pose, placed, prop = play(body)
    return own, replace(own, body=body, pose=pose, placed=placed, prop=prop, style=replace(style, look=look))


def unlike(split: str, seed: int, candidates: Sequence[int]) -> int:
    """The seed among some whose body is about as tall as that of ``seed``, and least like it in girth."""

    def shape(one: int) -> Array:
        body = sample_body(stream(split, one, "body"))
        return np.log([body.height, body.girth])

    def difference(one: int) -> float:
        taller, wider = np.abs(shape(one) - own)
        return float(wider - TALLER_COUNTS * max(taller - ALIKE, 0.0))

    own = shape(seed)
    return max(candidates, key=difference)


def place_scenery(rng: np.random.Generator, setup: SceneSetup, wide: bool) -> tuple[list[Prop], dict[str, str]]:
    """Draws the scenery of a setup; also the names of what stands in front of and behind the person."""
    camera, backdrop, count = setup.shot.middle, setup.backdrop, len(setup.placed.origins)
    far = float((setup.target - camera.position) @ camera.rotation[2])
    scale = (setup.body.height / 1.7) ** 0.8
    indoors = rng.random() < 0.5 if backdrop.kind not in WALLS else backdrop.kind not in OUTDOORS

    def draw(front: bool, depth: float, across: float, speed: float) -> Prop:
        """Something ``depth`` metres away and ``across`` frame heights aside; ``speed`` in them for the whole clip."""
        aside = (across + speed * np.linspace(-0.5, 0.5, count)) * depth / camera.focal
        spot = camera.position + depth * camera.rotation[2] + aside[:, None] * camera.rotation[0]
        turn = rotation(np.array([[0.0, rng.uniform(-0.5, 0.5) + np.pi * (rng.random() < 0.2), 0.0]]))
        size = scale * rng.uniform(0.85, 1.25)
        return sample_scenery(rng, front, not indoors, size, spot * np.array([1.0, 0.0, 1.0]),
                              np.repeat(turn, count, 0), wide)  # fmt: skip

    moments = np.unique(np.linspace(0, count - 1, 5).astype(int))
    cameras = [setup.shot.cameras[k] for k in moments]
    person = seen_from(setup.placed.at(moments), cameras, camera).origins[:, :17]

    def seen_at_moments(prop: Prop) -> Geometry:
        table, _, placed = gather([prop])
        placed = seen_from(placed.at(moments), cameras, camera)
        return assemble(table, placed, camera.rotation, camera.position, torch.device("cpu"))

    before, behind = [], []
    room = min(backdrop.wall + float(setup.target[2]) - 0.5, 3.0)
    if backdrop.kind in WALLS and room > 0.8:
        for _ in range(int(rng.choice(4, p=(0.1, 0.3, 0.35, 0.25)))):
            behind.append(draw(False, far + rng.uniform(0.8, room), rng.uniform(-0.5, 0.5), 0.0))
    if rng.random() < FRONT_SHARE:
        for _ in range(12):
            speed = rng.choice([-1.0, 1.0]) * rng.uniform(0.6, 1.3)
            prop = draw(True, far * rng.uniform(0.5, 0.82), rng.uniform(-0.3, 0.3), speed)
            geometry = seen_at_moments(prop)
            if nearest_depth(geometry).min() < 0.3:
                continue
            hidden = share_hidden(person, camera, geometry)
            if 0.05 < hidden.max() < 0.55:
                before.append(prop)
                break
    words = {name: ", ".join(p.kind for p in props) or "none" for name, props in
             (("in_front", before), ("behind", behind))}  # fmt: skip
    return before + behind, words


def feet_of(props: Sequence[Prop], chosen: Sequence[int]) -> Array:
    """``(F, N, 4)`` x, z, radius and strength of the shadows under props."""
    spots = []
    for prop in props:
        for x, z, radius in prop.feet:
            at = (prop.spots + prop.turns @ np.array([x, 0.0, z]))[list(chosen)]
            high = np.maximum(prop.spots[list(chosen), 1], 0.0)
            spots.append(np.stack([at[:, 0], at[:, 2], radius * (1.4 + high), 0.09 / (0.1 + 0.3 * high)], -1))
    return np.stack(spots, 1) if spots else np.zeros((len(chosen), 0, 4))


def soles_of(setup: SceneSetup, chosen: Sequence[int], standing: Array, scale: float) -> Array:
    """The same under the person and the object, grown by ``scale`` about ``standing``."""
    spots = [feet_of([setup.prop], chosen)] if setup.prop else []
    for joint, wide, weight in ((13, 0.20, 0.8), (16, 0.20, 0.8), (0, 0.44, 0.7)):
        at = setup.placed.origins[list(chosen), joint]
        high = at[:, 1] * (joint > 0)
        radius, strength = wide * setup.body.trunk * (1 + 1.5 * high), weight * 0.1 / (0.1 + 0.3 * high)
        spots.append(np.stack([at[:, 0], at[:, 2], radius, strength], -1)[:, None])
    out = np.concatenate(spots, 1)
    out[..., :2] = standing[[0, 2]] + scale * (out[..., :2] - standing[[0, 2]])
    out[..., 2] *= scale
    return out
