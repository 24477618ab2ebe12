"""What a device says of its bfloat16 units."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from animate_anyone.models import number_types
from animate_anyone.models.number_types import has_bfloat16_units


def machine(
    monkeypatch: pytest.MonkeyPatch, flags: Mapping[str, object], capability: str = "AVX512", onednn: bool = True
) -> None:
    """Pretend a CPU."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn, raising=False)


@pytest.mark.parametrize(
    ("flags", "capability", "onednn", "want"),
    [
        ({"avx512_f": True, "avx512_bf16": True}, "AVX512", True, True),
        ({"avx512_f": True, "amx_bf16": True, "avx512_bf16": False}, "AVX512", True, True),
        ({"bf16": True, "sve_max_length": 256}, "DEFAULT", True, True),  # ARM
        ({"avx512_f": True, "avx512_bf16": False}, "AVX512", True, False),  # oneDNN says yes here, and emulates
        ({"avx2": True}, "AVX2", True, False),
        ({"avx512_bf16": True}, "AVX2", True, False),  # a lower instruction set was asked for
        ({"avx512_bf16": True}, "AVX512", False, False),
        ({}, "DEFAULT", True, False),
    ],
)
def test_cpu(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, object], capability: str, onednn: bool, want: bool
) -> None:
    machine(monkeypatch, flags, capability, onednn)
    assert has_bfloat16_units("cpu") is want


@pytest.mark.parametrize(
    ("content", "want"),
    [
        ("processor: 0\nflags\t\t: fpu avx512f avx512_bf16\n", True),
        ("processor: 0\nflags\t\t: fpu avx512f\n", False),
        ("processor: 0\nFeatures\t: fp asimd bf16\n", True),
        (None, False),
    ],
)
def test_where_pytorch_does_not_tell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, want: bool
) -> None:
    machine(monkeypatch, {})
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(number_types, "_CPUINFO", tmp_path / "cpuinfo")
    if content is not None:
        (tmp_path / "cpuinfo").write_text(content)
    assert has_bfloat16_units("cpu") is want


@pytest.mark.parametrize("there", [False, True])
def test_cuda(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Of the device that is asked about, without emulation."""
    asked = []

    class Current:
        def __init__(self, device: torch.device) -> None:
            asked.append(device)

        def __enter__(self) -> None: ...

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(torch.cuda, "device", Current)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or there)
    assert has_bfloat16_units("cuda:1") is there
    assert asked == [torch.device("cuda:1")]


def test_others_count_as_without() -> None:
    assert has_bfloat16_units("mps") is False
    assert has_bfloat16_units(torch.device("meta")) is False
