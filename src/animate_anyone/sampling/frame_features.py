"""What the networks are given of each frame of a clip: made when it is first asked for, let go when it has passed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from animate_anyone.sampling.ranks import Ranks
from animate_anyone.system.frame_store import FrameStore

Make = Callable[[range], tuple[Tensor, ...]]
"""Frames of a clip in; tensors of them out, each ``(1, channels, frames, ...)``."""


class FrameFeatures:
    """Tensors of the frames of a clip, made in blocks. They wait in a store, of which little is in memory.

    Blocks begin at multiples of ``at_once``: what is made of a frame does not depend on who asks for it when.

    Args:
        num_frames: of the clip.
        at_once: frames of a block.
        make: the tensors of a block; they are kept on the CPU in their own number types.
    """

    def __init__(self, num_frames: int, at_once: int, make: Make) -> None:
        self.num_frames, self.at_once, self._make = num_frames, at_once, make
        self._stores: list[FrameStore] = []
        self._types: list[torch.dtype] = []

    def of(self, frames: Sequence[int]) -> tuple[Tensor, ...]:
        """The tensors of some frames, in this order, ``(1, channels, frames, ...)`` on the CPU."""
        for frame in frames:
            if not self._stores or frame not in self._stores[0]:
                self._add_block(frame - frame % self.at_once)
        return tuple(
            torch.from_numpy(np.stack([store[frame] for frame in frames], 2)).view(dtype)
            for store, dtype in zip(self._stores, self._types, strict=True)
        )

    def make_together(self, frames: Sequence[int], ranks: Ranks, device: torch.device) -> None:
        """Make what is not there of some frames, each process some of the blocks; all of them have it then.

        Args:
            frames: the same on all processes, which have all asked for the same so far.
            device: where they hand tensors on.
        """
        if not self._stores:
            self._add_block(frames[0] - frames[0] % self.at_once)  # by all: none knows how many tensors there are
        missing = sorted({frame - frame % self.at_once for frame in frames if frame not in self._stores[0]})
        own = {first: self._made(first) for first in missing[ranks.rank :: ranks.count]}

        def hand_on(first: int, number: int) -> Tensor:
            return own[first][number].to(device)

        for number, store in enumerate(self._stores):
            of_all = ranks.share(missing, partial(hand_on, number=number), device)
            for first, tensor in zip(missing, of_all, strict=True):
                _store(store, first, tensor)

    def drop_before(self, frame: int) -> None:
        """Let go what is of frames before this one; they may be asked for all the same, and are made anew."""
        for store in self._stores:
            for number in [number for number in store if number < frame]:
                del store[number]

    def _made(self, first: int) -> tuple[Tensor, ...]:
        return self._make(range(first, min(first + self.at_once, self.num_frames)))

    def _add_block(self, first: int) -> None:
        made = self._made(first)
        if not self._stores:
            self._stores, self._types = [FrameStore() for _ in made], [tensor.dtype for tensor in made]
        for store, tensor in zip(self._stores, made, strict=True):
            _store(store, first, tensor)


def _store(store: FrameStore, first: int, tensor: Tensor) -> None:
    content = tensor.cpu().contiguous().view(torch.uint8).numpy()  # NumPy has no bfloat16
    for place in range(content.shape[2]):
        store[first + place] = content[:, :, place].copy()
