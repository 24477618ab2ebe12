"""Compositing of a scene: moving cameras, painted places, shadows on the floor, layers composited by depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d

from animate_anyone.synthetic.figure.body import Placed, rotation
from animate_anyone.synthetic.figure.bricks import Array
from animate_anyone.synthetic.motion.motion import TAU, ease
from animate_anyone.synthetic.picture.render import NOTHING, Geometry, Picture, depth_towards, to_camera
from animate_anyone.synthetic.place.backdrop import WALLS, Backdrop, Camera, floor_points, pixel_grid
from animate_anyone.synthetic.place.surroundings import paint_empty

MOVEMENTS = {"still": 0.64, "pan": 0.2, "drift": 0.16}
SOLID = ("room", "street", "interior", "curtain")  # every point of them has a place in the world
DEEP = {"room": 0.34, "interior": 0.26, "street": 0.2, "open": 0.2}


@dataclass(frozen=True)
class Shot:
    """The camera at ``T`` moments; ``middle`` is where it would stand still."""

    movement: str
    middle: Camera
    cameras: list[Camera]


def sample_shot(rng: np.random.Generator, camera: Camera, target: Array, times: Array, kind: str) -> Shot:
    """Draw how the camera moves: not, turning on the spot, or drifting aside with its eye on ``target`` ``(3,)``.

    ``kind`` is the backdrop's: the camera drifts only past places that are solid.
    """
    movement = str(rng.choice(list(MOVEMENTS), p=list(MOVEMENTS.values())))
    if movement == "drift" and kind not in SOLID:
        movement = "pan"
    way, size, sweep = rng.choice([-1.0, 1.0]), rng.uniform(0.4, 1.0), rng.random() < 0.6
    if movement == "still":
        return Shot(movement, camera, [camera] * len(times))
    part = times / max(times[-1], 1e-6)
    course = 2 * ease(part) - 1 if sweep else np.sin(TAU * (times * rng.uniform(0.15, 0.4) + rng.random()))
    course = way * size * course
    if movement == "pan":
        return Shot(movement, camera, [_turned(camera, float(a)) for a in np.arctan(0.13 / camera.focal) * course])
    far = float(np.linalg.norm((target - camera.position)[[0, 2]]))
    cameras = []
    for a in np.radians(9.0) * course:
        aside = camera.position + np.tan(a) * far * camera.rotation[0] * np.array([1.0, 0.0, 1.0])
        cameras.append(replace(_turned(camera, float(0.9 * a)), position=aside))
    return Shot(movement, camera, cameras)


def _turned(camera: Camera, angle: float) -> Camera:
    """Turned about the vertical, to the left where ``angle`` is positive, radians."""
    return replace(camera, rotation=camera.rotation @ rotation(np.array([0.0, angle, 0.0])).T)


def seen_from(
    placed: Placed, cameras: Sequence[Camera], middle: Camera, centre: Array | None = None, scale: float = 1.0
) -> Placed:
    """Frames moved so that the camera ``middle`` sees of them what each moment's camera sees.

    With a ``scale`` they are seen as if they had grown by it about ``centre`` ``(3,)``; what ``middle`` then
    measures in metres has to be multiplied by ``scale``.
    """
    if scale == 1.0 and all(camera is middle for camera in cameras):
        return placed
    about = np.zeros(3) if centre is None else centre
    eyes = about + (np.stack([c.position for c in cameras]) - about) / scale
    turn = middle.rotation.T @ np.stack([c.rotation for c in cameras])  # T, 3, 3

    def moved(points: Array) -> Array:
        shape = (len(points), -1, 3)
        flat = (points.reshape(shape) - eyes[:, None]) @ np.swapaxes(turn, 1, 2) + middle.position
        return np.asarray(flat.reshape(points.shape))

    return Placed(turn[:, None] @ placed.rotations, moved(placed.origins), moved(placed.tips), placed.stretch)


def deepen(rng: np.random.Generator, backdrop: Backdrop) -> Backdrop:
    """Mostly a place with a floor, its wall far enough for things to stand before it."""
    numbers = backdrop.numbers.copy()
    numbers[1, 0] = 0.4 + 0.6 * numbers[1, 0]
    drawn, keep = str(rng.choice(list(DEEP), p=list(DEEP.values()))), rng.random() < 0.2
    return replace(backdrop, kind=backdrop.kind if keep or backdrop.kind in WALLS else drawn, numbers=numbers)


class Panorama:
    """One large picture of what a turning camera will see; exact, since turning alone shows no new side of anything.

    Attributes:
        camera, size: with these the large picture is made, at one sample a pixel.
    """

    def __init__(
        self, shot: Shot, chosen: Sequence[int], size: tuple[int, int], supersample: int, device: torch.device
    ) -> None:
        (width, height), s, focal = size, supersample, shot.middle.focal
        corners = np.array([[x * width / height / 2, y / 2, focal] for x in (-1, 1) for y in (-1, 1)])
        turns = np.stack([shot.middle.rotation @ camera.rotation.T for camera in shot.cameras])
        met = np.einsum("tij,cj->tci", turns, corners)
        reach = np.abs(met[..., :2] / met[..., 2:] * focal).max((0, 1))  # frame heights from the middle
        wide, tall = (int(np.ceil(2 * r * height * s)) + 4 for r in reach)
        self.size, self.camera = (wide, tall), replace(shot.middle, focal=focal * height * s / tall)
        u, v = pixel_grid(size, s, height * focal, device)
        rays = torch.stack([u, v, torch.ones_like(u)], -1)
        turned = [rays @ torch.as_tensor(turns[k].T, dtype=torch.float32, device=device) for k in chosen]
        unit = 2 * focal * height * s / torch.tensor([wide, tall], device=device)
        self._spots = [ray[None, ..., :2] / ray[None, ..., 2:] * unit for ray in turned]
        self._far = [ray[..., 2] for ray in turned]
        self._shape = (height, s, width, s)

    def painting(self, large: Tensor) -> Tensor:
        """The large picture ``(tall, wide, C)`` as the chosen moments see it, ``(F, H, W, C)``."""
        return torch.stack([part.mean((2, 4)).permute(1, 2, 0) for part in self._look(large, "bilinear")])

    def layer(self, large: Picture) -> Picture:
        """Things rendered large, one frame, as the chosen moments see them."""
        shown = self.painting(torch.cat([large.colour[0], large.cover[0, ..., None]], -1))
        depths = self._look(large.depth[0, ..., None].clamp_max(NOTHING), "nearest")
        met = (part[0] / far.reshape(self._shape) for part, far in zip(depths, self._far, strict=True))
        first = torch.stack([depth.amin((1, 3)) for depth in met])
        solid = (shown[..., 3] >= 0.5) & (first < NOTHING / 2)
        labels = torch.zeros(first.shape, dtype=torch.uint8, device=first.device)
        return Picture(shown[..., :3], shown[..., 3], torch.where(solid, first, torch.inf), labels)

    def _look(self, large: Tensor, mode: str) -> list[Tensor]:
        """Per moment ``(C, H, s, W, s)``: the samples of each pixel."""
        picture, shape = large.permute(2, 0, 1)[None], (large.shape[2], *self._shape)
        seen = (grid_sample(picture, at, mode=mode, padding_mode="border", align_corners=False) for at in self._spots)
        return [part[0].reshape(shape) for part in seen]


def paint_place(
    backdrop: Backdrop, shot: Shot, chosen: Sequence[int], size: tuple[int, int], supersample: int, device: torch.device
) -> Tensor:
    """The empty place at the chosen moments, ``(F, H, W, 3)`` float in [0, 1]; ``F`` is 1 where the camera is still."""
    if shot.movement == "still":
        return paint_empty(backdrop, shot.middle, size, supersample, device)[None]
    if shot.movement == "drift":
        return torch.stack([paint_empty(backdrop, shot.cameras[k], size, supersample, device) for k in chosen])
    panorama = Panorama(shot, chosen, size, supersample, device)
    return panorama.painting(paint_empty(backdrop, panorama.camera, panorama.size, 1, device))


def shade_floor(backdrop: Backdrop, cameras: Sequence[Camera], size: tuple[int, int], spots: Tensor) -> Tensor:
    """How dark soft round shadows make the floor, ``(F, H, W)`` in [0, ...), exactly 0 beyond their rims.

    Args:
        cameras: one per frame. spots: ``(F, N, 4)`` world x and z, radius (metres) and strength of each shadow.
    """
    (width, height), (frames, count) = size, spots.shape[:2]
    dark = torch.zeros(frames, height, width, device=spots.device)
    if backdrop.kind not in WALLS or not count:
        return dark
    for index, camera in enumerate(cameras):
        fx, fz, length = floor_points(camera, *pixel_grid(size, 1, height * camera.focal, spots.device))
        for across, along, radius, strength in spots[index].tolist():
            far = ((fx - across) ** 2 + (fz - along) ** 2) / (radius * radius)
            dark[index] += strength * (1 - far).clamp_min(0) ** 2
        dark[index] *= (length > 0) & (fz > -backdrop.wall)
    return dark


@dataclass(frozen=True)
class Layer:
    """Something rendered on its own.

    Attributes:
        colour: ``(F, H, W, 3)`` premultiplied by cover: ``(F, H, W)``.
        depth: ``(F, H, W)`` metres, inf where less than half is covered.
        near: the same, carried on to thinly covered edges.
    """

    colour: Tensor
    cover: Tensor
    depth: Tensor
    near: Tensor


def make_layer(picture: Picture, scale: float = 1.0) -> Layer:
    """A rendered picture as a layer; ``scale`` brings its metres to the scene's."""
    depth = picture.depth * scale
    around = -max_pool2d(-depth[:, None].clamp_max(NOTHING), 3, 1, 1)[:, 0]
    edge = torch.isinf(depth) & (picture.cover > 0)
    return Layer(picture.colour, picture.cover, depth, torch.where(edge, around, depth))


def composite(ground: Tensor, layers: Sequence[Layer]) -> Tensor:
    """The layers over the ground ``(F, H, W, 3)``, at each pixel the farther first; layers of one frame serve all."""
    if not layers:
        return ground
    frames = max([len(ground), *(len(layer.cover) for layer in layers)])
    shape = (frames, *ground.shape[1:3])
    near = torch.stack([layer.near.expand(shape) for layer in layers])
    cover = torch.stack([layer.cover.expand(shape) for layer in layers])
    colour = torch.stack([layer.colour.expand(*shape, 3) for layer in layers])
    out = ground.expand(*shape, 3)
    for turn in near.argsort(dim=0, descending=True, stable=True):
        c = cover.gather(0, turn[None])[0, ..., None]
        out = colour.gather(0, turn[None, ..., None].expand(1, *shape, 3))[0] + out * (1 - c)
    return out


def frontmost(layers: Sequence[Layer]) -> Tensor:
    """``(F, H, W)`` index of the nearest layer that covers at least half of a pixel, -1 where none does."""
    frames = max(len(layer.depth) for layer in layers)
    depth = torch.stack([layer.depth.expand(frames, -1, -1) for layer in layers])
    nearest, index = depth.min(0)
    return torch.where(torch.isinf(nearest), torch.full_like(index, -1), index)


def share_hidden(points: Array, camera: Camera, geometry: Geometry) -> Array:
    """``(F,)`` share of the points ``(F, N, 3)`` in the frame of ``camera`` (world, square) that bricks hide."""
    target = torch.as_tensor(to_camera(points, camera.rotation, camera.position), dtype=torch.float32)
    u, v, near = depth_towards(target, geometry)
    inside = (torch.maximum(u.abs(), v.abs()) * camera.focal) < 0.5
    hidden = ((near < target[..., 2]) & inside).float().sum(1) / inside.float().sum(1).clamp_min(1)
    return np.asarray(hidden.double().numpy())


def nearest_depth(geometry: Geometry) -> Array:
    """``(P,)`` depth of each brick's nearest point over all frames, metres."""
    first, last = geometry.centre[..., 2] - geometry.reach[..., 0], geometry.end[..., 2] - geometry.reach[..., 1]
    return np.asarray(torch.minimum(first, last).amin(0).cpu().double().numpy())
