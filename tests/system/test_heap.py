"""Freed memory goes back to the system where the C library can do that, and nothing happens elsewhere."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace

import pytest

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
