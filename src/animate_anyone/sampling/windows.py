"""Temporal aggregation (Animate Anyone, section 4.1): a long clip is denoised in overlapping windows.

Pure functions. A window is the list of frame numbers that it covers.
"""

from __future__ import annotations

import math
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


def wrapping_windows(
    num_frames: int, length: int, overlap: int, stride: int = 1, step: int = 0, closed: bool = True
) -> list[list[int]]:
    """Windows as the samplers of the published open checkpoints lay them (AnimateDiff's uniform schedule).

    The last window runs on at the clip's beginning. After the windows of frames in a row come coarser
    ones, of every second frame, every fourth, up to ``2 ** (stride - 1)``; such a window may name a frame
    twice.

    Args:
        step: shifts all windows, by a share of the clip that visits halves, quarters, eighths in turn.
            The published samplers lay their windows once, for step 0.
        closed: False starts no window within ``overlap`` frames of the end.
    """
    if length < 1 or not 0 <= overlap < length or stride < 1:
        raise InputError(
            f"window {length}, overlap {overlap}, stride {stride}: give a window and a stride of at least 1"
            " and 0 <= overlap < window"
        )
    if num_frames <= length:
        return [list(range(num_frames))]
    levels = min(stride, math.ceil(math.log2(num_frames / length)) + 1)
    share = _bit_reversed(step)
    shift = round(num_frames * share)
    end = num_frames + shift - (0 if closed else overlap)
    return [
        [(start + i * skip) % num_frames for i in range(length)]
        for skip in (2**level for level in range(levels))
        for start in range(int(share * skip) + shift, end, length * skip - overlap)
    ]


def _bit_reversed(step: int) -> float:
    """The binary digits of ``step`` mirrored at the point: 1 is 0.5, 2 is 0.25, 3 is 0.75, in [0, 1)."""
    return sum(1 / 2 ** (place + 1) for place in range(step.bit_length()) if step >> place & 1)


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
        like: a tensor with the shape of the frames that it is of, frames on axis 2.
        weights: ``(length,)``, from :func:`window_weights`.
        first: the number of the first of those frames in the clip.
    """

    def __init__(self, like: Tensor, weights: Tensor, first: int = 0) -> None:
        self.total = torch.zeros(like.shape, dtype=torch.float32, device=like.device)
        self.weight = torch.zeros(like.shape[2], dtype=torch.float32, device=like.device)
        self.window, self.first = weights.to(like.device, torch.float32), first

    def add(self, frames: Sequence[int], prediction: Tensor) -> None:
        """Add the prediction ``(batch, channels, window, ...)`` for these frames.

        Of a frame that a window names twice the last prediction counts, once.
        """
        last = {frame: place for place, frame in enumerate(frames)}
        if len(last) < len(frames):
            frames, places = list(last), list(last.values())
            prediction, weight = prediction[:, :, places], self.window[places]
        else:
            weight = self.window[: len(frames)]
        index = torch.tensor(frames, device=self.total.device) - self.first
        self.total.index_add_(2, index, prediction.float() * weight.view(-1, *[1] * (prediction.ndim - 3)))
        self.weight.index_add_(0, index, weight)

    def value(self) -> Tensor:
        """The mean, shape and layout of the frames, float32."""
        return self.total / self.weight.view(-1, *[1] * (self.total.ndim - 3))

    def from_frame(self, frame: int) -> tuple[Tensor, Tensor]:
        """What was added for this frame and those behind it: sums of predictions, and of weights."""
        return self.total[:, :, frame - self.first :].clone(), self.weight[frame - self.first :].clone()

    def begin_with(self, total: Tensor, weight: Tensor) -> None:
        """Begin, in place of nothing, with sums of the first frames, from :meth:`from_frame`."""
        self.total[:, :, : len(weight)] = total
        self.weight[: len(weight)] = weight
