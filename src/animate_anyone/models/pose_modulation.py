"""Depth-wise pose modulation (Animate Anyone 2): structured depth, the depth of the limbs alone, is brought into the
Pose Guider's features of the skeleton, so that each limb knows where the others are, in front of it or behind.

Shapes: B rows (samples x frames), N tokens (h*w), C channels of the features before the last convolution.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor, nn

from animate_anyone.errors import InputError
from animate_anyone.models.pose_guider import Layout, PoseGuider, places


class DepthAttention(nn.Module):
    """Cross-attention within a frame: each place of the skeleton asks all places of the structured depth.

    Args:
        channels: of both features, and of the result.
        num_heads: they share the channels out among them.
        position_frequencies: octaves of sine and cosine of a cell's place that join queries and keys. Depth has no
            colours: without places a limb could not tell its own from another's.
        downscale: keys and values are means over squares of so many cells a side.
    """

    # As the attention processors have it: None means the default backend.
    _attention_backend = None

    def __init__(self, channels: int, num_heads: int, position_frequencies: int, downscale: int) -> None:
        super().__init__()
        self.num_heads, self.octaves, self.downscale = num_heads, position_frequencies, downscale
        with_place = channels + 4 * position_frequencies
        self.norm_skeleton, self.norm_depth = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.to_q = nn.Linear(with_place, channels, bias=False)
        self.to_k = nn.Linear(with_place, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)

    @property
    def head_size(self) -> int:
        """Channels per head."""
        return self.to_q.out_features // self.num_heads

    def forward(self, skeleton: Tensor, depth: Tensor) -> Tensor:
        """Depth as each place of the skeleton attends to it: ``(B, C, h, w)``, as each of the two."""
        height, width = skeleton.shape[2:]
        where = places(height, width, self.octaves).to(skeleton).expand(len(skeleton), -1, -1, -1)
        asking, asked = self.norm_skeleton(_tokens(skeleton)), self.norm_depth(_tokens(self._pool(depth)))
        query = self.to_q(torch.cat([asking, _tokens(where)], 2))
        key = self.to_k(torch.cat([asked, _tokens(self._pool(where))], 2))
        query, key, value = (x.unflatten(2, (self.num_heads, -1)) for x in (query, key, self.to_v(asked)))
        out = self.to_out(dispatch_attention_fn(query, key, value, backend=self._attention_backend).flatten(2))
        return out.transpose(1, 2).unflatten(2, (height, width))

    def _pool(self, x: Tensor) -> Tensor:
        if self.downscale == 1:
            return x
        return F.avg_pool2d(x, self.downscale, ceil_mode=True, count_include_pad=False)


class PoseModulation(ModelMixin, ConfigMixin):
    """Takes the Pose Guider's place: the same features, and what structured depth adds to them.

    Two towers of the Pose Guider's convolutions, one for the skeleton picture, one for structured depth;
    cross-attention brings depth into the skeleton's features; a convolution over time and space, added to its input,
    evens out what is estimated wrongly in single frames; a convolution that starts at zero leads out. Its result is
    added to that of the Pose Guider's own last convolution, so that with a Pose Guider's weights
    (:meth:`from_pose_guider`) it starts as that Pose Guider, bit for bit.

    Args:
        out_channels, block_out_channels, layout, conditioning_channels, position_frequencies: of ``PoseGuider``; the
            tower of depth is as that of the skeleton, with one channel in.
        num_attention_heads: share the last of ``block_out_channels`` (and places) out among them.
        attention_position_frequencies: octaves of places that join queries and keys; 0: none. The paper does
            not say.
        attention_downscale: keys and values are pooled by this per side: attention costs its square less.
        num_motion_frames: over so many frames the convolution goes, an odd number.
    """

    @register_to_config
    def __init__(
        self,
        out_channels: int = 320,
        block_out_channels: tuple[int, ...] = (16, 32, 64, 128),
        layout: Layout = "paper",
        conditioning_channels: int = 3,
        position_frequencies: int = 0,
        num_attention_heads: int = 8,
        attention_position_frequencies: int = 6,
        attention_downscale: int = 1,
        num_motion_frames: int = 3,
    ) -> None:
        super().__init__()
        channels = block_out_channels[-1] + 4 * position_frequencies
        if channels % num_attention_heads:
            raise ValueError(f"{channels} channels cannot be shared among {num_attention_heads} attention heads")
        if num_motion_frames % 2 == 0:
            raise ValueError(f"num_motion_frames is {num_motion_frames}; it is an odd number")
        options: dict[str, Any] = {"layout": layout, "position_frequencies": position_frequencies}
        self.skeleton = PoseGuider(
            out_channels, block_out_channels, conditioning_channels=conditioning_channels, **options
        )
        self.depth = PoseGuider(out_channels, block_out_channels, conditioning_channels=1, **options)
        # The towers end before their last convolution. The skeleton's is applied here, the depth's is not needed.
        self.conv_out = self.skeleton.conv_out
        self.skeleton.conv_out = self.depth.conv_out = nn.Identity()  # type: ignore[assignment]
        self.attention = DepthAttention(
            channels, num_attention_heads, attention_position_frequencies, attention_downscale
        )
        self.norm_motion = nn.LayerNorm(channels)
        self.motion = nn.Conv3d(channels, channels, (num_motion_frames, 3, 3), padding=(num_motion_frames // 2, 1, 1))
        self.modulation_out = nn.Conv2d(channels, out_channels, 3, padding=1)
        with torch.no_grad():
            # Single frames train the middle one alone; the others must not have a say before they are trained.
            middle = num_motion_frames // 2
            self.motion.weight[:, :, :middle] = 0
            self.motion.weight[:, :, middle + 1 :] = 0
            for parameter in self.modulation_out.parameters():
                parameter.zero_()

    @classmethod
    def from_pose_guider(cls, guider: PoseGuider, **options: Any) -> PoseModulation:
        """Start from a Pose Guider's weights, in its dtype; ``options`` of the constructor beyond the Pose Guider's."""
        known = cls._get_init_keys(cls)
        model = cls(**{**{k: v for k, v in guider.config.items() if k in known}, **options})
        weights = {k if k.startswith("conv_out.") else f"skeleton.{k}": v for k, v in guider.state_dict().items()}
        model.load_state_dict(model.state_dict() | weights)
        return model if guider.dtype == torch.float32 else model.to(guider.dtype)

    @property
    def reach(self) -> int:
        """So many frames before and after a frame have a say in its features, where there is depth."""
        return self.config["num_motion_frames"] // 2

    def picture_size(self, size: tuple[int, int], latent_downscale: int = 8) -> tuple[int, int]:
        """The size ``(width, height)`` at which to draw poses, and their depth, for a video of ``size``."""
        return self.skeleton.picture_size(size, latent_downscale)

    def beside(self, pictures: Tensor, reference: Tensor | None) -> Tensor:
        """As :meth:`PoseGuider.beside`."""
        return self.skeleton.beside(pictures, reference)

    def forward(self, pictures: Tensor, depth: Tensor | None = None) -> Tensor:
        """Encode poses.

        Args:
            pictures: ``(batch, channels, frames, height, width)``, RGB in [0, 1], as the Pose Guider takes them.
            depth: structured depth, ``(batch, 1, frames, height, width)`` in [0, 1]: 0 where no limb is, nearer is
                larger. ``None``: the Pose Guider's features, nothing added.

        Returns:
            ``(batch, out_channels, frames, height / downscale, width / downscale)``.

        Raises:
            InputError: depth of another shape than the pictures'.
        """
        batch = len(pictures)
        skeleton = self.skeleton(pictures).transpose(1, 2).flatten(0, 1)  # (B, C, h, w)
        out = self.conv_out(skeleton)
        if depth is not None:
            wanted = (batch, 1, *pictures.shape[2:])
            if depth.shape != wanted:
                raise InputError(f"structured depth is {tuple(depth.shape)}; beside these pictures it is {wanted}")
            limbs = self.depth(depth).transpose(1, 2).flatten(0, 1)
            out = out + self.modulation_out(self._over_time(skeleton + self.attention(skeleton, limbs), batch))
        return out.unflatten(0, (batch, -1)).transpose(1, 2)

    def _over_time(self, features: Tensor, batch: int) -> Tensor:
        # Normalised place by place: the convolution alone mixes frames.
        even = self.norm_motion(features.movedim(1, -1)).movedim(-1, 1)
        video = even.unflatten(0, (batch, -1)).transpose(1, 2)  # (batch, C, frames, h, w)
        return features + self.motion(video).transpose(1, 2).flatten(0, 1)


def _tokens(x: Tensor) -> Tensor:
    # (B, C, h, w) -> (B, N, C)
    return x.flatten(2).transpose(1, 2)
