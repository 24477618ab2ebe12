"""Pose Guider (Animate Anyone, section 3.2): the pose picture becomes features of the latent's size,
added to the noise latent after the denoising UNet's first convolution.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

Layout = Literal["paper", "open"]


class PoseGuider(ModelMixin, ConfigMixin):
    """A light convolutional net with a zero-initialised last convolution.

    Two layouts:

    * ``paper``: one 4x4 convolution of stride 2 per entry of ``block_out_channels`` (16, 32, 64, 128),
      Gaussian initial weights. Four of them divide by 16, the latent grid divides by 8, so the pose
      picture is drawn at twice the video's size.
    * ``open``: the layout of the published open checkpoints: 3x3 convolutions, a pair per step of
      ``block_out_channels``, the second of each pair with stride 2; the picture has the video's size.

    Args:
        out_channels: width of the denoising UNet's first level.
        block_out_channels: widths of the layers.
        layout: ``paper`` or ``open``.
        conditioning_channels: channels of the pose picture: 3; or 6, that of the reference's own pose behind
            each, so that what has not moved shows (:meth:`beside`; not in the paper).
        position_frequencies: so many octaves of sine and cosine of each cell's place in the frame join
            the features before the last convolution; 0 as in the paper. Networks that start from Stable
            Diffusion know places already; small ones trained from nothing are slow to learn them.
    """

    @register_to_config
    def __init__(
        self,
        out_channels: int = 320,
        block_out_channels: tuple[int, ...] = (16, 32, 64, 128),
        layout: Layout = "paper",
        conditioning_channels: int = 3,
        position_frequencies: int = 0,
    ) -> None:
        super().__init__()
        if layout not in ("paper", "open"):
            raise ValueError(f"layout {layout!r} is not known; it is 'paper' or 'open'")
        first, last = block_out_channels[0], block_out_channels[-1]
        if layout == "paper":
            self.conv_in = nn.Conv2d(conditioning_channels, first, 4, stride=2, padding=1)
            self.blocks = nn.ModuleList(
                nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(block_out_channels)
            )
            for conv in (self.conv_in, *self.blocks):
                nn.init.normal_(conv.weight, std=(2.0 / (conv.in_channels * 16)) ** 0.5)
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        else:
            self.conv_in = nn.Conv2d(conditioning_channels, first, 3, padding=1)
            self.blocks = nn.ModuleList()
            for a, b in pairwise(block_out_channels):
                self.blocks.append(nn.Conv2d(a, a, 3, padding=1))
                self.blocks.append(nn.Conv2d(a, b, 3, padding=1, stride=2))
        self.conv_out = nn.Conv2d(last + 4 * position_frequencies, out_channels, 3, padding=1)
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)

    @property
    def downscale(self) -> int:
        """By how much the pose picture is larger than the features, per side."""
        return 2 ** sum(conv.stride[0] == 2 for conv in (self.conv_in, *self.blocks))

    def picture_size(self, size: tuple[int, int], latent_downscale: int = 8) -> tuple[int, int]:
        """The size ``(width, height)`` at which to draw poses for a video of ``size``."""
        return (size[0] * self.downscale // latent_downscale, size[1] * self.downscale // latent_downscale)

    def beside(self, pictures: Tensor, reference: Tensor | None) -> Tensor:
        """What :meth:`forward` takes: ``pictures``, and behind them the reference's where this network wants it.

        Args:
            pictures: ``(batch, 3, frames, height, width)``.
            reference: ``(batch, 3, 1, height, width)``.
        """
        if self.config["conditioning_channels"] == pictures.shape[1]:
            return pictures
        if reference is None:
            raise ValueError("this Pose Guider takes the reference's pose beside each")
        return torch.cat([pictures, reference.expand_as(pictures)], 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Encode pose pictures.

        Args:
            pictures: ``(batch, channels, frames, height, width)``, RGB in [0, 1].

        Returns:
            ``(batch, out_channels, frames, height / downscale, width / downscale)``.
        """
        batch = pictures.shape[0]
        x = pictures.transpose(1, 2).flatten(0, 1)
        for conv in (self.conv_in, *self.blocks):
            x = F.silu(conv(x))
        if self.config["position_frequencies"]:
            where = places(x.shape[-2], x.shape[-1], self.config["position_frequencies"]).to(x)
            x = torch.cat([x, where.expand(len(x), -1, -1, -1)], 1)
        return self.conv_out(x).unflatten(0, (batch, -1)).transpose(1, 2)


def places(height: int, width: int, octaves: int) -> Tensor:
    """Where each cell lies in the frame: sine and cosine of x and y, ``(1, 4 * octaves, height, width)``."""
    frequencies = torch.pi * 2.0 ** torch.arange(octaves)
    x, y = ((torch.arange(cells) + 0.5) / cells for cells in (width, height))
    waves = [
        wave(angle * frequencies[:, None, None])
        for angle in (x.view(1, 1, -1), y.view(1, -1, 1))
        for wave in (torch.sin, torch.cos)
    ]
    return torch.cat([wave.expand(octaves, height, width) for wave in waves])[None]
