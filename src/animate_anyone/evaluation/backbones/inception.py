"""The Inception network of FID (Heusel et al. 2017): the TensorFlow model of 2015-12-05 as pytorch-fid ported it.

Names of tensors are those of torchvision's Inception v3, which the published file has. It is not that network:
averages leave padding out, and the last block takes a maximum where Inception v3 has an average.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = int | tuple[int, int]


class Inception(nn.Module):
    """Pictures ``(n, 3, 299, 299)`` in [-1, 1] to features ``(n, 2048)``, the last average."""

    unused = ("fc.weight", "fc.bias")

    def __init__(self, shrink: int = 1) -> None:
        super().__init__()
        s = shrink
        self.Conv2d_1a_3x3 = _Unit(3, 32 // s, 3, stride=2)
        self.Conv2d_2a_3x3 = _Unit(32 // s, 32 // s, 3)
        self.Conv2d_2b_3x3 = _Unit(32 // s, 64 // s, 3, padding=1)
        self.Conv2d_3b_1x1 = _Unit(64 // s, 80 // s, 1)
        self.Conv2d_4a_3x3 = _Unit(80 // s, 192 // s, 3)
        self.Mixed_5b = _BlockA(192 // s, 32 // s, s)
        self.Mixed_5c = _BlockA(256 // s, 64 // s, s)
        self.Mixed_5d = _BlockA(288 // s, 64 // s, s)
        self.Mixed_6a = _BlockB(288 // s, s)
        self.Mixed_6b = _BlockC(768 // s, 128 // s, s)
        self.Mixed_6c = _BlockC(768 // s, 160 // s, s)
        self.Mixed_6d = _BlockC(768 // s, 160 // s, s)
        self.Mixed_6e = _BlockC(768 // s, 192 // s, s)
        self.Mixed_7a = _BlockD(768 // s, s)
        self.Mixed_7b = _BlockE(1280 // s, s, maximum=False)
        self.Mixed_7c = _BlockE(2048 // s, s, maximum=True)
        self.width = 2048 // s

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, 2)
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean(dim=(2, 3))


class _Unit(nn.Module):
    def __init__(self, before: int, after: int, size: Size, stride: int = 1, padding: Size = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class _BlockA(nn.Module):
    def __init__(self, before: int, pooled: int, s: int) -> None:
        super().__init__()
        self.branch1x1 = _Unit(before, 64 // s, 1)
        self.branch5x5_1, self.branch5x5_2 = _Unit(before, 48 // s, 1), _Unit(48 // s, 64 // s, 5, padding=2)
        self.branch3x3dbl_1 = _Unit(before, 64 // s, 1)
        self.branch3x3dbl_2 = _Unit(64 // s, 96 // s, 3, padding=1)
        self.branch3x3dbl_3 = _Unit(96 // s, 96 // s, 3, padding=1)
        self.branch_pool = _Unit(before, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_average(x))], dim=1)


class _BlockB(nn.Module):
    def __init__(self, before: int, s: int) -> None:
        super().__init__()
        self.branch3x3 = _Unit(before, 384 // s, 3, stride=2)
        self.branch3x3dbl_1 = _Unit(before, 64 // s, 1)
        self.branch3x3dbl_2 = _Unit(64 // s, 96 // s, 3, padding=1)
        self.branch3x3dbl_3 = _Unit(96 // s, 96 // s, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], dim=1)


class _BlockC(nn.Module):
    def __init__(self, before: int, inside: int, s: int) -> None:
        super().__init__()
        self.branch1x1 = _Unit(before, 192 // s, 1)
        self.branch7x7_1 = _Unit(before, inside, 1)
        self.branch7x7_2 = _Unit(inside, inside, (1, 7), padding=(0, 3))
        self.branch7x7_3 = _Unit(inside, 192 // s, (7, 1), padding=(3, 0))
        self.branch7x7dbl_1 = _Unit(before, inside, 1)
        self.branch7x7dbl_2 = _Unit(inside, inside, (7, 1), padding=(3, 0))
        self.branch7x7dbl_3 = _Unit(inside, inside, (1, 7), padding=(0, 3))
        self.branch7x7dbl_4 = _Unit(inside, inside, (7, 1), padding=(3, 0))
        self.branch7x7dbl_5 = _Unit(inside, 192 // s, (1, 7), padding=(0, 3))
        self.branch_pool = _Unit(before, 192 // s, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average(x))], dim=1)


class _BlockD(nn.Module):
    def __init__(self, before: int, s: int) -> None:
        super().__init__()
        inside = 192 // s
        self.branch3x3_1, self.branch3x3_2 = _Unit(before, inside, 1), _Unit(inside, 320 // s, 3, stride=2)
        self.branch7x7x3_1 = _Unit(before, inside, 1)
        self.branch7x7x3_2 = _Unit(inside, inside, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = _Unit(inside, inside, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = _Unit(inside, inside, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        three = self.branch3x3_2(self.branch3x3_1(x))
        return torch.cat([three, self.branch7x7x3_4(seven), F.max_pool2d(x, 3, 2)], dim=1)


class _BlockE(nn.Module):
    def __init__(self, before: int, s: int, maximum: bool) -> None:
        super().__init__()
        self.maximum = maximum
        inside = 384 // s
        self.branch1x1 = _Unit(before, 320 // s, 1)
        self.branch3x3_1 = _Unit(before, inside, 1)
        self.branch3x3_2a = _Unit(inside, inside, (1, 3), padding=(0, 1))
        self.branch3x3_2b = _Unit(inside, inside, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = _Unit(before, 448 // s, 1)
        self.branch3x3dbl_2 = _Unit(448 // s, inside, 3, padding=1)
        self.branch3x3dbl_3a = _Unit(inside, inside, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = _Unit(inside, inside, (3, 1), padding=(1, 0))
        self.branch_pool = _Unit(before, 192 // s, 1)

    def forward(self, x: Tensor) -> Tensor:
        three, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, 1, 1) if self.maximum else _average(x)
        parts = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(pooled)]
        return torch.cat(parts, dim=1)
