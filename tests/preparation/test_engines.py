"""Processes that die while they work: replaced, their jobs tried again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from animate_anyone.errors import InputError
from animate_anyone.preparation.engines import LocalPool, Lost


def _die_at_some(job: tuple[int, Path]) -> int:
    """Ends its process at 3 the first time, at 5 each time."""
    number, folder = job
    mark = folder / f"{number}_{os.getpid()}"
    tried = list(folder.glob(f"{number}_*"))
    mark.touch()
    if number == 5 or (number == 3 and not tried):
        os._exit(9)
    return number


def test_a_process_that_dies_is_replaced(tmp_path: Path) -> None:
    results = list(LocalPool(2).each(_die_at_some, ((number, tmp_path) for number in range(8))))
    assert sorted(r for r in results if isinstance(r, int)) == [0, 1, 2, 3, 4, 6, 7]
    assert [r for r in results if isinstance(r, Lost)] == [Lost((5, tmp_path))]
    assert len(list(tmp_path.glob("5_*"))) == 2


def test_processes_that_cannot_begin_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("animate_anyone.preparation.engines._begin", os.abort)
    with pytest.raises(InputError, match="end before they begin"):
        list(LocalPool(2).each(abs, [1, 2, 3]))
