"""Freed memory goes back to the system, or is kept, where the C library can do that; elsewhere nothing happens."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from animate_anyone.system import heap
from animate_anyone.system.heap import give_back


def test_it_asks_the_c_library_where_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    give_back()  # this machine's own
    asked: list[int] = []
    libraries = [SimpleNamespace(malloc_trim=asked.append), SimpleNamespace()]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libraries.pop(0))
    monkeypatch.setattr(sys, "platform", "linux")
    give_back()
    give_back()
    assert asked == [0]
    monkeypatch.setattr(sys, "platform", "win32")
    give_back()
    assert asked == [0] and not libraries


def test_freed_memory_is_kept_where_that_can_be_told_and_nobody_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[int, int] = {}
    can = SimpleNamespace(mallopt=lambda option, value: told.update({option: value}) or 1)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in heap._CHOSEN_BY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: can)
    assert heap.keep_freed() and told == {-1: heap.KEPT, -4: 0}
    assert heap.keep_freed(False) and told == {-1: 64 << 20, -3: 32 << 20, -4: 1 << 16}
    told.clear()
    for name in heap._CHOSEN_BY:
        with monkeypatch.context() as environment:
            environment.setenv(name, "1")
            assert not heap.keep_freed()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())  # musl
    assert not heap.keep_freed()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not heap.keep_freed() and not told


LARGE = """
import ctypes, resource, torch
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: all pages are of one size, on any machine
from animate_anyone.system.heap import keep_freed
kept = keep_freed({keep})
for _ in range(16):  # small blocks come to lie between large ones until glibc has enough of them apart
    torch.ones(10 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    torch.ones(10 << 20)  # 40 MiB
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone can be told")
@pytest.mark.parametrize("keep", [True, False])
def test_large_tensors_are_made_in_memory_that_was_there_before(keep: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in heap._CHOSEN_BY}
    run = subprocess.run(
        [sys.executable, "-c", LARGE.format(keep=keep)], env=environment, capture_output=True, text=True, check=True
    )
    kept, faults = (int(x) for x in run.stdout.split())
    if not kept:
        pytest.skip("the C library cannot be told")
    pages = 8 * (40 << 20) // mmap.PAGESIZE
    assert faults < pages / 10 if keep else faults > pages / 2
