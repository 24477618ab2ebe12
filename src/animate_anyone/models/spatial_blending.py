"""Spatial blending (Animate Anyone 2): after each spatial attention of the middle and up blocks, features of the
objects are mixed into those of the noise, by weights that both together say.

The paper blends the hidden state that flows on through the block, after the residual of spatial attention
(``hidden``): with alpha = 1 the object's features take its place. Models before that were trained to blend what
attention adds to the hidden state, before the residual (``attention``).

Shapes: B rows (samples x frames), N tokens (h*w), C channels.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from animate_anyone.errors import InputError
from animate_anyone.models.object_guider import ObjectFeatures
from animate_anyone.models.reference_attention import (
    ReferenceAttentionProcessor,
    ReferenceKeysValues,
    spatial_attention_layers,
)

# How much of the objects is in the blend before anything is trained.
START = {"paper": 0.5, "identity": 3e-4}
Start = Literal["paper", "identity"]
Place = Literal["hidden", "attention"]
PLACES = ("hidden", "attention")


class SpatialBlending(nn.Module):
    """``z = alpha * z_object + (1 - alpha) * z_noise`` with ``alpha = sigmoid(conv([z_noise, z_object]))``.

    The convolution (3x3) has weights of zero at the start, so that alpha is the same everywhere. It gives one alpha per
    place, as the word blends in space, and not one per channel too, which the paper leaves open.

    Args:
        channels: of both features.
        start: ``paper``: alpha is 0.5; ``identity``: alpha is 3e-4, by the bias, so that a network that knew no
            objects stays what it was.
    """

    def __init__(self, channels: int, start: Start = "paper") -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 1, 3, padding=1)
        nn.init.zeros_(self.conv.weight)
        nn.init.constant_(self.conv.bias, math.log(START[start] / (1 - START[start])))  # type: ignore[arg-type]

    def forward(self, noise: Tensor, objects: Tensor, present: Tensor | None = None) -> Tensor:
        """Blend.

        Args:
            noise, objects: ``(B, C, h, w)``.
            present: ``(B,)`` bool; rows without an object stay as they are, bit for bit.

        Returns:
            ``(B, C, h, w)``.
        """
        alpha = torch.sigmoid(self.conv(torch.cat([noise, objects], 1)))
        blend = alpha * objects + (1 - alpha) * noise
        return blend if present is None else torch.where(present.view(-1, 1, 1, 1), blend, noise)


class BlendingProcessor(ReferenceAttentionProcessor):
    """Reference attention, then the blending of its layer: the submodule ``spatial_blending`` of the attention.

    What is blended is the attention's output, before it is added to the hidden state that runs through the block.
    Without objects it is reference attention.
    """

    def __init__(self, name: str, level: int) -> None:
        super().__init__(name)
        self.level = level

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        reference: ReferenceKeysValues | None = None,
        objects: ObjectFeatures | None = None,
        **_: Any,
    ) -> Tensor:
        out = super().__call__(attn, hidden_states, reference=reference)  # (B, N, C)
        if objects is None:
            return out
        return blend_tokens(attn.spatial_blending, out, objects, self.level, self.name)


class HiddenBlending(nn.Module):
    """Blends the hidden state of a transformer block, after spatial attention and its residual.

    It stands in the place that diffusers' ``BasicTransformerBlock`` has for a module there, ``fuser``, and which it
    calls where ``cross_attention_kwargs`` holds ``gligen``: see :func:`blending_arguments`.
    """

    def __init__(self, blending: SpatialBlending, name: str, level: int) -> None:
        super().__init__()
        self.spatial_blending = blending
        self.name, self.level = name, level

    def forward(self, hidden_states: Tensor, objects: ObjectFeatures) -> Tensor:
        return blend_tokens(self.spatial_blending, hidden_states, objects, self.level, self.name)


class NoBlending(nn.Module):
    """The same place in blocks that blend nothing; has no weights."""

    def forward(self, hidden_states: Tensor, objects: ObjectFeatures) -> Tensor:
        return hidden_states


def blend_tokens(blending: nn.Module, tokens: Tensor, objects: ObjectFeatures, level: int, name: str) -> Tensor:
    """Blend one level of the objects' features into the tokens ``(B, N, C)`` of the transformer block ``name``.

    Raises:
        InputError: the features are of other rows, another grid or other channels than the tokens.
    """
    features = objects.levels[level].transpose(1, 2).flatten(0, 1)  # (B, C, h, w)
    rows, channels, height, width = features.shape
    if tokens.shape != (rows, height * width, channels):
        raise InputError(
            f"object features for {name} are {rows} rows of {height}x{width} cells, {channels} channels; the"
            f" denoising UNet has {tokens.shape[0]} rows of {tokens.shape[1]} cells, {tokens.shape[2]} channels there:"
            " give object latents of the same samples, frames and size as the noise"
        )
    noise = tokens.transpose(1, 2).unflatten(2, (height, width))
    blend: Tensor = blending(noise, features.to(tokens.dtype), objects.present.flatten())
    return blend.flatten(2).transpose(1, 2)


def blending_arguments(objects: ObjectFeatures | None, place: Place) -> dict[str, Any]:
    """What ``cross_attention_kwargs`` of a UNet must hold so that ``objects`` are blended in at ``place``."""
    if objects is None:
        return {}
    return {"gligen": {"objs": objects}} if place == "hidden" else {"objects": objects}


def blended_layers(unet: nn.Module, num_levels: int) -> dict[str, tuple[Attention, int]]:
    """The spatial attentions of the middle and up blocks, by name, and the level of object features that each takes."""
    layers = {}
    for name, attn in spatial_attention_layers(unet).items():
        block, number = name.split(".")[:2]
        if block == "mid_block":
            layers[name] = (attn, num_levels - 1)
        elif block == "up_blocks":
            layers[name] = (attn, num_levels - 1 - int(number))
    return layers


def add_blending(unet: nn.Module, num_levels: int, start: Start, place: Place) -> None:
    """Give each of :func:`blended_layers` a blending, and what applies it at ``place``."""
    layers = blended_layers(unet, num_levels)
    for name, (attn, level) in layers.items():
        blending = SpatialBlending(attn.to_q.in_features, start)
        if place == "hidden":
            unet.get_submodule(name).fuser = HiddenBlending(blending, name, level)
        else:
            attn.spatial_blending = blending
            attn.set_processor(BlendingProcessor(name, level))
    if place == "hidden":
        for name in spatial_attention_layers(unet).keys() - layers.keys():
            unet.get_submodule(name).fuser = NoBlending()
