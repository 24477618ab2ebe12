"""The ray caster: bricks to pixels, with depth and labels, in batched tensor operations.

The screen is cut into tiles; a brick is intersected only in the tiles its outline may touch. One
batch holds all (frame, tile, brick) pairs of several frames; the nearest brick of every ray wins.
Camera space: x right, y down, z forward, metres; a ray is ``(u, v, 1) * z``, so z is the depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.synthetic.figure.body import Body, Placed
from animate_anyone.synthetic.figure.bricks import Array, PartTable
from animate_anyone.synthetic.figure.face import CHIN, Face, paint_face
from animate_anyone.synthetic.figure.look import Look
from animate_anyone.synthetic.figure.paint import Material, Paint
from animate_anyone.synthetic.picture.lighting import Shading, shine

NOTHING = 1e9  # the depth of a ray that meets no brick


@dataclass(frozen=True)
class Geometry:
    """Bricks of ``F`` frames in camera space: ``inward`` (F, P, 3, 3) takes offsets from ``centre``
    (F, P, 3) to local coordinates; ``end`` (F, P, 3) is the second sphere; float32 tensors."""

    inward: Tensor
    centre: Tensor
    end: Tensor
    reach: Tensor  # (F, P, 2) bounding radii about centre and end
    length: Tensor  # (P,)
    radii: Tensor  # (P, 2)
    cut: Tensor  # (P, 4)


@dataclass(frozen=True)
class Picture:
    """``colour`` (F, H, W, 3) premultiplied by ``cover`` (F, H, W); ``depth`` (F, H, W), inf where
    less than half is covered; ``labels`` (F, H, W) uint8 of the nearest brick."""

    colour: Tensor
    cover: Tensor
    depth: Tensor
    labels: Tensor


def to_camera(points: Array, rotation: Array, position: Array) -> Array:
    """World points ``(..., 3)`` to camera space."""
    return np.asarray((points - position) @ rotation.T)


def assemble(table: PartTable, placed: Placed, rotation: Array, position: Array, device: torch.device) -> Geometry:
    """Hang the bricks on the placed joints and look at them through the camera."""
    turn = rotation @ placed.rotations[:, table.joint]  # F, P, 3, 3
    spot = to_camera(placed.origins, rotation, position)[:, table.joint]
    widen = placed.stretch[:, table.joint]
    frame = turn * widen[:, :, None, :]
    centre = spot + np.einsum("fpij,pj->fpi", frame, table.origin)
    outward = (frame @ table.axes) * table.stretch[:, None, :]
    inward = np.swapaxes(table.axes / table.stretch[:, None, :], 1, 2) @ np.swapaxes(turn / widen[:, :, None, :], 2, 3)
    end = centre + outward[..., 1] * table.length[:, None]
    grow = widen.max(-1) * np.maximum(table.stretch.max(-1), 1.0)
    reach = grow[:, :, None] * np.stack([table.radius_start, table.radius_end], -1)

    def tensor(value: Array) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(value), dtype=torch.float32, device=device)

    return Geometry(tensor(inward), tensor(centre), tensor(end), tensor(reach), tensor(table.length),
                    tensor(np.stack([table.radius_start, table.radius_end], -1)), tensor(table.cut))  # fmt: skip


def intersect(
    u: Tensor, v: Tensor, inward: Tensor, centre: Tensor, length: Tensor, radii: Tensor, back: bool = False
) -> Tensor:
    """Depth where rays ``(N, R)`` meet bricks ``(N, ...)``, :data:`NOTHING` where they miss; ``back``: the far side."""
    near = centre[:, 2:3]
    px, py = u * near - centre[:, 0:1], v * near - centre[:, 1:2]
    columns = [inward[:, row, column : column + 1] for row in range(3) for column in range(3)]
    dx, dy, dz = (u * columns[3 * k] + v * columns[3 * k + 1] + columns[3 * k + 2] for k in range(3))
    ox, oy, oz = (px * columns[3 * k] + py * columns[3 * k + 1] for k in range(3))
    h, ra, rb = length[:, None], radii[:, :1], radii[:, 1:]
    rr = ra - rb
    d2 = h * h - rr * rr
    dd = dx * dx + dy * dy + dz * dz
    do = dx * ox + dy * oy + dz * oz
    oo = ox * ox + oy * oy + oz * oz
    sign = 1.0 if back else -1.0
    m1, m2 = oy * h - ra * rr, dy * h
    k2 = d2 * dd - m2 * m2
    k1 = d2 * do - (m1) * m2
    k0 = d2 * (oo - ra * ra) - m1 * m1
    inside = k1 * k1 - k0 * k2
    flank = (sign * inside.clamp_min(0).sqrt() - k1) / k2.clamp_min(1e-12)
    along = m1 + flank * m2
    on_flank = (inside > 0) & (along > 0) & (along < d2)
    disc_a = do * do - dd * (oo - ra * ra)
    do_b = do - m2
    disc_b = do_b * do_b - dd * (oo - (2 * h) * oy + (h * h - rb * rb))
    miss = -NOTHING if back else NOTHING
    at_a = torch.where(disc_a > 0, (sign * disc_a.clamp_min(0).sqrt() - do) / dd, miss)
    at_b = torch.where(disc_b > 0, (sign * disc_b.clamp_min(0).sqrt() - do_b) / dd, miss)
    ends = torch.maximum(at_a, at_b) if back else torch.minimum(at_a, at_b)
    return torch.where(on_flank, flank, ends) + near


def meet(u: Tensor, v: Tensor, geometry: Geometry, frame: Tensor, brick: Tensor) -> Tensor:
    """Depth ``(N, R)`` of rays on the bricks named by ``frame`` and ``brick`` ``(N,)``, cuts respected."""
    inward, centre = geometry.inward[frame, brick], geometry.centre[frame, brick]
    length, radii, cut = geometry.length[brick], geometry.radii[brick], geometry.cut[brick]
    depth = intersect(u, v, inward, centre, length, radii)
    which = (cut[:, :3].abs().sum(-1) > 0).nonzero()[:, 0]
    if len(which):
        u, v, inward, centre, plane = u[which], v[which], inward[which], centre[which], cut[which]
        first = depth[which]
        last = intersect(u, v, inward, centre, length[which], radii[which], back=True)
        normal = (plane[:, None, :3] @ inward)[:, 0]  # camera space, not unit
        slope = u * normal[:, 0:1] + v * normal[:, 1:2] + normal[:, 2:3]
        level = plane[:, 3:] + (normal * centre).sum(-1, keepdim=True)
        on_plane = level / torch.where(slope.abs() < 1e-9, torch.full_like(slope, 1e-9), slope)
        kept = first * slope <= level
        through = (slope < 0) & (on_plane > first) & (on_plane < last)
        depth[which] = torch.where(kept, first, torch.where(through & (first < NOTHING / 2), on_plane, NOTHING))
    return torch.where(depth < NOTHING / 2, depth, NOTHING)


def depth_towards(points: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor, Tensor]:
    """Where bricks meet the rays through points ``(F, N, 3)`` in camera space.

    Returns:
        ``u`` and ``v`` of the rays, and the depth of the nearest brick, :data:`NOTHING` for none; each ``(F, N)``.
    """
    frames, bricks = geometry.centre.shape[:2]
    z = points[..., 2].clamp_min(0.05)
    u, v = points[..., 0] / z, points[..., 1] / z
    frame = torch.arange(frames, device=points.device).repeat_interleave(bricks)
    brick = torch.arange(bricks, device=points.device).repeat(frames)
    return u, v, meet(u[frame], v[frame], geometry, frame, brick).reshape(frames, bricks, -1).amin(1)


def in_sight(points: Array, geometry: Geometry, tolerance: Array) -> NDArray[np.bool_]:
    """``(F, N)`` whether no brick stands farther than ``tolerance`` ``(N,)`` in front of points in camera space."""
    target = torch.as_tensor(points, dtype=torch.float32, device=geometry.centre.device)
    nearest = depth_towards(target, geometry)[2].cpu().numpy()
    return np.asarray((nearest >= NOTHING) | (nearest > points[..., 2] - tolerance))


def find_pairs(
    geometry: Geometry, frames: slice, columns: int, rows: int, tile: float, focal: float, middle: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """(frame, tile, brick) triples whose outlines may touch, sorted by frame and tile; lengths in samples."""
    start, end, reach = geometry.centre[frames], geometry.end[frames], geometry.reach[frames]
    near = torch.minimum(start[..., 2] - reach[..., 0], end[..., 2] - reach[..., 1]).clamp_min(0.05)
    spot = torch.tensor(middle, device=start.device)
    a = start[..., :2] / start[..., 2:].clamp_min(0.05) * focal + spot
    b = end[..., :2] / end[..., 2:].clamp_min(0.05) * focal + spot
    r = reach * (1.06 * focal) / near[..., None] + 0.75 * tile
    x = (torch.arange(columns, device=start.device) + 0.5) * tile
    y = (torch.arange(rows, device=start.device) + 0.5) * tile
    ax, ay, rx, ry = a[..., 0], a[..., 1], r[..., 0], r[..., 1]
    bx, by = b[..., 0] - ax, b[..., 1] - ay
    size = (bx * bx + by * by).clamp_min(1e-6)
    px = x[None, None, :, None] - ax[:, None, None]  # F, 1, columns, P
    py = y[None, :, None, None] - ay[:, None, None]  # F, rows, 1, P
    part = ((px * (bx / size)[:, None, None]) + (py * (by / size)[:, None, None])).clamp_(0, 1)
    qx, qy = px - part * bx[:, None, None], py - part * by[:, None, None]
    limit = torch.maximum(rx, ry)[:, None, None]
    close = (qx * qx + qy * qy) < limit * limit
    frame, row, column, brick = close.nonzero(as_tuple=True)
    return frame, row * columns + column, brick


@dataclass(frozen=True)
class View:
    """What all pictures of a clip, or layers of a scene, are rendered with.

    Attributes:
        look: of the figure. focal: of the camera, in frame heights.
        size: ``(width, height)`` pixels. supersample: samples per pixel and axis.
    """

    look: Look
    shading: Shading
    focal: float
    size: tuple[int, int]
    supersample: int
    device: torch.device

    def person(self, geometry: Geometry, body: Body, expression: Array) -> Picture:
        """The figure; ``expression`` ``(F, 2)``: mouth and blink."""
        rest, look = body.rest_positions(), self.look
        return self._render(geometry, look.parts, look.materials, rest, body.trunk, body.head, expression)

    def props(self, geometry: Geometry, table: PartTable, paints: list[Material]) -> Picture:
        """Things, which have no face."""
        rest, still = np.zeros((int(table.joint.max()) + 1, 3)), np.zeros((len(geometry.centre), 2))
        return self._render(geometry, table, paints, rest, 1.0, 1.0, still)

    def _render(
        self, geometry: Geometry, table: PartTable, paints: list[Material], rest: Array, trunk: float, head: float,
        expression: Array,
    ) -> Picture:  # fmt: skip
        paint = Paint(paints, self.look.lattice, self.device)
        surface = _Surface(table, rest, trunk, head, self.look.face, paint, self.shading, self.device)
        mimic = torch.as_tensor(expression, dtype=torch.float32, device=self.device)
        frames, pixels = len(geometry.centre), self.size[0] * self.size[1]
        batch = frames if self.device.type == "cuda" else max(1, 4 * 128 * 128 // pixels)  # frames at once
        some = [slice(k, min(k + batch, frames)) for k in range(0, frames, batch)]
        parts = [_render_batch(geometry, k, surface, mimic, self.size, self.focal, self.supersample) for k in some]
        return Picture(*(torch.cat([getattr(p, n) for p in parts]) for n in ("colour", "cover", "depth", "labels")))


def as_bytes(frames: Tensor) -> Tensor:
    """Colours in [0, 1], and those a little beyond, as uint8."""
    return (frames * 255 + 0.5).clamp(0, 255).to(torch.uint8)


def _render_batch(
    geometry: Geometry, frames: slice, surface: _Surface, mimic: Tensor, size: tuple[int, int], focal: float,
    supersample: int,
) -> Picture:  # fmt: skip
    device, (width, height), s = geometry.centre.device, size, supersample
    wide = max(1, (8 if width * s <= 320 else 16) // s)  # a tile's width in pixels
    tile = wide * s
    columns, rows = -(-width // wide), -(-height // wide)
    scale = focal * height * s
    count = frames.stop - frames.start
    frame, place, brick = find_pairs(geometry, frames, columns, rows, tile, scale, (width * s / 2, height * s / 2))
    active, owner, lengths = torch.unique_consecutive(
        frame * (rows * columns) + place, return_inverse=True, return_counts=True
    )
    step = (torch.arange(tile, device=device) + 0.5) / scale
    base_u = (place % columns * tile - width * s / 2) / scale
    base_v = (place // columns * tile - height * s / 2) / scale
    u = (base_u[:, None, None] + step[None, None, :]).expand(-1, tile, tile).reshape(len(place), tile * tile)
    v = (base_v[:, None, None] + step[None, :, None]).expand(-1, tile, tile).reshape(len(place), tile * tile)
    depth = meet(u, v, geometry, frame + frames.start, brick)
    nearest = _segment_min(depth, owner, lengths)
    won = (depth == nearest[owner]) & (depth < NOTHING)
    pair, ray = won.nonzero(as_tuple=True)
    slot = owner[pair] * (tile * tile) + ray
    total = len(active) * tile * tile
    winner = torch.full((total,), -1, dtype=torch.long, device=device).scatter_reduce_(0, slot, pair, "amax")
    hit = (winner >= 0).nonzero()[:, 0]
    pair, ray = winner[hit], hit % (tile * tile)
    colour = torch.zeros(total, 3, device=device)
    label = torch.zeros(total, dtype=torch.uint8, device=device)
    colour[hit], label[hit] = surface.shade(
        geometry, mimic, frame[pair] + frames.start, brick[pair], u[pair, ray], v[pair, ray], nearest.reshape(-1)[hit]
    )

    def by_pixel(samples: Tensor) -> Tensor:  # (tiles, wide, wide, s * s, ...)
        shape = samples.shape[1:]
        grid = samples.reshape(len(active), wide, s, wide, s, *shape)
        return grid.transpose(2, 3).reshape(len(active), wide, wide, s * s, *shape)

    def on_screen(values: Tensor, empty: float) -> Tensor:
        shape = values.shape[3:]
        out = torch.full((count * rows * columns, wide, wide, *shape), empty, dtype=values.dtype, device=device)
        out[active] = values
        out = out.reshape(count, rows, columns, wide, wide, *shape).transpose(2, 3)
        return out.reshape(count, rows * wide, columns * wide, *shape)[:, :height, :width]

    samples = by_pixel(nearest.reshape(-1))
    first, index = samples.min(-1)
    cover = (samples < NOTHING).float().mean(-1)
    solid = cover >= 0.5
    names = by_pixel(label).gather(-1, index[..., None])[..., 0]
    return Picture(
        on_screen(by_pixel(colour).mean(3), 0.0),
        on_screen(cover, 0.0),
        on_screen(torch.where(solid, first, torch.inf), torch.inf),
        on_screen(torch.where(solid, names, torch.zeros_like(names)), 0),
    )


def _segment_min(depth: Tensor, owner: Tensor, lengths: Tensor) -> Tensor:
    """Smallest of the rows ``(N, R)`` of each owner -> ``(owners, R)``."""
    out = torch.full((len(lengths), depth.shape[1]), NOTHING, device=depth.device)
    return out.scatter_reduce_(0, owner[:, None].expand_as(depth), depth, "amin")


class _Surface:
    """What the bricks look like where rays meet them; ``rest`` ``(J, 3)``: the joints at rest; lengths in metres."""

    def __init__(
        self, table: PartTable, rest: Array, trunk: float, head: float, face: Face, paint: Paint, shading: Shading,
        device: torch.device,
    ) -> None:  # fmt: skip
        def tensor(value: Array) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(value), dtype=torch.float32, device=device)

        self.label = torch.as_tensor(table.label, device=device)
        self.material = torch.as_tensor(table.material, device=device)
        self.axes = tensor(table.axes * table.stretch[:, None, :] / trunk)
        self.origin = tensor((rest[table.joint] + table.origin) / trunk)
        self.head_brick = int(np.append(np.flatnonzero(table.label == 1), -1)[0])  # -1: nothing has a face
        self.head_joint = tensor(rest[table.joint[self.head_brick]])
        length, rr = table.length, table.radius_start - table.radius_end
        self.cone = tensor(np.stack([length, table.radius_start * rr, np.maximum(length**2 - rr**2, 1e-12)], -1))
        self.trunk, self.head, self.face, self.paint, self.shading = trunk, head, face, paint, shading

    def shade(
        self, geometry: Geometry, mimic: Tensor, frame: Tensor, brick: Tensor, u: Tensor, v: Tensor, depth: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Colours ``(N, 3)`` and labels ``(N,)`` of hits."""
        inward = geometry.inward[frame, brick]
        offset = torch.stack([u * depth, v * depth, depth], -1) - geometry.centre[frame, brick]
        local = (inward * offset[:, None, :]).sum(-1)
        cone, cut = self.cone[brick], geometry.cut[brick]
        axial = ((cone[:, 0] * local[:, 1] - cone[:, 1]) / cone[:, 2]).clamp(0, 1) * cone[:, 0]
        normal = torch.stack([local[:, 0], local[:, 1] - axial, local[:, 2]], -1)
        on_cut = (cut[:, :3].abs().sum(-1) > 0) & ((cut[:, :3] * local).sum(-1) > cut[:, 3] - 1e-4)
        normal = torch.where(on_cut[:, None], cut[:, :3], normal)
        facing = torch.nn.functional.normalize((inward * normal[:, :, None]).sum(1), dim=-1)
        axes = self.axes[brick]
        rest = (axes * local[:, None, :]).sum(-1) + self.origin[brick]
        around = torch.atan2(axes[:, 0, 0] * local[:, 0] + axes[:, 0, 2] * local[:, 2],
                             axes[:, 2, 0] * local[:, 0] + axes[:, 2, 2] * local[:, 2]) / (2 * np.pi)  # fmt: skip
        front = torch.cos(around * (2 * np.pi))
        colour = self.paint.colours(self.material[brick], rest, around, front)
        on_head = (brick == self.head_brick).nonzero()[:, 0]
        if len(on_head):
            q = rest[on_head] * self.trunk - self.head_joint
            signs = mimic[frame[on_head]]
            colour[on_head] = paint_face(self.face, q[:, 0] / self.head, q[:, 1] / self.head + CHIN, q[:, 2] > 0,
                                         colour[on_head], signs[:, 0], signs[:, 1])  # fmt: skip
        sight = torch.nn.functional.normalize(torch.stack([u, v, torch.ones_like(u)], -1), dim=-1)
        if self.shading.lights is not None:
            colour, facing, gloss = self.paint.drape(self.material[brick], rest, colour, facing)
            return shine(colour, facing, sight, gloss, self.shading.lights).clamp(0, 1), self.label[brick]
        return self._lit(colour, facing, -(facing * sight).sum(-1)), self.label[brick]

    def _lit(self, colour: Tensor, normal: Tensor, to_eye: Tensor) -> Tensor:
        s = self.shading
        light = torch.tensor(s.light, device=colour.device)
        diffuse = (normal * light).sum(-1)
        sky = 0.88 - 0.12 * normal[:, 1]  # less light from below
        if s.style == "flat":
            level = torch.ones_like(diffuse)
        elif s.style == "toon":
            stepped = ((diffuse * 0.5 + 0.5) * s.steps).floor().clamp(0, s.steps - 1)
            level = s.ambient + (1 - s.ambient) * stepped / (s.steps - 1)
        else:
            level = s.ambient * sky + (1 - s.ambient) * diffuse.clamp_min(0)
        level = torch.where(to_eye < 0.3, level * (1 - s.ink), level)
        return (colour * level[:, None] * torch.tensor(s.tint, device=colour.device)).clamp(0, 1)
