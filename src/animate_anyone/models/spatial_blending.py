"""Spatial blending (Animate Anyone 2): after each spatial attention of the middle and up blocks, features of the
objects are mixed into those of the noise, by weights that both together say.

The paper blends the hidden state that flows on through the block, after the residual of spatial attention
(``hidden``): with alpha = 1 the object's features take its place. Models before that were trained to blend what
attention adds to the hidden state, before the residual (``attention``).

Stable Diffusion has spatial attention at its finest level too. Small networks may have none there, where alone thin
objects can be told apart; for them blending can follow each residual block of up blocks without attention as well
(``levels="all"``, ours).

Shapes: B rows (samples x frames), N tokens (h*w), C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
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
Levels = Literal["attention", "all"]
LEVELS = ("attention", "all")


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
            noise, objects: ``(B, C, h, w)``; cells in which all features of objects are zero stay as they are.
            present: ``(B,)`` bool; rows without an object stay as they are, bit for bit.

        Returns:
            ``(B, C, h, w)``.
        """
        alpha = torch.sigmoid(self.conv(torch.cat([noise, objects], 1)))
        blend = alpha * objects + (1 - alpha) * noise
        blend = torch.where((objects != 0).any(1, keepdim=True), blend, noise)
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


class _WithObjects(nn.Module):
    """A residual block of an up block without attention, whose result ``(B, C, h, w)`` is blended."""

    def __init__(self, resnet: nn.Module, blend: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.resnet, self.blend = resnet, blend

    def forward(self, *inputs: Any, **options: Any) -> Tensor:
        return self.blend(self.resnet(*inputs, **options))


def blend_tokens(blending: nn.Module, tokens: Tensor, objects: ObjectFeatures, level: int, name: str) -> Tensor:
    """Blend one level of the objects' features into the tokens ``(B, N, C)`` of the transformer block ``name``.

    Raises:
        InputError: the features are of other rows, another grid or other channels than the tokens.
    """
    height, width = objects.levels[level].shape[3:]
    if tokens.shape[1] != height * width:
        raise _misfit(name, objects, level, tokens.shape[0], tokens.shape[1], tokens.shape[2])
    noise = tokens.transpose(1, 2).unflatten(2, (height, width))
    return _blend(blending, noise, objects, level, name).flatten(2).transpose(1, 2)


def _blend(blending: Any, noise: Tensor, objects: ObjectFeatures, level: int, name: str) -> Tensor:
    # As `blend_tokens`, of (B, C, h, w).
    features = objects.levels[level].transpose(1, 2).flatten(0, 1)
    if features.shape != noise.shape:
        raise _misfit(name, objects, level, len(noise), noise.shape[2] * noise.shape[3], noise.shape[1])
    blend: Tensor = blending(noise, features.to(noise.dtype), objects.present.flatten())
    return blend


def _misfit(name: str, objects: ObjectFeatures, level: int, rows: int, cells: int, channels: int) -> InputError:
    samples, width, frames, *grid = objects.levels[level].shape
    return InputError(
        f"object features for {name} are {samples * frames} rows of {grid[0]}x{grid[1]} cells, {width} channels; the"
        f" denoising UNet has {rows} rows of {cells} cells, {channels} channels there:"
        " give object latents of the same samples, frames and size as the noise"
    )


def blending_arguments(objects: ObjectFeatures, place: Place) -> dict[str, Any]:
    """What ``cross_attention_kwargs`` of a UNet must hold so that ``objects`` are blended in at ``place``."""
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


def _blocks_without_attention(unet: Any, num_levels: int) -> Iterator[tuple[str, Any, int]]:
    """Up blocks without spatial attention: name, block, and the level of object features that it takes."""
    attended = {name.split(".")[1] for name in blended_layers(unet, num_levels) if name.startswith("up_blocks.")}
    for number, block in enumerate(unet.up_blocks):
        if str(number) not in attended:
            yield f"up_blocks.{number}", block, num_levels - 1 - number


def add_blending(unet: nn.Module, num_levels: int, start: Start, place: Place, levels: Levels) -> None:
    """Give each of :func:`blended_layers` a blending, and what applies it at ``place``; see :data:`Levels`."""
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
    for _, block, _ in _blocks_without_attention(unet, num_levels) if levels == "all" else ():
        # Of the up block, not of its residual blocks, which may be sharded or compiled each by itself.
        block.spatial_blending = nn.ModuleList(SpatialBlending(resnet.out_channels, start) for resnet in block.resnets)


@contextmanager
def blended_residual_blocks(unet: nn.Module, objects: ObjectFeatures) -> Iterator[None]:
    """Within this context ``objects`` are blended in after each residual block of up blocks without attention."""
    plain = {}
    try:
        for block_name, block, level in _blocks_without_attention(unet, len(objects.levels)):
            for number, (resnet, blending) in enumerate(zip(block.resnets, block.spatial_blending, strict=True)):
                name = f"{block_name}.resnets.{number}"
                plain[name] = resnet
                blend = partial(_blend, blending, objects=objects, level=level, name=name)
                unet.set_submodule(name, _WithObjects(resnet, blend))
        yield
    finally:
        for name, resnet in plain.items():
            unet.set_submodule(name, resnet)
