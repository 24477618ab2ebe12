"""3x3 convolutions with a quarter of the products: Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, 2015).

A tile of 4x4 output cells sees 6x6 input cells. Both the tile and the kernel are taken to 36 numbers by fixed sums;
their products, summed over the channels, are 36 matrix products; and sums of those are the tile's 16 output cells,
where the direct way takes 9 products each. The result is the same but for rounding: in float32 some 1e-5 of the
largest.

Inputs, kernels and outputs have channels last in memory. ``C`` and ``O`` are the channels in and out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

TILES_AT_ONCE = 256
"""Tiles transformed before their products are taken: few enough to stay in the processor's caches."""

# What a row of three weights becomes; rows of the matrix G.
_OF_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def winograd_kernels(weight: Tensor) -> Tensor:
    """``(36, O, C)`` of a convolution's weight ``(O, C, 3, 3)``."""
    out, channels = weight.shape[:2]
    row = torch.tensor(_OF_KERNEL, dtype=weight.dtype, device=weight.device)
    both = torch.kron(row, row)  # (36, 9)
    return torch.mm(both, weight.permute(2, 3, 0, 1).reshape(9, -1)).view(36, out, channels)


def winograd(x: Tensor, kernels: Tensor, bias: Tensor | None, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """A 3x3 convolution of stride 1 that keeps the size, zeros around.

    Args:
        x: ``(n, C, height, width)``.
        kernels: of :func:`winograd_kernels`.
        bias: ``(O,)``.
        product: ``(rows, C), (O, C) -> (rows, O)``, a matrix product with the transposed second.
    """
    count, _, height, width = x.shape
    down, across, out = -(-height // 4), -(-width // 4), kernels.shape[1]
    padded = F.pad(x, (1, 4 * across + 1 - width, 1, 4 * down + 1 - height)).permute(0, 2, 3, 1)
    result = x.new_empty(count, 4 * down, 4 * across, out)
    rows, pictures = max(1, TILES_AT_ONCE // across), max(1, TILES_AT_ONCE // (across * down))
    for first in range(0, count, pictures):
        for top in range(0, down, rows):
            some = min(rows, down - top)
            given = padded[first : first + pictures, 4 * top : 4 * (top + some) + 2]
            tiles = _transformed(given, some, across).flatten(1, 3)  # (36, tiles, C)
            sums = [product(one, kernel) for one, kernel in zip(tiles, kernels, strict=True)]
            _cells(sums, result[first : first + pictures, 4 * top : 4 * (top + some)])
    if bias is not None:
        result += bias
    return result[:, :height, :width].contiguous().permute(0, 3, 1, 2)


def _transformed(given: Tensor, down: int, across: int) -> Tensor:
    # (n, 4 * down + 2, 4 * across + 2, C) -> (36, n, down, across, C): columns of each tile, then rows.
    count, _, width, channels = given.shape
    columns = given.new_empty(6, count, down, width, channels)
    _of_input([given[:, i : i + 4 * down - 3 : 4] for i in range(6)], columns)
    tiles = given.new_empty(36, count, down, across, channels)
    for number, one in enumerate(columns):
        _of_input([one[:, :, i : i + 4 * across - 3 : 4] for i in range(6)], tiles[6 * number : 6 * number + 6])
    return tiles


def _cells(sums: Sequence[Tensor], result: Tensor) -> None:
    # 36 of (tiles, O) -> (n, 4 * down, 4 * across, O)
    count, height, width, out = result.shape
    sums = [one.view(count, height // 4, width // 4, out) for one in sums]
    columns = result.new_empty(4, 6, count, height // 4, width // 4, out)
    for number in range(6):
        _of_output(sums[number::6], columns[:, number].unbind())
    for number, one in enumerate(columns):
        cells = result[:, number::4]
        _of_output(one.unbind(), [cells[:, :, i::4] for i in range(4)])


def _of_input(d: Sequence[Tensor], out: Tensor) -> None:
    # out = B^T d of six numbers.
    p, q = torch.sub(d[4], d[2], alpha=4), torch.sub(d[3], d[1], alpha=4)
    torch.add(p, q, out=out[1])
    torch.sub(p, q, out=out[2])
    s, u = torch.sub(d[4], d[2], out=p), torch.sub(d[3], d[1], out=q)
    torch.add(s, u, alpha=2, out=out[3])
    torch.sub(s, u, alpha=2, out=out[4])
    torch.sub(d[0], d[2], out=out[0]).mul_(4).add_(s)
    torch.sub(d[5], d[3], out=out[5]).sub_(u, alpha=4)


def _of_output(m: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    # out = A^T m: four of six numbers.
    a, b, c, d = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    torch.add(b, d, alpha=2, out=out[1])
    torch.add(a, c, alpha=4, out=out[2])
    torch.add(m[0], a.add_(c), out=out[0])
    torch.add(m[5], b.add_(d, alpha=8), out=out[3])
