"""Attention on the finest grid of the up path, for networks that were built without.

Stable Diffusion's UNet has it. A small UNet may leave it out; then neither the reference nor the objects are seen at
full resolution, for both come in with spatial attention.
"""

from __future__ import annotations

from collections.abc import Sequence

from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

_WITH_ATTENTION = {"UpBlock2D": "CrossAttnUpBlock2D", "UpBlockMotion": "CrossAttnUpBlockMotion"}


def attends_finest(up_block_types: Sequence[str]) -> bool:
    """Whether the last up block has spatial attention."""
    return up_block_types[-1] not in _WITH_ATTENTION


def attending_finest(up_block_types: Sequence[str]) -> tuple[str, ...]:
    """The same types, the last with attention."""
    *before, last = up_block_types
    return (*before, _WITH_ATTENTION.get(last, last))


def silent_finest_attention(unet: nn.Module) -> dict[str, Tensor]:
    """The weights of the last up block's attention, by their names in ``unet``, after its output is set to zero.

    Its ``proj_out`` is all zero from then on, so that the block gives what it would give without.
    """
    blocks = unet.get_submodule("up_blocks")
    assert isinstance(blocks, nn.ModuleList)
    inside = f"up_blocks.{len(blocks) - 1}.attentions."
    for name, module in unet.named_modules():
        if name.startswith(inside) and isinstance(module, Transformer2DModel):
            nn.init.zeros_(module.proj_out.weight)
            nn.init.zeros_(module.proj_out.bias)
    return {name: value for name, value in unet.state_dict().items() if name.startswith(inside)}
