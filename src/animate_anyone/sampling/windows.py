"""Temporal aggregation (Animate Anyone, section 4.1): a long clip is denoised in overlapping windows.

Pure functions. A window is the list of frame numbers that it covers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from animate_anyone.errors import InputError


def windows(num_frames: int, length: int, overlap: int) -> list[list[int]]:
    """Cover ``num_frames`` frames by windows of equal length that overlap by at least ``overlap``.

    The last window is moved back so that it ends with the clip; nothing wraps round. A clip that is
    no longer than a window is one window of its own length.
    """
    if length < 1 or not 0 <= overlap < length:
        raise InputError(f"window {length}, overlap {overlap}: give a window of at least 1 and 0 <= overlap < window")
    if num_frames <= length:
        return [list(range(num_frames))]
    starts = [*range(0, num_frames - length, length - overlap), num_frames - length]
    return [list(range(start, start + length)) for start in starts]


def window_weights(length: int, overlap: int) -> Tensor:
    """How much each frame of a window counts where windows overlap, ``(length,)``, in (0, 1].

    Rises in equal steps over the overlap, so that one window fades into the next.
    """
    position = torch.arange(length)
    from_edge = torch.minimum(position, length - 1 - position) + 1
    return (from_edge / (overlap + 1)).clamp(max=1.0)


class WindowMean:
    """The weighted mean of overlapping windows' predictions.

    Args:
        like: a tensor with the shape of the whole clip, frames on axis 2.
        weights: ``(length,)``, from :func:`window_weights`.
    """

    def __init__(self, like: Tensor, weights: Tensor) -> None:
        self.total = torch.zeros_like(like, dtype=torch.float32)
        self.weight = torch.zeros(like.shape[2], dtype=torch.float32, device=like.device)
        self.window = weights.to(like.device, torch.float32)

    def add(self, frames: Sequence[int], prediction: Tensor) -> None:
        """Add the prediction ``(batch, channels, window, ...)`` for these frames."""
        index = torch.tensor(frames, device=self.total.device)
        weight = self.window[: len(frames)]
        self.total.index_add_(2, index, prediction.float() * weight.view(-1, *[1] * (prediction.ndim - 3)))
        self.weight.index_add_(0, index, weight)

    def value(self) -> Tensor:
        """The mean, shape and layout of the clip, float32."""
        return self.total / self.weight.view(-1, *[1] * (self.total.ndim - 3))
