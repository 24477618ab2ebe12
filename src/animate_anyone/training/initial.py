"""Initial weights of networks that start from nothing.

diffusers leaves PyTorch's defaults, made for loading checkpoints over them. Diffusion networks are
started with every residual branch at zero, so that at first each block passes on what it is given:
deep networks then learn from the first step on.
"""

from __future__ import annotations

from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn


def start_at_identity(network: nn.Module) -> None:
    """Zero the last layer of every residual branch: residual blocks, transformers, the autoencoder's attention."""
    for module in network.modules():
        if isinstance(module, ResnetBlock2D):
            _zero(module.conv2)
        elif isinstance(module, Transformer2DModel):
            _zero(module.proj_out)
        elif isinstance(module, Attention) and module.residual_connection:
            _zero(module.to_out[0])


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
