"""I3D (Carreira and Zisserman 2017): Inception over time and space, 400 logits of Kinetics.

Names of tensors are those of ``i3d_pretrained_400.pt``, which FVD is computed with.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Three = tuple[int, int, int]
# Widths of the branches: 1×1×1; 1×1×1 then 3×3×3; 1×1×1 then 3×3×3; pool then 1×1×1.
MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
LOGITS = 400


class I3D(nn.Module):
    """Clips ``(n, 3, frames, 224, 224)`` in [-1, 1] to logits ``(n, 400)``, their mean over time and space."""

    unused: tuple[str, ...] = ()

    def __init__(self, shrink: int = 1) -> None:
        super().__init__()
        stem = 64 // shrink
        self.Conv3d_1a_7x7 = _Unit(3, stem, 7, 2)
        self.Conv3d_2b_1x1 = _Unit(stem, stem, 1)
        self.Conv3d_2c_3x3 = _Unit(stem, 3 * stem, 3)
        width = 3 * stem
        for name, widths in MIXED.items():
            block = _Mixed(width, tuple(w // shrink for w in widths))
            self.add_module(name, block)
            width = block.width
        self.width = LOGITS
        self.logits = _Unit(width, LOGITS, 1, bare=True)

    def forward(self, x: Tensor) -> Tensor:
        x = _pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = _pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in MIXED:
            if name == "Mixed_4b":
                x = _pool(x, (3, 3, 3), (2, 2, 2))
            elif name == "Mixed_5b":
                x = _pool(x, (2, 2, 2), (2, 2, 2))
            x = getattr(self, name)(x)
        return self.logits(x.mean(dim=(2, 3, 4), keepdim=True)).flatten(1)


class _Unit(nn.Module):
    """Convolution, normalisation, ReLU; ``bare`` is a convolution with bias and nothing more."""

    def __init__(self, before: int, after: int, size: int, stride: int = 1, bare: bool = False) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(before, after, size, stride, bias=bare)
        self.bn = None if bare else nn.BatchNorm3d(after, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        size, stride = self.conv3d.kernel_size, self.conv3d.stride
        x = self.conv3d(_padded(x, (size[0], size[1], size[2]), (stride[0], stride[1], stride[2])))
        return x if self.bn is None else F.relu(self.bn(x))


class _Mixed(nn.Module):
    def __init__(self, before: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.width = widths[0] + widths[2] + widths[4] + widths[5]
        self.b0 = _Unit(before, widths[0], 1)
        self.b1a, self.b1b = _Unit(before, widths[1], 1), _Unit(widths[1], widths[2], 3)
        self.b2a, self.b2b = _Unit(before, widths[3], 1), _Unit(widths[3], widths[4], 3)
        self.b3b = _Unit(before, widths[5], 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = _pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)


def _pool(x: Tensor, size: Three, stride: Three) -> Tensor:
    return F.max_pool3d(_padded(x, size, stride), size, stride)


def _padded(x: Tensor, size: Three, stride: Three) -> Tensor:
    """TensorFlow's padding ``SAME``: zeros on both sides, the odd one behind; the network was trained with it."""
    pads: list[int] = []
    for length, kernel, step in zip(reversed(x.shape[2:]), reversed(size), reversed(stride), strict=True):
        total = max(kernel - (length % step or step), 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)
