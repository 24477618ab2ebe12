"""Networks of shapes without values."""

from __future__ import annotations

import torch
from torch import nn

from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.shapes import shapes_only
from tiny import MOTION, unet2d


def test_shapes_are_those_of_a_real_network_and_nothing_else_changes() -> None:
    real = DenoisingUNet.from_unet2d(unet2d(), **MOTION)
    before = torch.get_rng_state()
    with shapes_only():
        network = DenoisingUNet(**real.config)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    shapes = [{name: t.shape for name, t in net.state_dict().items()} for net in (network, real)]
    assert shapes[0] == shapes[1]
    torch.manual_seed(0)
    again = nn.Linear(3, 2).weight
    assert not again.is_meta and again.unique().numel() == 6
