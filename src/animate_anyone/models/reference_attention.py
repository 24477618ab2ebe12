"""Spatial attention (Animate Anyone, section 3.2): queries from the denoising UNet, keys and values
from itself and from ReferenceNet.

The paper repeats the reference features over time, concatenates them along the width, attends, and
keeps its own half. That is the same as attending from own tokens to [own; reference] tokens, so no
query is ever computed for the reference, and its keys and values, which depend neither on the
denoising step nor on the frame, are computed once per video.

Shapes: B rows (samples x frames), S samples, R samples that have a reference, N tokens (h*w),
M reference tokens, C channels, H heads, D = C / H.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from animate_anyone.errors import InputError

# What ReferenceNet sees, per layer: the normalised hidden states that enter self-attention, (R, M, C).
# Keys are the names of transformer blocks, e.g. "mid_block.attentions.0.transformer_blocks.0".
ReferenceFeatures = Mapping[str, Tensor]


@dataclass(frozen=True)
class ReferenceKeysValues:
    """Keys and values of the reference for every layer of the denoising UNet that attends to it.

    Attributes:
        layers: layer name -> (keys, values), each (R, M, C).
        num_unconditional: the first so many samples of the batch attend only to themselves
            (the unconditional half under guidance; samples whose condition was dropped in training).
    """

    layers: Mapping[str, tuple[Tensor, Tensor]]
    num_unconditional: int = 0


def spatial_attention_layers(unet: nn.Module) -> dict[str, Attention]:
    """The self-attentions over space of a UNet, by the name of their transformer block.

    Temporal attentions live under ``motion_modules`` and are not among them.
    """
    return {
        name.removesuffix(".attn1"): module
        for name, module in unet.named_modules()
        if name.endswith(".attn1") and ".attentions." in name and isinstance(module, Attention)
    }


def project_reference(
    features: ReferenceFeatures, layers: Mapping[str, Attention], num_unconditional: int = 0
) -> ReferenceKeysValues:
    """Turn ReferenceNet's features into the keys and values of ``layers``, paired by name.

    Raises :class:`InputError` when a layer finds no feature of its name or of its width.
    """
    missing = [name for name in layers if name not in features]
    if missing:
        raise InputError(
            f"ReferenceNet gives no features for {missing[0]}"
            + (f" and {len(missing) - 1} more layers" if len(missing) > 1 else "")
            + "; both networks must be built from the same UNet configuration"
        )
    for name, attn in layers.items():
        got, want = features[name].shape[-1], attn.to_k.in_features
        if got != want:
            raise InputError(f"reference features of {name} have {got} channels; the denoising UNet has {want} there")
    pairs = {name: (attn.to_k(features[name]), attn.to_v(features[name])) for name, attn in layers.items()}
    return ReferenceKeysValues(pairs, num_unconditional)


class _Processor:
    # What calls take beyond the arguments named is diffusers' and means nothing here.
    # Set by diffusers' `set_attention_backend`, None means the default backend.
    _attention_backend = None
    _parallel_config = None

    def __init__(self, name: str) -> None:
        self.name = name

    def _attend(self, attn: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (x.unflatten(-1, (attn.heads, -1)) for x in (query, key, value))  # (B, N, H, D)
        return dispatch_attention_fn(query, key, value, backend=self._attention_backend).flatten(-2)


class ReferenceAttentionProcessor(_Processor):
    """Self-attention of the denoising UNet with the reference among its keys and values.

    Without a reference it is plain self-attention. Batch rows are ordered sample by sample, frames of
    one sample together. Objects are for the layers that blend, and are left alone here.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        reference: ReferenceKeysValues | None = None,
        objects: Any = None,
        **_: Any,
    ) -> Tensor:
        query = attn.to_q(hidden_states)  # (B, N, C)
        key, value = attn.to_k(hidden_states), attn.to_v(hidden_states)
        if reference is None or self.name not in reference.layers:
            out = self._attend(attn, query, key, value)
        else:
            ref_key, ref_value = reference.layers[self.name]  # (R, M, C)
            samples = reference.num_unconditional + len(ref_key)
            rows, left_over = divmod(len(query), samples)
            if left_over:
                raise ValueError(f"{len(query)} rows cannot be shared among {samples} samples of the reference")
            plain = reference.num_unconditional * rows
            key_all = torch.cat([key[plain:], ref_key.repeat_interleave(rows, 0)], 1)
            value_all = torch.cat([value[plain:], ref_value.repeat_interleave(rows, 0)], 1)
            out = self._attend(attn, query[plain:], key_all, value_all)
            if plain:
                out = torch.cat([self._attend(attn, query[:plain], key[:plain], value[:plain]), out])
        return attn.to_out[1](attn.to_out[0](out))


class CollectingProcessor(_Processor):
    """Self-attention of ReferenceNet that also puts its input into the dictionary it is handed."""

    def __call__(
        self, attn: Attention, hidden_states: Tensor, collect: dict[str, Tensor] | None = None, **_: Any
    ) -> Tensor:
        if collect is not None:
            # First writer wins: gradient checkpointing runs a block twice.
            collect.setdefault(self.name, hidden_states)
        query, key, value = (proj(hidden_states) for proj in (attn.to_q, attn.to_k, attn.to_v))
        out = self._attend(attn, query, key, value)
        return attn.to_out[1](attn.to_out[0](out))


class ImageTokenProcessor(AttnProcessor2_0):
    """Cross-attention to the image token; takes the other arguments of the call and leaves them alone."""

    def __call__(  # type: ignore[override]
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        reference: ReferenceKeysValues | None = None,
        objects: Any = None,
        collect: dict[str, Tensor] | None = None,
    ) -> Tensor:
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


def install_processors(unet: nn.Module, self_attention: type[_Processor]) -> None:
    """Give every spatial transformer block of ``unet`` its processors."""
    for name, attn in spatial_attention_layers(unet).items():
        attn.set_processor(self_attention(name))
        cross = unet.get_submodule(f"{name}.attn2")
        assert isinstance(cross, Attention)
        cross.set_processor(ImageTokenProcessor())
