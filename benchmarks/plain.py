"""The plain form of the same computation, which `speed.py` holds the pipeline against.

As public implementations of the method compute it: channels first in memory; the reference's tokens repeated for every
frame and projected anew in every layer at every step; both halves under guidance attend to them, after which the
unconditional half is computed again without; queries, keys and an attention for one image token; frames decoded one by
one. Written for itself, over the weights of our networks: nothing of their code is called but a layer's parameters.

Shapes: B samples, F frames, R rows (B * F), N tokens (h * w), C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainUNet:
    """The denoising UNet of Animate Anyone (no environment, no objects).

    Args:
        unet: whose weights are used; those of convolutions are copied, channels first.
    """

    def __init__(self, unet: Any) -> None:
        self.unet = unet
        self.kernels = _kernels(unet)
        mid_up = unet.config["reference_blocks"] == "mid_up"
        self.with_reference = ("mid_block.", "up_blocks.") if mid_up else ("mid_block.", "up_blocks.", "down_blocks.")

    def __call__(self, latents: Tensor, t: int, tokens: Tensor, pose: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        """Both halves of a step.

        Args:
            latents: ``(2 B, channels, F, h, w)``, the unconditional half first.
            t: the timestep.
            tokens: ``(2 B, 1, width)``.
            pose: ``(2 B, C, F, h, w)``.
            features: ReferenceNet's, layer -> ``(1, M, C)``.

        Returns:
            ``(2 B, channels, F, h, w)``.
        """
        unet, frames = self.unet, latents.shape[2]
        time = self._time(t, len(latents) * frames, latents)
        tokens = tokens.repeat_interleave(frames, 0)
        rows = [x.transpose(1, 2).reshape(-1, x.shape[1], *x.shape[3:]) for x in (latents, pose)]
        x = self._conv(unet.conv_in, rows[0].contiguous()) + rows[1].to(latents.dtype)
        skips = [x]
        for number, block in enumerate(unet.down_blocks):
            for layer in range(len(block.resnets)):
                x = self._layer(block, f"down_blocks.{number}", layer, x, time, tokens, features, frames)
                skips.append(x)
            for down in block.downsamplers or ():
                x = self._conv(down.conv, x)
                skips.append(x)
        middle = unet.mid_block
        x = self._resnet(middle.resnets[0], x, time)
        for layer in range(len(middle.attentions)):
            x = self._space(middle.attentions[layer], f"mid_block.attentions.{layer}", x, tokens, features)
            if hasattr(middle, "motion_modules"):
                x = self._motion(middle.motion_modules[layer], x, frames)
            x = self._resnet(middle.resnets[layer + 1], x, time)
        for number, block in enumerate(unet.up_blocks):
            for layer in range(len(block.resnets)):
                x = torch.cat([x, skips.pop()], 1)
                x = self._layer(block, f"up_blocks.{number}", layer, x, time, tokens, features, frames)
            for up in block.upsamplers or ():
                x = self._conv(up.conv, F.interpolate(x, size=skips[-1].shape[-2:], mode="nearest"))
        x = self._conv(unet.conv_out, F.silu(_group_norm(unet.conv_norm_out, x)))
        return x.unflatten(0, (-1, frames)).transpose(1, 2)

    def _time(self, t: int, rows: int, like: Tensor) -> Tensor:
        # Sinusoidal embedding, cosines first, then two layers; the same for every row.
        first = self.unet.time_embedding.linear_1
        half = first.in_features // 2
        angles = t * torch.exp(torch.arange(half, device=like.device) * (-math.log(10000) / half))
        embedding = torch.cat([angles.cos(), angles.sin()]).to(like.dtype).expand(rows, -1)
        return _linear(self.unet.time_embedding.linear_2, F.silu(_linear(first, embedding)))

    def _layer(
        self,
        block: Any,
        name: str,
        layer: int,
        x: Tensor,
        time: Tensor,
        tokens: Tensor,
        features: Mapping[str, Tensor],
        frames: int,
    ) -> Tensor:
        x = self._resnet(block.resnets[layer], x, time)
        if hasattr(block, "attentions"):
            x = self._space(block.attentions[layer], f"{name}.attentions.{layer}", x, tokens, features)
        return self._motion(block.motion_modules[layer], x, frames)

    def _resnet(self, resnet: Any, x: Tensor, time: Tensor | None = None) -> Tensor:
        hidden = self._conv(resnet.conv1, F.silu(_group_norm(resnet.norm1, x)))
        if time is not None:
            hidden = hidden + _linear(resnet.time_emb_proj, F.silu(time))[:, :, None, None]
        hidden = self._conv(resnet.conv2, F.silu(_group_norm(resnet.norm2, hidden)))
        return hidden + (x if resnet.conv_shortcut is None else self._conv(resnet.conv_shortcut, x))

    def _space(self, layer: Any, name: str, x: Tensor, tokens: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        height, width = x.shape[-2:]
        linear = isinstance(layer.proj_in, nn.Linear)
        hidden = _group_norm(layer.norm, x)
        if not linear:
            hidden = self._conv(layer.proj_in, hidden)
        hidden = hidden.flatten(2).transpose(1, 2).contiguous()  # (R, N, C)
        if linear:
            hidden = _linear(layer.proj_in, hidden)
        for number, block in enumerate(layer.transformer_blocks):
            feature = features.get(f"{name}.transformer_blocks.{number}")
            own = _layer_norm(block.norm1, hidden)
            if feature is None or not name.startswith(self.with_reference):
                hidden = hidden + _attention(block.attn1, own, own)
            else:
                half = len(own) // 2
                seen = torch.cat([own, feature.repeat(len(own), 1, 1)], 1)
                out = _attention(block.attn1, own, seen)
                out[:half] = _attention(block.attn1, own[:half], own[:half])
                hidden = hidden + out
            hidden = hidden + _attention(block.attn2, _layer_norm(block.norm2, hidden), tokens)
            hidden = hidden + _feed_forward(block.ff, _layer_norm(block.norm3, hidden))
        if linear:
            hidden = _linear(layer.proj_out, hidden)
        hidden = hidden.transpose(1, 2).unflatten(2, (height, width)).contiguous()
        return x + (hidden if linear else self._conv(layer.proj_out, hidden))

    def _motion(self, layer: Any, x: Tensor, frames: int) -> Tensor:
        if not hasattr(layer, "transformer_blocks"):  # a network of single frames
            return x
        rows, channels, height, width = x.shape
        hidden = _group_norm(layer.norm, x).view(-1, frames, channels, height * width)
        hidden = hidden.permute(0, 3, 1, 2).reshape(-1, frames, channels)  # (B * N, F, C)
        hidden = _linear(layer.proj_in, hidden)
        for block in layer.transformer_blocks:
            place = block.pos_embed.pe[:, :frames]
            for norm, attention in ((block.norm1, block.attn1), (block.norm2, block.attn2)):
                own = _layer_norm(norm, hidden) + place
                hidden = hidden + _attention(attention, own, own)
            hidden = hidden + _feed_forward(block.ff, _layer_norm(block.norm3, hidden))
        hidden = _linear(layer.proj_out, hidden).view(-1, height * width, frames, channels)
        return x + hidden.permute(0, 2, 3, 1).reshape(rows, channels, height, width)

    def _conv(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernels[conv], conv.bias, conv.stride, conv.padding)


class PlainDecoder:
    """Stable Diffusion's VAE decoder, frame by frame.

    Args:
        vae: whose weights are used; those of convolutions are copied, channels first.
    """

    def __init__(self, vae: Any) -> None:
        self.vae, self.kernels = vae, _kernels(vae)

    def __call__(self, latents: Tensor) -> Tensor:
        """Pictures ``(n, 3, height, width)`` of latents ``(n, channels, h, w)``, not scaled."""
        return torch.cat([self._decode(one[None]) for one in latents])

    def _decode(self, x: Tensor) -> Tensor:
        decoder = self.vae.decoder
        if self.vae.post_quant_conv is not None:
            x = self._conv(self.vae.post_quant_conv, x)
        x = self._conv(decoder.conv_in, x)
        middle = decoder.mid_block
        x = self._resnet(middle.resnets[0], x)
        for attention, resnet in zip(middle.attentions, middle.resnets[1:], strict=True):
            if attention is not None:
                tokens = _group_norm(attention.group_norm, x).flatten(2).transpose(1, 2)
                x = x + _attention(attention, tokens, tokens).transpose(1, 2).unflatten(2, x.shape[-2:])
            x = self._resnet(resnet, x)
        for block in decoder.up_blocks:
            for resnet in block.resnets:
                x = self._resnet(resnet, x)
            for up in block.upsamplers or ():
                x = self._conv(up.conv, F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self._conv(decoder.conv_out, F.silu(_group_norm(decoder.conv_norm_out, x)))

    _resnet = PlainUNet._resnet
    _conv = PlainUNet._conv


def _kernels(network: nn.Module) -> dict[nn.Module, Tensor]:
    # Of every convolution, channels first in memory whatever the network's own layout.
    convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    return {conv: conv.weight.detach().clone(memory_format=torch.contiguous_format) for conv in convolutions}


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)  # type: ignore[arg-type]


def _group_norm(norm: Any, x: Tensor) -> Tensor:
    return F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)


def _layer_norm(norm: Any, x: Tensor) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _attention(attention: Any, own: Tensor, seen: Tensor) -> Tensor:
    layers: Sequence[tuple[Any, Tensor]] = ((attention.to_q, own), (attention.to_k, seen), (attention.to_v, seen))
    query, key, value = (_linear(m, x).unflatten(-1, (attention.heads, -1)).transpose(1, 2) for m, x in layers)
    out = F.scaled_dot_product_attention(query, key, value)
    return _linear(attention.to_out[0], out.transpose(1, 2).flatten(-2))


def _feed_forward(layer: Any, x: Tensor) -> Tensor:
    hidden, gate = _linear(layer.net[0].proj, x).chunk(2, -1)
    return _linear(layer.net[2], hidden * F.gelu(gate))
