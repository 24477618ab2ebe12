"""Object guider (Animate Anyone 2): the latents of what the character touches become features for the middle and up
blocks of the denoising UNet, where spatial blending mixes them in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from animate_anyone.errors import InputError


@dataclass(frozen=True)
class ObjectFeatures:
    """What the object guider says of some frames.

    Attributes:
        levels: finest first, each ``(batch, width of the level, frames, height, width)`` on that level's grid.
        present: ``(batch, frames)`` bool, where there is an object at all: the other frames are not blended.
    """

    levels: tuple[Tensor, ...]
    present: Tensor

    def of_frames(self, frames: list[int] | slice) -> ObjectFeatures:
        """Those of some frames, as a window needs them."""
        return ObjectFeatures(tuple(level[:, :, frames] for level in self.levels), self.present[:, frames])

    @classmethod
    def of_samples(cls, samples: Sequence[ObjectFeatures]) -> ObjectFeatures:
        """Several batches of the same frames and grid as one, in order."""
        levels = zip(*(sample.levels for sample in samples), strict=True)
        return cls(tuple(torch.cat(level) for level in levels), torch.cat([sample.present for sample in samples]))

    def absent(self) -> ObjectFeatures:
        """The same shapes, nothing of it blended: for samples whose condition is dropped."""
        return ObjectFeatures(self.levels, torch.zeros_like(self.present))


class ObjectGuider(ModelMixin, ConfigMixin):
    """A light, fully convolutional net: one 3x3 convolution per level of the denoising UNet, the first of stride 1,
    the others of stride 2.

    The paper's four convolutions are those of a UNet with four levels. The last level feeds the middle block and the
    first up block, the one before it the second up block, and so on.

    Args:
        in_channels: channels of the latents.
        block_out_channels: widths of the denoising UNet's levels.
        only_objects: features are zero in cells that no object reaches through the convolutions so far: nothing is
            blended there. (Ours.) Else the convolutions' biases are blended in there too.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        only_objects: bool = False,
    ) -> None:
        super().__init__()
        widths = (in_channels, *block_out_channels)
        # Padded by 1 as the UNet's own downsampling is: an odd side n becomes (n + 1) / 2 in both.
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=1 if level == 0 else 2, padding=1)
            for level, (a, b) in enumerate(pairwise(widths))
        )
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_normal_(parameter)
            else:
                nn.init.zeros_(parameter)

    def forward(self, latents: Tensor) -> ObjectFeatures:
        """Features of object frames.

        Args:
            latents: ``(batch, in_channels, frames, height, width)``, scaled as the VAE's latents are, zeros where no
                object is. A frame of zeros alone has no object: it is left out of the blending.

        Returns:
            One level per entry of ``block_out_channels``; level ``i`` is ``height / 2**i`` by ``width / 2**i``,
            rounded up.

        Raises:
            InputError: the latents have other channels.
        """
        batch, channels = latents.shape[:2]
        if channels != self.config["in_channels"]:
            raise InputError(
                f"object latents have {channels} channels; this object guider takes {self.config['in_channels']}"
            )
        x = latents.transpose(1, 2).flatten(0, 1)
        reached = (x != 0).any(1, keepdim=True).to(x.dtype)
        levels = []
        for number, conv in enumerate(self.convs):
            x = conv(F.silu(x) if number else x)
            if self.config["only_objects"]:
                reached = F.max_pool2d(reached, 3, 1 if number == 0 else 2, 1)
                x = x * reached
            levels.append(x.unflatten(0, (batch, -1)).transpose(1, 2))
        return ObjectFeatures(tuple(levels), (latents != 0).any(4).any(3).any(1))
