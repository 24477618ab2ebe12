"""Number types: those of a model, those of files, and which of them a device computes with at full speed."""

from __future__ import annotations

from pathlib import Path

import torch

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""What a model may be loaded or written as, by the name that is typed."""
SAFETENSORS_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Floating-point numbers as headers of safetensors files name them."""
# What a CPU that computes with bfloat16 says of itself: x86, ARM (as in /proc/cpuinfo and in PyTorch alike).
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16", "sve_bf16"}
_CPUINFO = Path("/proc/cpuinfo")


def has_bfloat16_units(device: torch.device | str) -> bool:
    """Whether a device has arithmetic units for bfloat16 that PyTorch uses.

    Without them bfloat16 is emulated: on CPUs it is then some four times slower than float32. What is not known counts
    as no; so do MPS devices, the first of which emulate it.
    """
    device = torch.device(device)
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and _onednn_takes_bfloat16() and bool(_cpu_flags() & _BFLOAT16_FLAGS)


def _onednn_takes_bfloat16() -> bool:
    # The library behind PyTorch's matrix products and convolutions. On x86 it says yes to every CPU with AVX-512, and
    # emulates. A lower instruction set may have been asked for (ATEN_CPU_CAPABILITY).
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    return torch.backends.cpu.get_cpu_capability() not in ("NO AVX", "AVX2")


def _cpu_flags() -> set[str]:
    """The instruction sets of this machine's CPU, from PyTorch or, where it is too old to tell, from Linux."""
    if hasattr(torch.cpu, "get_capabilities"):
        return {name for name, there in torch.cpu.get_capabilities().items() if there is True}
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.lower().startswith(("flags", "features"))), set())
