"""Narrow networks with random weights, saved as the published files are: same names of tensors, same wrappers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from animate_anyone.evaluation import weights
from animate_anyone.evaluation.backbones import i3d, inception, lpips_vgg, resnet3d

SHRINK = 8


def _random(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """Weights that keep features alive: spread by fan-in, norms near the identity, differing by channel."""
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            out[name] = noise * (2 / tensor[0].numel()) ** 0.5
        elif name.endswith(("weight", "running_var")):
            out[name] = 1 + 0.1 * noise.abs()
        else:
            out[name] = 0.1 * noise
    return out


def save_all(folder: Path) -> Path:
    """Write the five files. LPIPS's weights are not negative, as the published ones."""
    folder.mkdir(parents=True, exist_ok=True)
    vgg = _random(lpips_vgg.VGG(SHRINK), 1)
    classifier = {name: torch.zeros(2, 2) for name in lpips_vgg.VGG.unused}
    torch.save(vgg | classifier, folder / weights.VGG.name)
    torch.save(
        {n: t.abs() for n, t in _random(lpips_vgg.Weights(SHRINK), 2).items()},
        folder / weights.LPIPS.name,
        _use_new_zipfile_serialization=False,
    )
    tracked = {"Conv2d_1a_3x3.bn.num_batches_tracked": torch.tensor(0)}
    fc = {"fc.weight": torch.zeros(1008, 4), "fc.bias": torch.zeros(1008)}
    torch.save(_random(inception.Inception(SHRINK), 3) | fc | tracked, folder / weights.INCEPTION.name)
    torch.save(_random(i3d.I3D(SHRINK), 4), folder / weights.I3D.name)
    resnet = _random(resnet3d.ResNet3D(SHRINK), 5) | {"fc.weight": torch.zeros(400, 4), "fc.bias": torch.zeros(400)}
    wrapped = {"epoch": 1, "arch": "resnet-50", "state_dict": {f"module.{n}": t for n, t in resnet.items()}}
    torch.save(wrapped, folder / weights.RESNET.name, _use_new_zipfile_serialization=False)
    return folder
