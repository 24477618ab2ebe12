"""First convolutions of the UNets with slots for what joins the latents: pose features, and the environment."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvWithPose(nn.Conv2d):
    """A first convolution that takes latents and pose features joined on channels.

    It convolves the first ``in_channels`` and adds the rest to the result, so that pose enters after
    the convolution without a copy of the UNet's forward. Its keys are those of ``Conv2d``.
    """

    @classmethod
    def like(cls, conv: nn.Conv2d) -> ConvWithPose:
        """The same convolution, sharing its parameters, with the slot for pose features."""
        twin = cls(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)  # type: ignore[arg-type]
        twin.weight, twin.bias = conv.weight, conv.bias
        return twin

    @staticmethod
    def join(latents: Tensor, pose_features: Tensor | None) -> Tensor:
        """Latents and pose features (same batch, frames and grid) on one channel axis."""
        return latents if pose_features is None else torch.cat([latents, pose_features.to(latents.dtype)], 1)

    def forward(self, input: Tensor) -> Tensor:
        out = super().forward(input[:, : self.in_channels])
        pose = input[:, self.in_channels :]
        return out + pose if pose.shape[1] else out


class ConvWithEnvironment(ConvWithPose):
    """The same, convolving the last ``environment_channels`` of its input apart and adding what comes out.

    One weight holds both. While its part for the environment is zero the result is that of a convolution without,
    bit for bit: no sum runs in another order.
    """

    environment_channels = 0

    @classmethod
    def over(cls, conv: nn.Conv2d, environment_channels: int) -> ConvWithEnvironment:
        """As :meth:`ConvWithPose.like`, for a convolution whose last input channels are the environment's."""
        twin = cls.like(conv)
        assert isinstance(twin, cls)
        twin.environment_channels = environment_channels
        return twin

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        own = self.in_channels - self.environment_channels
        latents = super()._conv_forward(input[:, :own], weight[:, :own], bias)
        return latents + super()._conv_forward(input[:, own:], weight[:, own:], None)
