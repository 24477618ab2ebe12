"""Several processes that make one clip: each computes some of its windows and decodes some of its frames.

All of them go through the same steps with the same latents. What one has computed is handed to the others, so that
each goes on with what a single process would have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor

from animate_anyone.system import processes

Unit = TypeVar("Unit")
Value = TypeVar("Value")

_TYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool)
_MOST_DIMENSIONS = 8


@dataclass(frozen=True)
class Ranks:
    """This process among those that make a clip.

    Attributes:
        rank: its number, from 0; the first hands out the frames.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls) -> Ranks:
        """The processes that torchrun started; this one alone where it was not started so.

        They find each other when this is called first.
        """
        if processes.count() == 1:
            return cls()
        if not torch.distributed.is_initialized():
            device = processes.device()
            if device.type == "cuda":
                torch.cuda.set_device(device)
            torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(torch.distributed.get_rank(), torch.distributed.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this process hands out the frames."""
        return self.rank == 0

    def share(self, units: Sequence[Unit], compute: Callable[[Unit], Tensor], device: torch.device) -> list[Tensor]:
        """What ``compute`` gives of every unit, on all processes: each computes every :attr:`count`-th of them."""
        if self.count == 1:
            return [compute(unit) for unit in units]
        own = {
            number: compute(unit).contiguous() for number, unit in enumerate(units) if number % self.count == self.rank
        }
        return [self._handed_on(own.get(number), number % self.count, device) for number in range(len(units))]

    def of_first(self, find: Callable[[], Value]) -> Value:
        """What the first process finds, on all of them; the others wait."""
        if self.count == 1:
            return find()
        found: list[Any] = [find() if self.is_first else None]
        torch.distributed.broadcast_object_list(found)
        return found[0]  # type: ignore[no-any-return]

    def _handed_on(self, tensor: Tensor | None, source: int, device: torch.device) -> Tensor:
        about = torch.zeros(2 + _MOST_DIMENSIONS, dtype=torch.int64, device=device)
        if tensor is not None:
            known = [_TYPES.index(tensor.dtype), tensor.ndim, *tensor.shape]
            about[: len(known)] = torch.tensor(known, device=device)
        torch.distributed.broadcast(about, source)
        kind, dimensions, *shape = about.tolist()
        if tensor is None:
            tensor = torch.empty(shape[:dimensions], dtype=_TYPES[kind], device=device)
        torch.distributed.broadcast(tensor, source)
        return tensor


ALONE = Ranks()
