"""Times, operations and memory on a device."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from animate_anyone.training.step_flops import CountFlops

GIB = 2**30
KINDS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass
class Machine:
    """Where it is measured.

    Attributes:
        device: of all tensors.
        tiny: narrow networks and small pictures, to try the benchmark: no figures of full size.
        products: number type -> TFLOP/s of a large matrix product, once measured.
    """

    device: torch.device
    tiny: bool
    products: dict[str, float] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        """Whether it is a CUDA GPU."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def release(self) -> None:
        """Give back the GPU's memory that is free, and forget the peak so far."""
        if self.cuda:
            gc.collect()
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def allocated(self) -> int:
        """Bytes of tensors on the device now; 0 on a CPU."""
        return torch.cuda.memory_allocated(self.device) if self.cuda else 0

    def peaks(self) -> tuple[int, int]:
        """The most since :meth:`release`, bytes: of tensors, and what the allocator held for them; 0 on a CPU."""
        if not self.cuda:
            return 0, 0
        return torch.cuda.max_memory_allocated(self.device), torch.cuda.max_memory_reserved(self.device)

    def seconds(self, call: Callable[[], Any], repeats: int = 3) -> float:
        """What a call takes, mean of some; warm it up before."""
        repeats = 1 if self.tiny else repeats
        self.wait()
        since = time.perf_counter()
        for _ in range(repeats):
            call()
        self.wait()
        return (time.perf_counter() - since) / repeats

    def share(self, teraflops: float, kind: str) -> str:
        """Of the matrix product's speed, as a cell."""
        product = self.products.get(kind)
        return f"{teraflops / product:.0%}" if product else "–"


def operations(call: Callable[[], Any]) -> int:
    """Additions and multiplications of a call's matrix products, convolutions and attentions."""
    with CountFlops() as counter:
        call()
    return counter.flops.total


def operations_of_attention(device: torch.device, kind: torch.dtype) -> tuple[int, int]:
    """What :func:`operations` counts for one attention, forward and backward, and what it must count at least."""
    samples, heads, tokens, width = 2, 4, 64, 32
    shape = (samples, heads, tokens, width)
    query, key, value = (torch.randn(shape, device=device, dtype=kind, requires_grad=True) for _ in range(3))
    counted = operations(lambda: F.scaled_dot_product_attention(query, key, value).sum().backward())
    return counted, 3 * 4 * samples * heads * tokens * tokens * width


def matrix_product(machine: Machine, kind: torch.dtype) -> tuple[int, float]:
    """Side of square matrices, and the TFLOP/s of their product: the best of some."""
    side = 256 if machine.tiny else 8192 if machine.cuda else 2048
    a, b = (torch.randn(side, side, device=machine.device, dtype=kind) for _ in range(2))
    out = torch.empty(side, side, device=machine.device, dtype=kind)

    def multiply() -> None:
        torch.mm(a, b, out=out)

    multiply()
    return side, max(2 * side**3 / machine.seconds(multiply, 10) / 1e12 for _ in range(3))


def convolution(machine: Machine, kind: torch.dtype, layout: torch.memory_format, cells: int = 3) -> float:
    """TFLOP/s of a large convolution of ``cells`` x ``cells`` in a memory layout: the best of some."""
    channels, side = (32, 16) if machine.tiny else (640, 64) if machine.cuda else (320, 64)
    x = torch.randn(4, channels, side, side, device=machine.device, dtype=kind).to(memory_format=layout)
    weight = torch.randn(channels, channels, cells, cells, device=machine.device, dtype=kind).to(memory_format=layout)

    def convolve() -> Tensor:
        return F.conv2d(x, weight, padding=cells // 2)

    convolve()
    return max(2 * x.numel() * weight[0].numel() / machine.seconds(convolve, 5) / 1e12 for _ in range(3))


@contextmanager
def tensor_float_32(allowed: bool) -> Iterator[None]:
    """Whether float32 convolutions and matrix products may round what they are given to TF32 (10 bits of fraction)."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products
