"""Backdrops: camera and background of the puppet; static through a clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from animate_anyone.synthetic.figure.body import JOINT, Body, Placed
from animate_anyone.synthetic.figure.bricks import Array
from animate_anyone.synthetic.figure.look import colour

BACKGROUNDS = ("flat", "gradient", "checker", "stripes", "clouds", "room", "shapes")
WALLS = {"room": (0.8, 3.0), "street": (3.0, 9.0), "interior": (0.6, 3.0), "open": (6.0, 14.0), "lamps": (5.0, 9.0),
         "curtain": (0.6, 2.5)}  # of the kinds with a floor: nearest wall and how much farther, metres  # fmt: skip


@dataclass(frozen=True)
class Camera:
    """A pinhole: ``rotation`` (3, 3) world to camera, ``position`` (3,) metres, ``focal`` in frame heights."""

    rotation: Array
    position: Array
    focal: float
    framing: str

    def project(self, points: Array, size: tuple[int, int]) -> Array:
        """Camera-space points ``(..., 3)`` to pixels ``(..., 2)`` of a frame ``(width, height)``."""
        depth = np.maximum(points[..., 2:], 0.05)
        return np.asarray(points[..., :2] / depth * self.focal * size[1] + np.array(size) / 2)


THROUGHOUT, WIDER = 1.3, 0.45
"""Of a camera that sees all of a motion: room about it, for cameras that move, and of clothes and hands beside joints,
in body heights."""


def sample_camera(
    rng: np.random.Generator, body: Body, hat: float, placed: Placed, framing: str | None = None
) -> Camera:
    """Draw a camera that frames the puppet: whole, down to the knees or down to the hips.

    ``hat`` is what stands above the crown, metres. ``framing``: one of them; or ``throughout``: whole and in every
    frame, wherever the motion goes. ``None`` draws one.
    """
    throughout = framing == "throughout"
    kind = "full" if throughout else framing or str(rng.choice(["full", "three_quarter", "half"], p=(0.64, 0.22, 0.14)))
    if kind != "full" and np.ptp(placed.origins[:, 0, 1]) > 0.15 * body.leg:  # room for those who go down
        kind = "full"
    top = body.height + hat + body.height * rng.uniform(0.03, 0.16)
    bottom = {"full": -body.height * rng.uniform(0.03, 0.12), "three_quarter": body.leg * rng.uniform(0.42, 0.6),
              "half": body.leg * rng.uniform(0.85, 1.0)}[kind]  # fmt: skip
    rise = max(0.0, float(placed.origins[:, JOINT["head"], 1].max() - body.rest_positions()[JOINT["head"], 1]))
    top += 0.8 * rise
    span = top - bottom
    focal = rng.uniform(1.3, 3.2)
    middle = placed.origins[:, 0].mean(0)
    if throughout:
        low, high = placed.origins[..., 0].min(), placed.origins[..., 0].max()
        middle[0] = 0.5 * (low + high)
        nearer = placed.origins[..., 2].max() - middle[2]  # towards the camera, where all looks larger
        span = THROUGHOUT * max(span, high - low + WIDER * body.height)
        span += nearer / focal
    target = np.array([middle[0] + rng.uniform(-0.08, 0.08) * span, 0.5 * (top + bottom), middle[2]])
    tilt = np.radians(rng.uniform(-6, 16)) if rng.random() < 0.6 else 0.0
    away = np.array([0.0, np.sin(tilt), np.cos(tilt)])
    position = target + away * span * focal * 1.02 / max(np.cos(tilt), 0.5)
    position[1] = max(position[1], 0.05)
    forward = target - position
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, np.array([0.0, 1.0, 0.0]))
    right /= np.linalg.norm(right)
    return Camera(np.stack([right, np.cross(forward, right), forward]), position, float(focal), kind)


@dataclass(frozen=True)
class Backdrop:
    """What stands behind: ``kind``, colours ``(K, 3)``, numbers of its own and a ``(G, G)`` grid of noise.

    ``defocus`` is the blur's radius in frame heights.
    """

    kind: str
    colours: Array
    numbers: Array
    grid: Array
    shadow: float
    defocus: float = 0.0

    @property
    def wall(self) -> float:
        """How far behind the puppet the wall or the last thing upright stands, metres."""
        near, deep = WALLS.get(self.kind, (0.8, 3.0))
        return near + deep * float(self.numbers[1, 0])


def sample_backdrop(rng: np.random.Generator) -> Backdrop:
    """Draw a background."""
    kind = str(rng.choice(BACKGROUNDS, p=(0.14, 0.14, 0.09, 0.07, 0.16, 0.28, 0.12)))
    colours = np.array([colour(rng, 0.15) for _ in range(24)])
    if rng.random() < 0.5:  # muted
        colours = 0.45 * colours + 0.55 * rng.uniform(0.3, 0.95)
    return Backdrop(kind, colours, rng.random((24, 6)), rng.random((12, 12)), float(rng.uniform(0.25, 0.6)))


def pixel_grid(size: tuple[int, int], supersample: int, unit: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """``(height * s, width * s)`` x and y of a frame's samples from its middle, in lengths of ``unit`` pixels."""
    x, y = (((torch.arange(n * supersample, device=device) + 0.5) / supersample - n / 2) / unit for n in size)
    y, x = torch.meshgrid(y, x, indexing="ij")
    return x, y


def _rays(camera: Camera, u: Tensor, v: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The camera's place ``(3,)`` and the directions of its rays ``(u, v, 1)``, x, y and z, in the world."""
    r, p = (torch.as_tensor(a, dtype=torch.float32, device=u.device) for a in (camera.rotation, camera.position))
    return p, [r[0, k] * u + r[1, k] * v + r[2, k] for k in range(3)]


def floor_points(camera: Camera, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """World x, z and ray length where rays ``(u, v, 1)`` meet the floor; length below 0 where they do not."""
    p, (x, y, z) = _rays(camera, u, v)
    length = torch.where(y < -1e-4, -p[1] / y.clamp_max(-1e-4), torch.full_like(y, -1.0))
    return p[0] + x * length, p[2] + z * length, length


def wall_points(camera: Camera, u: Tensor, v: Tensor, wall: float) -> tuple[Tensor, Tensor]:
    """World x and height above the floor, metres, where rays ``(u, v, 1)`` meet a wall ``wall`` metres behind."""
    p, (x, y, z) = _rays(camera, u, v)
    far = (-wall - p[2]) / z.clamp_max(-1e-3)
    return p[0] + x * far, p[1] + y * far


def room_points(backdrop: Backdrop, camera: Camera, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """What is seen at ``x, y`` (frame heights from the middle) of a place with a floor and a wall behind it.

    Returns:
        The floor's points, world x and z; where the floor is what is seen, bool; the wall's points, x and height.
    """
    u, v = x / camera.focal, y / camera.focal
    fx, fz, length = floor_points(camera, u, v)
    return fx, fz, (length > 0) & (fz > -backdrop.wall), *wall_points(camera, u, v, backdrop.wall)


def noise_at(grid: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Smooth periodic noise in [0, 1] at coordinates in grid cells."""
    size = grid.shape[0]
    lx, ly = x.floor(), y.floor()
    fx, fy = x - lx, y - ly
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    ix, iy = lx.long() % size, ly.long() % size
    jx, jy = (ix + 1) % size, (iy + 1) % size
    top = grid[iy, ix] * (1 - fx) + grid[iy, jx] * fx
    low = grid[jy, ix] * (1 - fx) + grid[jy, jx] * fx
    return top * (1 - fy) + low * fy


def mix(first: Tensor, second: Tensor, amount: Tensor) -> Tensor:
    return first + (second - first) * amount[..., None]


def _pattern(grid: Tensor, x: Tensor, y: Tensor, kind: int, a: Tensor, b: Tensor) -> Tensor:
    """Checks (0), boards (1), noise (2) or plain paint of two colours; ``x, y`` in cells of the pattern."""
    if kind == 0:
        return mix(a, b, ((x.floor() + y.floor()).remainder(2) > 0.5).float())
    if kind == 1:
        return mix(a, b, (x - x.floor() < 0.5).float())
    if kind == 2:
        return mix(a, b, noise_at(grid, x, y))
    return a.expand(*x.shape, 3)


def paint_plain(backdrop: Backdrop, camera: Camera, x: Tensor, y: Tensor, c: Tensor, grid: Tensor) -> Tensor:
    """The colours of a backdrop of :data:`BACKGROUNDS` at ``x, y``, in frame heights from the middle."""
    n = backdrop.numbers
    angle = float(n[0, 0]) * 2 * np.pi
    tx, ty = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    cells = 3 + 9 * float(n[0, 1])
    if backdrop.kind == "flat":
        out = c[0].expand(*x.shape, 3)
    elif backdrop.kind == "gradient":
        out = mix(c[0], c[1], ((ty + 0.6) / 1.2).clamp(0, 1))
    elif backdrop.kind in ("checker", "stripes"):
        second = mix(c[0], c[1], torch.tensor(0.25 + 0.75 * float(n[0, 2]), device=x.device))
        out = _pattern(grid, tx * cells, ty * cells, 0 if backdrop.kind == "checker" else 1, c[0], second)
    elif backdrop.kind == "clouds":
        amount = torch.zeros_like(x)
        for j, k in ((1, 0.5), (2, 1.1), (4, 2.3)):
            amount = amount + noise_at(grid, tx * cells * k + 3.7 * k, ty * cells * k) / (2 * j)
        out = mix(c[0], c[1], (amount * 1.4 - 0.2).clamp(0, 1))
    elif backdrop.kind == "room":
        out = _room(backdrop, camera, x, y, c, grid)
    else:
        out = mix(c[0], c[1], (y + 0.5).clamp(0, 1))
        for k in range(2, 8 + int(14 * n[0, 3])):
            px, py, r = x - 1.6 * float(n[k, 0] - 0.5), y - 1.1 * float(n[k, 1] - 0.5), 0.05 + 0.2 * float(n[k, 2])
            turn = float(n[k, 3]) * np.pi
            qx, qy = px * np.cos(turn) - py * np.sin(turn), px * np.sin(turn) + py * np.cos(turn)
            form = int(n[k, 4] * 3)
            if form == 0:
                inside = px * px + py * py < r * r
            elif form == 1:
                inside = (qx.abs() < r) & (qy.abs() < r * (0.3 + float(n[k, 5])))
            else:
                inside = (qy > -r / 2) & (qy + 1.7 * qx.abs() < r)
            out = torch.where(inside[..., None], c[k], out)
    return out


def _room(backdrop: Backdrop, camera: Camera, x: Tensor, y: Tensor, c: Tensor, grid: Tensor) -> Tensor:
    """A floor and a wall; the wall may carry a skirting board."""
    n, wall = backdrop.numbers, backdrop.wall
    fx, fz, on_floor, across, height = room_points(backdrop, camera, x, y)
    cell = 0.3 + 0.7 * float(n[1, 1])
    second = mix(c[0], c[1], torch.tensor(0.15 + 0.5 * float(n[1, 2]), device=x.device))
    floor = _pattern(grid, fx / cell, fz / cell, int(n[1, 3] * 4), c[0], second)
    floor = floor * (1 - 0.25 * ((fz + wall) / (2 * wall) - 0.5).abs().clamp(0, 1))[..., None]
    third = mix(c[2], c[3], torch.tensor(0.1 + 0.5 * float(n[1, 4]), device=x.device))
    upright = _pattern(grid, across / cell, height / cell, int(n[1, 5] * 6), c[2], third)
    upright = mix(upright, upright * 0.8, (height / 3).clamp(0, 1))
    if n[2, 0] < 0.5:
        upright = torch.where((height < 0.12)[..., None], c[4], upright)
    return torch.where(on_floor[..., None], floor, upright)


def cast_shadow(
    picture: Tensor, backdrop: Backdrop, camera: Camera, placed: Placed, frames: list[int], body: Body
) -> Tensor:
    """The backdrop ``(height, width, 3)`` with soft shadows under the feet of each frame, ``(F, height, width, 3)``."""
    height, width = picture.shape[:2]
    if backdrop.kind not in WALLS:
        return picture.expand(len(frames), -1, -1, -1)
    u, v = pixel_grid((width, height), 1, height * camera.focal, picture.device)
    fx, fz, length = floor_points(camera, u, v)
    on_floor = ((length > 0) & (fz > -backdrop.wall)).float()
    dark = torch.zeros(len(frames), height, width, device=picture.device)
    for joint, wide, weight in ((13, 0.10, 0.8), (16, 0.10, 0.8), (0, 0.22, 0.7)):
        spot = torch.as_tensor(placed.origins[frames, joint], dtype=torch.float32, device=picture.device)
        high = spot[:, 1] * (joint > 0)
        r, strength = wide * body.trunk * (1 + 1.5 * high), 0.1 / (0.1 + 0.3 * high)
        far = (fx - spot[:, 0, None, None]) ** 2 + (fz - spot[:, 2, None, None]) ** 2
        dark = dark + weight * torch.exp(-far / (r * r)[:, None, None]) * strength[:, None, None]
    return picture * (1 - backdrop.shadow * (dark * on_floor).clamp(0, 1))[..., None]
