"""What a stage trains on in a micro-batch: a record of tensors, of a type of each stage's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """The tensors of a micro-batch; a field is ``None`` where the stage does without it.

    Attributes:
        mean_weight: a scalar, the mean of what errors count over the whole step, by which the loss is divided; set by
            the training loop where the stage is ``weighted``.
    """

    mean_weight: Tensor | None = None

    @classmethod
    def stacked(cls, rows: Sequence[Mapping[str, NDArray]]) -> Self:
        """A batch of clips: for each its arrays by field, without the batch axis."""
        return cls(**{name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]})

    def to(self, device: torch.device) -> Self:
        """On a device, without waiting for the copy where memory is pinned."""
        return self.each(lambda value: value.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """In memory from which a GPU is copied to while it computes; PyTorch's data loader calls it too."""
        return self.each(Tensor.pin_memory)

    def each(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A function of every tensor that is there."""
        return replace(self, **{name: function(value) for name, value in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are there, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}
