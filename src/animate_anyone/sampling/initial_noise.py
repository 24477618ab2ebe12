"""The noise that denoising begins with, drawn in one way by both pipelines and by training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor


def initial_noise(
    shape: Sequence[int],
    frame_axis: int,
    *,
    shared: bool,
    generator: torch.Generator | None,
    device: torch.device,
) -> Tensor:
    """Standard normal noise for a clip's latents, float32.

    Args:
        shape: of the latents.
        frame_axis: which axis of ``shape`` counts the frames of one clip.
        shared: all frames of a clip get the same noise (``shared_noise`` of the pipelines), else each its own.
        generator: one of the CPU gives the same noise on every device; ``None`` is the device's own.
        device: where the noise is wanted.

    Returns:
        Noise of ``shape``; with ``shared`` an expanded view, not to be written to.
    """
    drawn = list(shape)
    if shared:
        drawn[frame_axis] = 1
    noise = randn_tensor(tuple(drawn), generator=generator, device=device, dtype=torch.float32)
    return noise.expand(*shape)
