"""Scenes: a puppet among furniture, plants or street things, mostly with an object, and the parts a scene is made of.

What Animate Anyone 2 (section 3) takes from a video is given here as truth: the character, the environment
without it, the objects, and what stands in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.structures import Subject
from animate_anyone.synthetic.dataset import Clip, Style, check_request, clip_times, hat_height, observe, stream
from animate_anyone.synthetic.figure.bricks import Array
from animate_anyone.synthetic.figure.look import colour
from animate_anyone.synthetic.picture.camera_effects import photograph
from animate_anyone.synthetic.picture.lighting import cast_on_self
from animate_anyone.synthetic.picture.render import Geometry, Picture, View, as_bytes, assemble
from animate_anyone.synthetic.place.backdrop import Camera, sample_camera
from animate_anyone.synthetic.place.compositing import (
    Panorama,
    Shot,
    composite,
    frontmost,
    make_layer,
    paint_place,
    seen_from,
    shade_floor,
)
from animate_anyone.synthetic.place.props import Prop, gather
from animate_anyone.synthetic.scene_setup import feet_of, place_scenery, sample_setup, sample_setups, soles_of

FILL = 127  # what object frames show where no object is
SCALES = (0.25, 2.0)


@dataclass(frozen=True)
class SceneClip(Clip):
    """A composed clip and its parts; ``mask``, ``labels``, ``visible`` and ``pose`` are the person's, ``depth`` all's.

    Attributes:
        environment: ``(T, H, W, 3)`` uint8, the same shot without the person, the objects and their shadows.
        object_mask: ``(T, H, W)`` bool, objects held or touched, where they are seen.
        object_frames: ``(T, H, W, 3)`` uint8, the frames inside ``object_mask``, :data:`FILL` elsewhere.
        occluders: ``(T, H, W)`` bool, scenery seen in front of the person: where it hides them, and what of it
            is nearer than their hips.
        person_full_mask: ``(T, H, W)`` bool, the person as if nothing stood in front.
        shadow_mask: ``(T, H, W)`` bool, floor that the person and the objects darken, however little.
    """

    environment: Tensor
    object_mask: Tensor
    object_frames: Tensor
    occluders: Tensor
    person_full_mask: Tensor
    shadow_mask: Tensor

    @property
    def person_mask(self) -> Tensor:
        """``(T, H, W)`` bool, the person where nothing hides them: ``mask``."""
        return self.mask


def sample_scene_clip(
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
    scale: float = 1.0,
    cast: int | None = None,
) -> SceneClip:
    """Render the scene of a seed: character and motion are those of ``sample_clip``, arms fitted to the object.

    Args:
        scale: how much larger than they are, [0.25, 2], the person and the objects are shown in the same place,
            about the floor under them: the paper's random scale augmentation without cutting out. Other arguments as
            in ``sample_clip``.
        cast: another seed, whose character takes the place of the scene's own.

    Raises:
        InputError: an argument is not allowed.
    """
    chosen = check_request(split, domain, motion, num_frames, size, supersample, frame_indices)
    if not SCALES[0] <= scale <= SCALES[1]:
        raise InputError(f"scale is {scale}; it must lie between {SCALES[0]} and {SCALES[1]}")
    device = torch.device(device)
    own, setup = sample_setups(split, seed, num_frames, fps, motion, domain, cast)
    things, names = place_scenery(stream(split, seed, "stage scenery"), own, domain == "wide")
    shot, style, body = setup.shot, setup.style, setup.body
    cameras, middle = [shot.cameras[k] for k in chosen], shot.middle
    view = View(style.look, style.shading, middle.focal, size, supersample, device)
    standing = np.array([setup.target[0], 0.0, setup.target[2]])

    actors = seen_from(setup.placed.at(chosen), cameras, middle, standing, scale)
    geometry = assemble(style.look.parts, actors, middle.rotation, middle.position, device)
    expression = setup.pose.expression(chosen)
    person = view.person(geometry, body, expression)
    hiding, pictures = [(geometry, 1.0)], [person]
    if setup.prop:
        table, paints, held = gather([setup.prop])
        held = seen_from(held.at(chosen), cameras, middle, standing, scale)
        geometry = assemble(table, held, middle.rotation, middle.position, device)
        hiding.append((geometry, 1.0))
        pictures.append(view.props(geometry, table, paints))
    pictures = _shade_each_other(pictures, style, middle)
    layers = [make_layer(picture, scale) for picture in pictures]
    scenery = []
    for group in ([t for t in things if not t.moves], [t for t in things if t.moves]):
        if group:
            table, paints, stood = gather(group)
            stood = stood.at(chosen)
            present = seen_from(stood, cameras, middle)
            geometry = assemble(table, present, middle.rotation, middle.position, device)
            hiding.append((geometry, scale))
            scenery.append(make_layer(_scenery(view, shot, chosen, group, geometry)))
    seen = observe(body, style.look, actors, expression, middle, hiding, size, fps, clip_times(chosen, fps))

    empty = paint_place(setup.backdrop, shot, chosen, size, supersample, device)
    if style.lights is not None:
        empty = (empty * torch.tensor(style.lights.scene, device=device)).clamp(0, 1)
    at_rest = shot.movement == "still" and not any(thing.moves for thing in things)
    some = chosen[:1] if at_rest else chosen
    under_things = shade_floor(setup.backdrop, cameras[: len(some)], size, _tensor(feet_of(things, some), device))
    under_actors = shade_floor(setup.backdrop, cameras, size, _tensor(soles_of(setup, chosen, standing, scale), device))
    strength = setup.backdrop.shadow
    environment = composite(empty * (1 - strength * under_things.clamp(0, 1))[..., None], scenery)
    ground = empty * (1 - strength * (under_things + under_actors).clamp(0, 1))[..., None]
    frames = composite(ground, [*layers, *scenery])
    environment = environment.expand_as(frames)
    if style.effects is not None:
        frames, environment = (
            photograph(shown, style.effects, [stream(split, seed, f"wide noise {k}") for k in chosen])
            for shown in (frames, environment)
        )

    front = frontmost([*layers, *scenery])
    object_mask = (front == 1) if setup.prop else torch.zeros_like(front, dtype=torch.bool)
    full = torch.isfinite(layers[0].depth)
    occluders = torch.zeros_like(full)
    if scenery:
        hips = torch.as_tensor(scale * seen.points[:, [8, 11], 2].mean(1), dtype=torch.float32, device=device)
        standing_depth = torch.stack([layer.depth.expand(front.shape) for layer in scenery]).amin(0)
        occluders = (front >= len(layers)) & (full | (standing_depth < hips[:, None, None]))
    painted = as_bytes(frames)
    words: dict[str, str | int | float] = {
        "motion": setup.motion, "shading": style.shading.style, "background": setup.backdrop.kind,
        "framing": middle.framing, "height": round(body.height, 3), "shot": shot.movement, "scale": scale,
        "object": setup.prop.kind if setup.prop else "none", **names,
    }  # fmt: skip
    return SceneClip(
        frames=painted,
        pose=seen.pose,
        keypoints_3d=torch.from_numpy((scale * seen.points).astype(np.float32)).to(device),
        visible=torch.from_numpy(seen.visible).to(device),
        depth=torch.stack([layer.depth.expand(front.shape) for layer in (*layers, *scenery)]).amin(0),
        mask=front == 0,
        labels=torch.where(front == 0, person.labels, torch.zeros_like(person.labels)),
        seed=seed,
        split=split,
        description={**words, **style.look.words, **style.words},
        environment=as_bytes(environment),
        object_mask=object_mask,
        object_frames=torch.where(object_mask[..., None], painted, torch.full_like(painted, FILL)),
        occluders=occluders,
        person_full_mask=full,
        shadow_mask=under_actors > 0,
    )


def character_picture(
    seed: int,
    *,
    split: str = "train",
    num_frames: int = 24,
    size: tuple[int, int] = (128, 128),
    fps: Fraction = Fraction(12),
    motion: str | None = None,
    frame: int | None = None,
    supersample: int = 2,
    device: str | torch.device = "cpu",
    domain: str = "plain",
) -> Subject:
    """The reference of a scene: its character alone, whole and in the middle, on a plain colour drawn at random.

    Args:
        frame: the moment of the clip whose pose is shown; ``None`` draws one. Other arguments as in
            :func:`sample_scene_clip`; the same ones show the same character.

    Raises:
        InputError: an argument is not allowed.
    """
    check_request(split, domain, motion, num_frames, size, supersample, None)
    if frame is not None and not 0 <= frame < num_frames:
        raise InputError(f"frame is {frame}; it must lie between 0 and {num_frames - 1}")
    setup = sample_setup(split, seed, num_frames, fps, motion, domain)
    rng = stream(split, seed, "stage picture")
    drawn = int(rng.integers(num_frames))
    moment = drawn if frame is None else frame
    device, style, body = torch.device(device), setup.style, setup.body
    placed = setup.placed.at([moment])
    camera = sample_camera(rng, body, hat_height(style.look, body), placed, "full")
    geometry = assemble(style.look.parts, placed, camera.rotation, camera.position, device)
    expression = setup.pose.expression([moment])
    figure = View(style.look, style.shading, camera.focal, size, supersample, device).person(geometry, body, expression)
    figure = _shade_each_other([figure], style, camera)[0]
    frames = figure.colour + torch.tensor(colour(rng, 0.3), device=device) * (1 - figure.cover[..., None])
    if style.effects is not None:
        frames = photograph(frames, style.effects, [stream(split, seed, "stage picture noise")])
    seen = observe(body, style.look, placed, expression, camera, [(geometry, 1.0)], size, fps, None)
    return Subject(as_bytes(frames)[0].cpu().numpy(), seen.pose)


def _scenery(view: View, shot: Shot, chosen: Sequence[int], things: Sequence[Prop], geometry: Geometry) -> Picture:
    """Things that all move or all stand, at the chosen moments (``geometry``); those that stand are rendered once."""
    table, paints, placed = gather(things)
    if things[0].moves or shot.movement == "drift":
        return view.props(geometry, table, paints)
    middle = shot.middle
    once = assemble(table, placed.at([0]), middle.rotation, middle.position, view.device)
    if shot.movement == "still":
        return view.props(once, table, paints)
    panorama = Panorama(shot, chosen, view.size, view.supersample, view.device)
    large = replace(view, focal=panorama.camera.focal, size=panorama.size, supersample=1)
    return panorama.layer(large.props(once, table, paints))


def _shade_each_other(pictures: list[Picture], style: Style, camera: Camera) -> list[Picture]:
    """The pictures with the shadows that they cast on themselves and on one another, where the lights say so."""
    if style.lights is None:
        return pictures
    nearest = torch.stack([picture.depth for picture in pictures]).amin(0)
    light = cast_on_self(nearest, camera.focal, style.lights)[..., None]
    return [Picture(p.colour * light, p.cover, p.depth, p.labels) for p in pictures]


def _tensor(values: Array, device: torch.device) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32, device=device)
