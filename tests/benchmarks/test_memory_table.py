"""benchmarks/memory.py: a case is measured from denoising to decoding."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import torch


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
@torch.no_grad()
def test_a_case_is_measured(load_benchmark: Callable[[str], ModuleType]) -> None:
    peaks = load_benchmark("memory").measure(("puppet", (64, 64), 4, {}))
    assert peaks.keys() == {"before", "denoising", "decoding"} and min(peaks.values()) > 0
