"""What is to be computed, as far as memory depends on it."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Work:
    """What is to be computed.

    Attributes:
        size: ``(width, height)`` of the video.
        frames: of the whole clip.
        window: frames denoised together, at most ``frames``.
        window_batch: windows at once.
        guided: whether guidance doubles each step.
        dtype: of weights and activations.
        vae_tiling, quantize: as in :class:`~animate_anyone.sampling.placement.Placement`.
        objects: whether objects are shown (Animate Anyone 2).
        pictures: bytes of the clip's pictures that the caller holds in the machine's memory all the while.
        telling: bytes that the caller holds beside them before the networks work.
    """

    size: tuple[int, int]
    frames: int
    window: int
    window_batch: int = 1
    guided: bool = True
    dtype: torch.dtype = torch.float16
    vae_tiling: bool = False
    quantize: str = "none"
    objects: bool = False
    pictures: int = 0
    telling: int = 0
