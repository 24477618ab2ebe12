"""The temporal layer (AnimateDiff's motion module) with gradient checkpointing, which diffusers' own goes without, and
with the frames before a clip (``temporal_reference``).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import Tensor

from animate_anyone.models.fast_layers import is_channels_last


class TemporalLayer(AnimateDiffTransformer3D):
    """``AnimateDiffTransformer3D`` that ``enable_gradient_checkpointing`` of a network reaches.

    diffusers recomputes residual blocks, spatial transformers and the temporal layer of the middle block, and keeps the
    activations of all other temporal layers.

    Attributes:
        gradient_checkpointing: whether activations are recomputed in the backward pass; diffusers sets it, and with it
            ``_gradient_checkpointing_func``.
        temporal_reference: weights for the frames before a clip, a ``LayerReference``; ``None``: it takes none.
    """

    gradient_checkpointing = False
    temporal_reference: Any

    @classmethod
    def like(cls, layer: AnimateDiffTransformer3D) -> TemporalLayer:
        """The same layer, sharing its parameters."""
        twin = cls.__new__(cls)
        twin.__dict__.update(layer.__dict__)
        twin.temporal_reference = None
        return twin

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        timestep: Tensor | None = None,
        class_labels: Tensor | None = None,
        num_frames: int = 1,
        cross_attention_kwargs: dict[str, Any] | None = None,
        before: Tensor | None = None,
        present: Tensor | None = None,
    ) -> Tensor:
        """As the base class: ``(batch * num_frames, channels, height, width)`` in and out.

        ``before``, ``present``: what there is of frames before, as in ``TemporalReference``.
        """
        if torch.is_grad_enabled():
            # PyTorch 2.13's backward pass of GroupNorm on a CPU reads freed memory where the input has channels last
            # and needs no gradient, as behind frozen layers: the process ends by a segmentation fault.
            hidden_states = hidden_states.contiguous()
        if before is not None:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                seen: Tensor = self._gradient_checkpointing_func(
                    self._by_tokens, hidden_states, num_frames, before, present
                )
                return seen
            return self._by_tokens(hidden_states, num_frames, before, present)
        given = (hidden_states, encoder_hidden_states, timestep, class_labels, num_frames, cross_attention_kwargs)
        if self.gradient_checkpointing and torch.is_grad_enabled():
            out: Tensor = self._gradient_checkpointing_func(super().forward, *given)
            return out
        if is_channels_last(hidden_states) and not torch.is_grad_enabled():
            return self._by_tokens(hidden_states, num_frames)
        return super().forward(*given)

    def _by_tokens(
        self, hidden_states: Tensor, num_frames: int, before: Tensor | None = None, present: Tensor | None = None
    ) -> Tensor:
        # The same; activations with channels last in memory stay so: tokens are moved as wholes.
        video = hidden_states.unflatten(0, (-1, num_frames))  # (batch, frames, channels, height, width)
        grid = self.norm(video.transpose(1, 2)).permute(0, 3, 4, 2, 1)  # (batch, height, width, frames, channels)
        tokens = self.proj_in(grid.flatten(0, 2))
        given: list[Any] = [None] * len(self.transformer_blocks)
        if before is not None:
            given = self.temporal_reference.of_blocks(self, len(grid), grid[0, ..., 0, 0].numel(), before, present)
        for block, seen in zip(self.transformer_blocks, given, strict=True):
            tokens = block(tokens, cross_attention_kwargs=None if seen is None else {"before": seen})
        out = self.proj_out(tokens).view(grid.shape).permute(0, 3, 4, 1, 2)
        return (video + out).flatten(0, 1)
