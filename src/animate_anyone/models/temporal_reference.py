"""The temporal reference (Animate Anyone 2, long video, after EMO, arXiv 2402.17485): the frames before a clip among
the keys and values of temporal attention.

They go through ReferenceNet as the reference does, and what enters its spatial attention joins the temporal attention
of the same place in the denoising UNet. A clip's frames have the positions 0, 1, ...; those before it have -1, -2, ...
of the same sinusoids, so that they are told apart and their distances are those of frames in a row.

With A the attention to own frames, J that to frames before and own frames together, both before the output projection
W, a layer gives ``W A + Z (J - A)``. Z is zero in a new layer, which then gives what it gave without; with Z = W it is
EMO's ``W J``. Where nothing is given of the frames before, it computes ``W A`` alone.

Shapes: S samples, R samples of the reference (S or 1), F frames, m frames before, N places (h*w), C channels of a
layer, D channels within its attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from animate_anyone.errors import InputError
from animate_anyone.models.reference_attention import ReferenceFeatures, spatial_attention_layers
from animate_anyone.models.temporal_layer import TemporalLayer


@dataclass(frozen=True)
class TemporalReference:
    """What temporal attention is given of the frames before a clip.

    Attributes:
        layers: name of a temporal layer -> ``(R, m, N, C)``, the frames in their order.
        present: ``(R,)`` bool: samples that have frames before them; ``None``: all.
    """

    layers: Mapping[str, Tensor]
    present: Tensor | None = None


class TokensBefore(NamedTuple):
    """What one attention is given: tokens ``(S * N, m, D)``, Z, and for which rows ``(S * N, 1, 1)`` they count."""

    tokens: Tensor
    to_out: nn.Module
    present: Tensor | None


class TemporalReferenceProcessor(AttnProcessor2_0):
    """Temporal self-attention that may see tokens of frames before; without them it is diffusers' own.

    ``number``: which attention of its block it is, 0 or 1.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def __call__(  # type: ignore[override]
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        before: tuple[TokensBefore, ...] | None = None,
    ) -> Tensor:
        if before is None:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        tokens, to_out, present = before[self.number]
        query, key, value = (proj(hidden_states) for proj in (attn.to_q, attn.to_k, attn.to_v))  # (S * N, F, D)
        own = _attend(attn, query, key, value)
        both = torch.cat([attn.to_k(tokens), key], 1), torch.cat([attn.to_v(tokens), value], 1)
        change: Tensor = to_out(_attend(attn, query, *both) - own)
        if present is not None:
            change = torch.where(present, change, torch.zeros_like(change))
        return attn.to_out[1](attn.to_out[0](own)) + change


def _attend(attn: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class LayerReference(nn.Module):
    """The weights that a temporal layer has for frames before: from C to D, and Z of each of its attentions."""

    def __init__(self, layer: TemporalLayer) -> None:
        super().__init__()
        channels, inner = layer.proj_in.in_features, layer.proj_in.out_features
        self.proj_in = nn.Linear(channels, inner)
        self.to_out = nn.ModuleList(
            nn.Linear(inner, inner, bias=False) for _ in range(2 * len(layer.transformer_blocks))
        )
        for linear in self.to_out:
            nn.init.zeros_(linear.weight)  # type: ignore[arg-type]

    def of_blocks(
        self, layer: TemporalLayer, samples: int, places: int, before: Tensor, present: Tensor | None
    ) -> list[tuple[TokensBefore, ...]]:
        """What the attentions of each block are given.

        Args:
            samples, places: S and N of the layer's input.
            before: ``(R, m, N, C)``.
            present: ``(R,)`` bool or ``None``.

        Raises:
            InputError: ``before`` is of other samples, places or channels than the layer.
        """
        want = (places, self.proj_in.in_features)
        if before.shape[2:] != want or len(before) not in (1, samples):
            raise InputError(
                f"features of frames before are {len(before)} samples of {before.shape[2]} places and "
                f"{before.shape[3]} channels; a temporal layer has {samples} of {places} and {want[1]}: give frames "
                "of the clip's own size"
            )
        rows = before.expand(samples, -1, -1, -1).transpose(1, 2).flatten(0, 1)  # (S * N, m, C)
        tokens = self.proj_in(rows.to(self.proj_in.weight.dtype))
        where = None
        if present is not None:
            where = present.expand(samples).repeat_interleave(places).view(-1, 1, 1)
        return [
            tuple(
                TokensBefore(norm(tokens) + positions_before(block.pos_embed.pe, before.shape[1]), to_out, where)  # type: ignore[arg-type, union-attr]
                for norm, to_out in zip(
                    (block.norm1, block.norm2), self.to_out[2 * number : 2 * number + 2], strict=True
                )
            )
            for number, block in enumerate(layer.transformer_blocks)
        ]


def positions_before(positions: Tensor, count: int) -> Tensor:
    """Sinusoids of the positions ``-count .. -1``.

    ``positions``: those of 0, 1, ..., ``(1, length, D)``, sine and cosine by turns.
    """
    before = positions[:, 1 : count + 1].flip(1).clone()
    before[..., 0::2] *= -1  # the sine is odd, the cosine even
    return before


def temporal_layers_with_reference(unet: nn.Module, reference_blocks: str) -> dict[str, str]:
    """Temporal layer -> the transformer block whose ReferenceNet features it takes: that of spatial attention there.

    ``reference_blocks``: as of the denoising UNet. Levels without spatial attention have none.
    """
    where = ("mid_block.", "up_blocks.") if reference_blocks == "mid_up" else ("",)
    pairs = {
        name.rpartition(".transformer_blocks.")[0].replace(".attentions.", ".motion_modules."): name
        for name in reversed(spatial_attention_layers(unet))  # of several blocks the first
        if name.startswith(where)
    }
    there = {name for name, module in unet.named_modules() if isinstance(module, TemporalLayer)}
    return {layer: block for layer, block in reversed(pairs.items()) if layer in there}


def add_temporal_reference(unet: Any, frames: int) -> None:
    """Give each of :func:`temporal_layers_with_reference` the weights and processors for so many frames before.

    Raises:
        ValueError: there is no such layer, or so many frames are more than temporal layers know positions.
    """
    layers = temporal_layers_with_reference(unet, unet.config["reference_blocks"])
    longest = unet.config["motion_max_seq_length"]
    if not layers:
        raise ValueError(f"temporal_reference_frames is {frames}; this network has no temporal layers for them, give 0")
    if not 0 < frames < longest:
        raise ValueError(f"temporal_reference_frames is {frames}; give 0, or 1 to {longest - 1}")
    for name in layers:
        layer = unet.get_submodule(name)
        assert isinstance(layer, TemporalLayer)
        layer.temporal_reference = LayerReference(layer)
        for block in layer.transformer_blocks:
            for number, attn in enumerate((block.attn1, block.attn2)):
                attn.set_processor(TemporalReferenceProcessor(number))  # type: ignore[operator, union-attr]


@torch.no_grad()
def with_temporal_reference(unet: Any, frames: int) -> Any:
    """A copy of a ``DenoisingUNet`` that takes so many frames before a clip, the start of training for them.

    At first it predicts what ``unet`` does, given frames before or none. Features of ReferenceNet come into a layer by
    the weights by which its own activations do.

    Raises:
        InputError: ``unet`` has no temporal layers, or takes frames before already; or ``frames`` are too many.
    """
    if known := unet.config["temporal_reference_frames"]:
        raise InputError(f"this denoising UNet takes {known} frames before a clip already")
    keys = unet._get_init_keys(type(unet))
    config = {key: value for key, value in unet.config.items() if key in keys}
    try:
        model = type(unet)(**{**config, "temporal_reference_frames": frames})
    except ValueError as error:
        raise InputError(str(error)) from None
    new = {name: value for name, value in model.state_dict().items() if ".temporal_reference." in name}
    model.load_state_dict(new | unet.state_dict())
    for layer in model.modules():
        if isinstance(layer, TemporalLayer) and layer.temporal_reference is not None:
            layer.temporal_reference.proj_in.load_state_dict(layer.proj_in.state_dict())
    same = (model.device, model.dtype) == (unet.device, unet.dtype)
    return model if same else model.to(unet.device, unet.dtype)


def pair_temporal_reference(
    unet: Any, features: ReferenceFeatures, frames: int, present: Tensor | None = None
) -> TemporalReference:
    """ReferenceNet's features of the frames before, for a denoising UNet's temporal layers, paired by name.

    Args:
        unet: a ``DenoisingUNet``.
        features: name of a transformer block -> ``(R * frames, N, C)``, the frames of a sample in their order.
        frames: before each clip.
        present: as of :class:`TemporalReference`.

    Raises:
        InputError: the network knows no or fewer frames before, or a layer finds no feature of its name or width.
    """
    most = unet.config["temporal_reference_frames"]
    if not 0 < frames <= most:
        raise InputError(f"{frames} frames before a clip were given; this denoising UNet takes {_so_many(most)}")
    layers = {}
    for layer, block in temporal_layers_with_reference(unet, unet.config["reference_blocks"]).items():
        if block not in features:
            raise InputError(
                f"ReferenceNet gives no features for {block}, which {layer} needs; both networks must be built from "
                "the same UNet configuration"
            )
        got, want = features[block].shape[-1], unet.get_submodule(layer).temporal_reference.proj_in.in_features
        if got != want:
            raise InputError(f"features of frames before for {layer} have {got} channels; it has {want}")
        layers[layer] = features[block].unflatten(0, (-1, frames))
    return TemporalReference(layers, present)


def _so_many(most: int) -> str:
    return "none" if most == 0 else f"1 to {most}"


class _Given(nn.Module):
    """Stands in a temporal layer's place during one call, and hands it what diffusers' blocks do not hand on.

    It holds it for as long as it is alive: gradient checkpointing calls it again in the backward pass.
    """

    def __init__(self, layer: TemporalLayer, before: Tensor, present: Tensor | None) -> None:
        super().__init__()
        self.layer, self.before, self.present = layer, before, present

    def forward(self, *given: Any, **named: Any) -> Tensor:
        out: Tensor = self.layer(*given, **named, before=self.before, present=self.present)
        return out


@contextmanager
def given_to_layers(unet: nn.Module, reference: TemporalReference) -> Iterator[None]:
    """Within this context temporal layers are called with what ``reference`` has for them.

    Raises:
        InputError: it has a layer that the network has not, or lacks one that takes frames before.
    """
    layers = {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, TemporalLayer) and module.temporal_reference is not None
    }
    if odd := sorted(layers.keys() ^ reference.layers.keys()):
        raise InputError(
            f"frames before are given for other temporal layers than this denoising UNet has for them, first {odd[0]}; "
            "give what was made for this network"
        )
    try:
        for name, layer in layers.items():
            unet.set_submodule(name, _Given(layer, reference.layers[name], reference.present))
        yield
    finally:
        for name, layer in layers.items():
            unet.set_submodule(name, layer)
