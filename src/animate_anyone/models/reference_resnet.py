"""A ResNet in ReferenceNet's place: a design that Animate Anyone compares with its own (weights of ImageNet).

It sees the reference's pixels. What its stages give, at 1/4, 1/8, 1/16 and 1/32 of the picture's sides, goes where
ReferenceNet's features would: into spatial attention. Each layer of the denoising UNet gets the stage whose stride is
that of its level, or the last one where there is none so coarse, through a projection to its width and a normalisation
of its own, as the tokens that self-attention sees are normalised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ConfigMixin
from diffusers import ModelMixin as ModelMixin  # by this name diffusers finds how to load a model folder
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.reference_attention import ReferenceFeatures, spatial_attention_layers

# ImageNet's channel statistics, RGB in [0, 1], with which published ResNets are trained.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FIRST_STRIDE = 4
"""Of the first stage; that of each after it is twice as much."""


class ReferenceResNet(ModelMixin, ConfigMixin):
    """transformers' ``ResNetModel`` and a projection for every layer that attends to the reference.

    Batch normalisation keeps the statistics of its weights, in training too. A network that starts from nothing has
    none, and wants group normalisation instead.

    Args:
        layers: name of a layer of the denoising UNet -> (stage of the ResNet, from 0; the layer's width).
        embedding_size, hidden_sizes, depths, layer_type: ``ResNetConfig``; the defaults are ResNet-50's.
        norm_num_groups: of group normalisation; 0: batch normalisation.
    """

    @register_to_config
    def __init__(
        self,
        layers: Mapping[str, tuple[int, int]],
        embedding_size: int = 64,
        hidden_sizes: tuple[int, ...] = (256, 512, 1024, 2048),
        depths: tuple[int, ...] = (3, 4, 6, 3),
        layer_type: str = "bottleneck",
        norm_num_groups: int = 0,
    ) -> None:
        super().__init__()
        config = ResNetConfig(
            embedding_size=embedding_size, hidden_sizes=list(hidden_sizes), depths=list(depths), layer_type=layer_type
        )
        self.resnet = ResNetModel(config)
        for name, module in list(self.resnet.named_modules()):
            if norm_num_groups and isinstance(module, nn.BatchNorm2d):
                self.resnet.set_submodule(name, nn.GroupNorm(norm_num_groups, module.num_features, module.eps))
        self.projections = nn.ModuleDict(
            {
                name.replace(".", "-"): nn.Sequential(nn.Linear(hidden_sizes[stage], width), nn.LayerNorm(width))
                for name, (stage, width) in layers.items()
            }
        )

    @classmethod
    def beside(cls, unet: DenoisingUNet, factor: int, **resnet: Any) -> ReferenceResNet:
        """One that fits a denoising UNet.

        Args:
            factor: pixels per latent cell, per side.
            resnet: arguments of the constructor beyond ``layers``.
        """
        stages = len(resnet.get("hidden_sizes", (0, 0, 0, 0)))
        return cls(layers=_layers(unet, factor, stages), **resnet)

    @classmethod
    def from_resnet(cls, resnet: ResNetModel, unet: DenoisingUNet, factor: int) -> ReferenceResNet:
        """Start from a ResNet's weights, as ImageNet's."""
        names = ("embedding_size", "hidden_sizes", "depths", "layer_type")
        made = cls.beside(unet, factor, **{name: getattr(resnet.config, name) for name in names})
        made.resnet.load_state_dict(resnet.state_dict())
        return made

    def unread(self) -> list[nn.Parameter]:
        """The weights of stages on which no feature depends."""
        last = max(stage for stage, _ in self.config["layers"].values())
        return [p for stage in self.resnet.encoder.stages[last + 1 :] for p in stage.parameters()]

    def train(self, mode: bool = True) -> ReferenceResNet:
        """As any network's; batch normalisation stays as it is."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.training = False
        return self

    def forward(self, pictures: Tensor) -> ReferenceFeatures:
        """Features of reference pictures ``(batch, 3, height, width)`` in [-1, 1].

        Returns:
            Layer name -> ``(batch, height * width at the stage, channels of the layer)``.
        """
        mean, std = (torch.tensor(v, device=pictures.device).view(3, 1, 1) for v in (MEAN, STD))
        given = (((pictures.float() + 1) / 2 - mean) / std).to(self.dtype)
        # What comes before the first stage is among the hidden states.
        maps = self.resnet(given, output_hidden_states=True).hidden_states[1:]
        layers: Mapping[str, tuple[int, int]] = self.config["layers"]
        return {
            name: self.projections[name.replace(".", "-")](maps[stage].flatten(2).transpose(1, 2))
            for name, (stage, _) in layers.items()
        }


def _layers(unet: DenoisingUNet, factor: int, stages: int) -> dict[str, tuple[int, int]]:
    """Of every layer that may attend to the reference its stage and width."""
    last = len(unet.config["block_out_channels"]) - 1
    first = (factor // FIRST_STRIDE).bit_length() - 1  # the stage whose stride is that of the finest level
    layers: dict[str, tuple[int, int]] = {}
    for name, attn in spatial_attention_layers(unet).items():
        place, *rest = name.split(".")
        level = {"down_blocks": lambda i: i, "up_blocks": lambda i: last - i}.get(place, lambda _: last)(
            int(rest[0]) if rest[0].isdigit() else 0
        )
        layers[name] = (min(max(first + level, 0), stages - 1), attn.to_k.in_features)
    return layers
