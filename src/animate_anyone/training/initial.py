"""Initial weights of networks that start from nothing.

diffusers leaves PyTorch's defaults, made for loading checkpoints over them. Here every residual
branch starts at zero, so that at first each block passes on what it is given, and what lies between
the blocks keeps lengths and angles. Otherwise a deep network learns one strong direction after the
other (brightness first, colour a thousand steps later).
"""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn


def start_at_identity(network: nn.Module) -> None:
    """Zero the last layer of every residual branch; make the convolutions between them semi-orthogonal."""
    inside = {
        id(conv)
        for module in network.modules()
        if isinstance(module, ResnetBlock2D | Transformer2DModel)
        for name, conv in module.named_modules()
        if name != "conv_shortcut"
    }
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and id(module) not in inside:
            _orthogonal(module)
    for module in network.modules():
        if isinstance(module, ResnetBlock2D):
            _zero(module.conv2)
        elif isinstance(module, Transformer2DModel):
            _zero(module.proj_out)
        elif isinstance(module, Attention) and module.residual_connection:
            _zero(module.to_out[0])


def _orthogonal(conv: nn.Conv2d) -> None:
    """One semi-orthogonal matrix at the middle tap, or shared by 2x2 taps where the grid is halved."""
    matrix = nn.init.orthogonal_(torch.empty(conv.out_channels, conv.in_channels))
    with torch.no_grad():
        conv.weight.zero_()
        if conv.stride[0] == 2:
            conv.weight[:, :, :2, :2] = matrix[:, :, None, None] / 4
        else:
            conv.weight[:, :, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = matrix
        if conv.bias is not None:
            conv.bias.zero_()


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
