"""LPIPS (Zhang et al. 2018), version 0.1 with VGG-16: weighted distance of unit-length features at five depths."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # VGG-16, by resolution
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # LPIPS's scaling layer, for pictures in [-1, 1]


class VGG(nn.Module):
    """The convolutions of torchvision's VGG-16; its classifier, which the file holds too, is not needed."""

    unused = tuple(f"classifier.{n}.{kind}" for n in (0, 3, 6) for kind in ("weight", "bias"))

    def __init__(self, shrink: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.ends: list[int] = []  # where each resolution's last features stand
        before = 3
        for widths in WIDTHS:
            if layers:
                layers.append(nn.MaxPool2d(2))
            for width in widths:
                layers += [nn.Conv2d(before, width // shrink, 3, padding=1), nn.ReLU()]
                before = width // shrink
            self.ends.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features after each resolution's last ReLU."""
        out = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.ends:
                out.append(x)
        return out


class Weights(nn.Module):
    """What each channel counts: ``lin0`` to ``lin4``, 1×1 convolutions without bias, as LPIPS's file names them."""

    unused: tuple[str, ...] = ()

    def __init__(self, shrink: int = 1) -> None:
        super().__init__()
        for number, widths in enumerate(WIDTHS):
            self.add_module(f"lin{number}", nn.Module())
            getattr(self, f"lin{number}").model = nn.Sequential(
                nn.Dropout(), nn.Conv2d(widths[-1] // shrink, 1, 1, bias=False)
            )

    def forward(self, differences: list[Tensor]) -> list[Tensor]:
        return [getattr(self, f"lin{n}").model(difference) for n, difference in enumerate(differences)]


def lpips(vgg: VGG, weights: Weights, first: Tensor, second: Tensor) -> Tensor:
    """The distance of pictures ``(n, 3, H, W)``, made for the range [-1, 1]: ``(n,)``."""
    shift, scale = (first.new_tensor(values)[:, None, None] for values in (_SHIFT, _SCALE))
    features = [vgg((pictures - shift) / scale) for pictures in (first, second)]
    differences = [(_unit(a) - _unit(b)).square() for a, b in zip(*features, strict=True)]
    return torch.stack([level.mean(dim=(1, 2, 3)) for level in weights(differences)]).sum(dim=0)


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
