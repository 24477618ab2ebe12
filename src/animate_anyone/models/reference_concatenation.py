"""ReferenceNet's features concatenated instead of attended to: a design that Animate Anyone compares with its own.

Before each self-attention over space the tokens of the denoising UNet and those of ReferenceNet at the same place are
joined on the channels and projected back to the layer's width. With tokens ``h`` and features ``r``, both normalised,
self-attention is given

    h + W_h h + W_r r

which is the projection ``[I + W_h, W_r]`` of ``[h; r]``; both weights start at zero, so that training starts unchanged.
``W_r r`` depends on neither step nor frame and is computed once per video. Where there is no reference, ``r`` is zero.

Shapes as in :mod:`animate_anyone.models.reference_attention`; the reference has as many tokens as a frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from animate_anyone.models.reference_attention import (
    ReferenceAttentionProcessor,
    ReferenceFeatures,
    ReferenceKeysValues,
    install_processors,
    paired,
    project_reference,
    spatial_attention_layers,
)

PART = ".concatenation."
"""What the names of the weights of :class:`Concatenation` hold."""


@dataclass(frozen=True)
class ConcatenatedReference:
    """The reference's part of the joined and projected tokens, for every layer that is given it.

    Attributes:
        layers: layer name -> ``(R, M, C)``.
        num_unconditional: the first so many samples of the batch have no reference.
    """

    layers: Mapping[str, Tensor]
    num_unconditional: int = 0


class Concatenation(nn.Module):
    """The two halves of the projection of one layer, which start at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.own = nn.Linear(channels, channels)
        self.reference = nn.Linear(channels, channels, bias=False)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


class ConcatenationProcessor(ReferenceAttentionProcessor):
    """Plain self-attention to tokens that the reference's were joined to."""

    def __call__(  # type: ignore[override]
        self, attn: Attention, hidden_states: Tensor, reference: ConcatenatedReference | None = None, **more: Any
    ) -> Tensor:
        joined = hidden_states + attn.concatenation.own(hidden_states)
        if reference is not None and self.name in reference.layers:
            said = reference.layers[self.name]  # (R, M, C)
            rows, left_over = divmod(len(joined), reference.num_unconditional + len(said))
            if left_over:
                raise ValueError(f"{len(joined)} rows cannot be shared among the samples of the reference")
            if said.shape[1] != joined.shape[1]:
                raise ValueError(f"the reference has {said.shape[1]} tokens and a frame {joined.shape[1]}")
            plain = reference.num_unconditional * rows
            with_it = joined[plain:] + said.to(joined.dtype).repeat_interleave(rows, 0)
            joined = torch.cat([joined[:plain], with_it])
        return super().__call__(attn, joined, None, **more)


SeenReference = ReferenceKeysValues | ConcatenatedReference
"""What a denoising UNet makes of ReferenceNet's features, by its ``reference_merging``."""


def install_merging(unet: nn.Module, merging: str) -> None:
    """Give every self-attention over space of ``unet`` the processor by which it sees the reference.

    Args:
        merging: ``attention``, or ``concatenated``: its projection too.
    """
    if merging == "attention":
        install_processors(unet, ReferenceAttentionProcessor)
        return
    if merging != "concatenated":
        raise ValueError(f"reference_merging is {merging!r}; it is 'attention' or 'concatenated'")
    for attn in spatial_attention_layers(unet).values():
        attn.concatenation = Concatenation(attn.to_k.in_features)
    install_processors(unet, ConcatenationProcessor)


def merged_reference(
    merging: str, features: ReferenceFeatures, layers: Mapping[str, Attention], num_unconditional: int = 0
) -> SeenReference:
    """ReferenceNet's features as ``layers``, paired by name, are given them.

    Raises:
        InputError: a layer finds no feature of its name or of its width.
    """
    if merging == "attention":
        return project_reference(features, layers, num_unconditional)
    found = paired(features, layers)
    said: dict[str, Tensor] = {name: attn.concatenation.reference(r) for name, (attn, r) in found.items()}  # type: ignore[operator, union-attr]
    return ConcatenatedReference(said, num_unconditional)
