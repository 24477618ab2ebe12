"""Counts the floating-point operations of what runs on tensors, with values or without."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop

# PyTorch's table lacks attention's kernel for CPUs.
_CPU_ATTENTION: dict[Any, Any] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}


@dataclass(frozen=True)
class Flops:
    """Floating-point operations by kind; a multiplication with an addition counts two, all else nothing.

    Attributes:
        convolutions, products, attention: of convolutions, of matrix products (linear layers), of fused attention.
    """

    convolutions: int = 0
    products: int = 0
    attention: int = 0

    @property
    def total(self) -> int:
        """Of all kinds."""
        return sum(getattr(self, field.name) for field in fields(self))


class CountFlops(TorchDispatchMode):
    """Counts while it is entered: forward and backward passes as they run, recomputed activations included.

    ``torch.utils.flop_counter.FlopCounterMode`` counts alike, but takes operations apart to do so, which may change
    what is computed, and does not tell kinds apart.

    Attributes:
        flops: so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counts = dict.fromkeys((field.name for field in fields(Flops)), 0)

    @property
    def flops(self) -> Flops:
        return Flops(**self._counts)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        count: Any = flop_registry.get(packet)
        if packet in _CPU_ATTENTION:
            forward = packet is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
            shapes = [tensor.shape for tensor in args[: 3 if forward else 4]]
            self._counts["attention"] += _CPU_ATTENTION[packet](*shapes)
        elif count is not None:
            name = str(packet)
            kind = "convolutions" if "conv" in name else "attention" if "attention" in name else "products"
            self._counts[kind] += count(*args, **(kwargs or {}), out_val=out)
        return out
