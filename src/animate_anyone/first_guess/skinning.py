"""Meshes that bones deform: weights by heat diffusion, linear blend skinning, and where each pixel then comes from.

(Not in the papers; for the first guess of small models.) Weights as of I. Baran and J. Popović, Automatic Rigging and
Animation of 3D Characters (2007), in the plane.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from scipy.sparse.linalg import splu

from animate_anyone.first_guess.bones import Maps, Points, map_of, off_bone
from animate_anyone.structures import Plane, Size

Triangles = NDArray[np.int64]

_CELLS = 64  # of a mesh on the longer side of the picture
_HEAT = 50.0  # of a bone on what is near it, against its spreading along the mesh
_TORN = 6  # cells: a triangle that is stretched wider is cut off there


def mesh(cover: Plane) -> tuple[Points, Triangles]:
    """A grid of triangles over a layer, one cell beyond its outline: vertices ``(n, 2)``, triangles ``(t, 3)``."""
    height, width = cover.shape
    step = max(round(max(height, width) / _CELLS), 2)
    ys, xs = np.arange(-step, height + 2 * step, step), np.arange(-step, width + 2 * step, step)
    near = np.zeros((len(ys) * step, len(xs) * step), bool)
    near[step : step + height, step : step + width] = binary_dilation(cover > 0.02, iterations=step)
    cells = near.reshape(len(ys), step, len(xs), step).any((1, 3))[:-1, :-1]
    row, column = np.nonzero(cells)
    corner = row * len(xs) + column
    right, below = corner + 1, corner + len(xs)
    both = np.concatenate([np.stack([corner, right, below], 1), np.stack([right, below + 1, below], 1)])
    used, triangles = np.unique(both, return_inverse=True)
    vertices = np.stack([xs[used % len(xs)], ys[used // len(xs)]], 1).astype(np.float64)
    return vertices, triangles.reshape(-1, 3)


def diffuse(vertices: Points, triangles: Triangles, bones: list[tuple[Points, Points]], share: float = 1.0) -> Points:
    """Weights of bones ``(n, bones)``: heat that each gives to the vertices nearest to it, spread along the mesh.

    ``share`` of the usual heat: less makes weights that go over into each other more softly.
    """
    count = len(vertices)
    away = np.stack([off_bone(vertices, ends) for ends in bones], 1) + 1.0
    edges = np.unique(np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1), axis=0)
    i, j = edges.T
    graph = sparse.coo_matrix((np.ones(2 * len(edges)), (np.r_[i, j], np.r_[j, i])), (count, count)).tocsr()
    laplacian = sparse.diags(np.asarray(graph.sum(1)).ravel()) - graph
    nearest = away.argmin(1)
    heat = share * _HEAT / away[np.arange(count), nearest] ** 2
    system = (laplacian + sparse.diags(heat)).tocsc()
    weights = splu(system).solve(heat[:, None] * np.eye(len(bones))[nearest])
    normed: Points = weights / weights.sum(1, keepdims=True)
    return normed


def deform(vertices: Points, weights: Points, bones: tuple[str, ...], maps: Maps) -> Points | None:
    """Where the vertices go, ``(n, 2)``: their bones' maps, blended; ``None`` where no bone has any."""
    found = {number: map_ for number, bone in enumerate(bones) if (map_ := map_of(bone, maps)) is not None}
    if not found:
        return None
    usable = weights[:, list(found)] + 1e-6
    usable = usable / usable.sum(1, keepdims=True)
    blend = np.einsum("nb,bij->nij", usable, np.stack(list(found.values())))
    moved: Points = np.einsum("nij,nj->ni", blend[:, :, :2], vertices) + blend[:, :, 2]
    return moved


def rasterise(
    vertices: Points, places: Points, triangles: Triangles, size: Size
) -> tuple[tuple[slice, slice], torch.Tensor] | None:
    """Where a deformed mesh is, as rows and columns, and where in the reference each pixel there comes from.

    The latter ``(h, w, 2)`` pixels, far outside where no triangle lies. ``None``: it lies outside the frame.
    """
    low = np.clip(np.floor(vertices.min(0)), 0, size).astype(int)
    high = np.clip(np.ceil(vertices.max(0)), 0, size).astype(int)
    if (high <= low).any():
        return None
    out = np.full((high[1] - low[1], high[0] - low[0], 2), -1e4, np.float32)
    corners, sources = vertices[triangles] - low, places[triangles]
    first = np.floor(corners.min(1)).astype(int)
    sides = np.ceil(corners.max(1)).astype(int) - first + 1
    (ax, ay), (bx, by), (cx, cy) = (corners[:, corner].T for corner in range(3))
    area = (by - cy) * (ax - cx) + (cx - bx) * (ay - cy)
    area = np.where(np.abs(area) < 1e-6, 1e-6, area)
    limit = _TORN * max(round(max(size) / _CELLS), 2)
    width_, height_ = np.minimum(sides, limit).T
    # Each triangle's box as one run of pixels; later triangles overwrite earlier ones.
    counts = width_ * height_
    number = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    columns, rows = first[number, 0] + place % width_[number], first[number, 1] + place // width_[number]
    inside = (rows >= 0) & (rows < out.shape[0]) & (columns >= 0) & (columns < out.shape[1])
    number, columns, rows = number[inside], columns[inside], rows[inside]
    x, y = columns + 0.5, rows + 0.5
    u = ((by - cy)[number] * (x - cx[number]) + (cx - bx)[number] * (y - cy[number])) / area[number]
    v = ((cy - ay)[number] * (x - cx[number]) + (ax - cx)[number] * (y - cy[number])) / area[number]
    hit = (u >= -1e-3) & (v >= -1e-3) & (u + v <= 1.001)
    number, u, v = number[hit], u[hit, None], v[hit, None]
    out[rows[hit], columns[hit]] = u * sources[number, 0] + v * sources[number, 1] + (1 - u - v) * sources[number, 2]
    return (slice(low[1], high[1]), slice(low[0], high[0])), torch.from_numpy(out)


def sample(planes: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Planes ``(c, height, width)`` looked up at ``(h, w, 2)`` places, bicubic; 0 outside of them."""
    grid = source / torch.tensor([planes.shape[2], planes.shape[1]]) * 2 - 1
    # Far places keep out of the range in which a float becomes an integer.
    return F.grid_sample(planes[None], grid[None].clamp(-3, 3), "bicubic", "zeros", align_corners=False)[0]
