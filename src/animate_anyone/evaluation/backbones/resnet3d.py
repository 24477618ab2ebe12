"""3-D ResNet-50 (Hara et al. 2018), trained on Kinetics: the features of FID-VID."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = (3, 4, 6, 3)
EXPANSION = 4
# Of Kinetics' bytes, red, green, blue; taken off, and nothing is divided.
MEAN = (114.7748, 107.7354, 99.4750)


class ResNet3D(nn.Module):
    """Clips ``(n, 3, 16, 112, 112)``, bytes less :data:`MEAN`, to features ``(n, 2048)`` before the classifier."""

    unused = ("fc.weight", "fc.bias")

    def __init__(self, shrink: int = 1) -> None:
        super().__init__()
        width = 64 // shrink
        self.conv1 = nn.Conv3d(3, width, 7, (1, 2, 2), 3, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        before = width
        for level, blocks in enumerate(BLOCKS):
            inside = width * 2**level
            layers: list[nn.Module] = []
            for number in range(blocks):
                layers.append(_Bottleneck(before, inside, 2 if level and not number else 1))
                before = inside * EXPANSION
            self.add_module(f"layer{level + 1}", nn.Sequential(*layers))
        self.width = before

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool3d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for level in range(len(BLOCKS)):
            x = getattr(self, f"layer{level + 1}")(x)
        return x.mean(dim=(2, 3, 4))


class _Bottleneck(nn.Module):
    def __init__(self, before: int, inside: int, stride: int) -> None:
        super().__init__()
        after = inside * EXPANSION
        self.conv1, self.bn1 = nn.Conv3d(before, inside, 1, bias=False), nn.BatchNorm3d(inside)
        self.conv2, self.bn2 = nn.Conv3d(inside, inside, 3, stride, 1, bias=False), nn.BatchNorm3d(inside)
        self.conv3, self.bn3 = nn.Conv3d(inside, after, 1, bias=False), nn.BatchNorm3d(after)
        self.downsample = (
            nn.Sequential(nn.Conv3d(before, after, 1, stride, bias=False), nn.BatchNorm3d(after))
            if stride > 1 or before != after
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))
