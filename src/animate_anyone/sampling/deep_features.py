"""What the deep blocks of the denoising UNet give, kept over some steps (as DeepCache does, arXiv 2312.00858).

Of one step to the next the levels below the finest change little. In a step that keeps them only the first down block
and the last up block are computed; the latter is given what the block before it gave when all were computed last.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.hooks import HookRegistry, ModelHook
from torch import Tensor

from animate_anyone.models.denoising_unet import DenoisingUNet

_NAME = "deep_features"


@contextmanager
def deep_features(unet: DenoisingUNet, kept: list[Tensor]) -> Iterator[None]:
    """Within this context a call of the network takes the features that are ``kept``, or keeps them where none are.

    Args:
        unet: of two levels or more, given no residuals of a ``ReferenceControl``.
        kept: ``[]`` or one tensor ``(batch * frames, channels, height, width)`` of the finest level's height and width.
    """
    *above, last = unet.up_blocks[:-1]
    hooks: list[tuple[Any, ModelHook]] = [(last, _Kept(kept))]
    if kept:
        hooks += [(block, _SkippedDown()) for block in unet.down_blocks[1:]]
        hooks += [(block, _Skipped()) for block in (unet.mid_block, *above)]
    for block, hook in hooks:
        HookRegistry.check_if_exists_or_initialize(block).register_hook(hook, _NAME)
    try:
        yield
    finally:
        for block, hook in hooks:
            HookRegistry.check_if_exists_or_initialize(block).remove_hook(_NAME, recurse=False)
            hook.fn_ref = None  # a circle, which would keep the features until Python's collector finds it


class _Skipped(ModelHook):
    # What comes out is never looked at.
    def new_forward(self, module: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return hidden_states


class _SkippedDown(ModelHook):
    # One residual for each layer, of which UNetMotionModel reads no more than the number and the shape.
    def new_forward(
        self, module: Any, hidden_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        return hidden_states, (hidden_states,) * (len(module.resnets) + len(module.downsamplers or ()))


class _Kept(ModelHook):
    def __init__(self, kept: list[Tensor]) -> None:
        super().__init__()
        self.kept = kept

    def new_forward(self, module: Any, *args: Any, **kwargs: Any) -> Tensor:
        if not self.kept:
            self.kept.append(self.fn_ref.original_forward(*args, **kwargs))
        return self.kept[0]
