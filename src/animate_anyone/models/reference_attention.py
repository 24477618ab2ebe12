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
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
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
    """Turn ReferenceNet's features into the keys and values of ``layers``, see :func:`paired`."""
    found = paired(features, layers)
    pairs = {name: (attn.to_k(feature), attn.to_v(feature)) for name, (attn, feature) in found.items()}
    return ReferenceKeysValues(pairs, num_unconditional)


def paired(features: ReferenceFeatures, layers: Mapping[str, Attention]) -> dict[str, tuple[Attention, Tensor]]:
    """Each layer with the feature of its name.

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
    return {name: (attn, features[name]) for name, attn in layers.items()}


def _gives_sums(query: Tensor) -> bool:
    # Where an attention can be had with the sums of its exponentials: PyTorch's kernel for CPUs, which keeps no scores.
    return query.device.type == "cpu" and not torch.is_grad_enabled()


def _attend_with_sums(query: Tensor, key: Tensor, value: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    # (B, N, C), (B, M, C) -> the result (B, N, H, D), and for each query the logarithm of its sum, (B, H, N)
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    out, total = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)
    return out.transpose(1, 2), total


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

    def _attend_reference(
        self, attn: Attention, query: Tensor, own: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Attention of ``(B, N, C)`` to own tokens and to the reference's, keys and values ``(R, M, C)``."""
        rows = len(query) // len(reference[0])
        if self._attention_backend in (None, AttentionBackendName.NATIVE) and _gives_sums(query):
            out, total = _attend_with_sums(query, *own, attn.heads)
            # One sample's reference is the same for all its frames: a view, whose rows are one row in memory.
            key, value = (x.expand(rows, -1, -1) if len(x) == 1 else x.repeat_interleave(rows, 0) for x in reference)
            ref_out, ref_total = _attend_with_sums(query, key, value, attn.heads)
            share = torch.sigmoid(ref_total - total).transpose(1, 2)[..., None]  # (B, N, H, 1), of the reference
            return torch.lerp(out, ref_out, share.to(out.dtype)).flatten(-2)
        key, value = (
            torch.cat([ours, theirs.repeat_interleave(rows, 0)], 1) for ours, theirs in zip(own, reference, strict=True)
        )
        return self._attend(attn, query, key, value)


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
            parts = []
            if plain:
                parts.append(self._attend(attn, query[:plain], key[:plain], value[:plain]))
            if len(ref_key):
                own = key[plain:], value[plain:]
                parts.append(self._attend_reference(attn, query[plain:], own, (ref_key, ref_value)))
            out = torch.cat(parts)
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
        one = encoder_hidden_states is not None and encoder_hidden_states.shape[1] == 1 and attention_mask is None
        if one and collect is None and hidden_states.ndim == 3 and not torch.is_grad_enabled():
            # Over one token softmax is 1, whatever the query: the result is that token's value.
            value = attn.to_v(encoder_hidden_states)
            return attn.to_out[1](attn.to_out[0](value)).expand(hidden_states.shape[0], hidden_states.shape[1], -1)
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


def install_processors(unet: nn.Module, self_attention: type[_Processor]) -> None:
    """Give every spatial transformer block of ``unet`` its processors."""
    for name, attn in spatial_attention_layers(unet).items():
        attn.set_processor(self_attention(name))
        cross = unet.get_submodule(f"{name}.attn2")
        assert isinstance(cross, Attention)
        cross.set_processor(ImageTokenProcessor())
