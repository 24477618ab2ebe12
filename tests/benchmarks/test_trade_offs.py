"""benchmarks/trade_offs.py on a tiny model: a row of every trade-off, and what its figures are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import tiny
from animate_anyone.evaluation.suites import puppet_clip


@pytest.fixture
def trade_offs(load_benchmark: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/trade_offs.py, of small and few frames."""
    trade_offs = load_benchmark("trade_offs")
    monkeypatch.setattr(trade_offs, "SIDE", 64)
    monkeypatch.setattr(trade_offs, "puppet_clip", lambda *given: puppet_clip(*given, frames=3))
    return trade_offs


def test_a_row_of_each(
    trade_offs: ModuleType, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.pipeline(num_inference_steps=2).save_pretrained(tmp_path / "student")
    output = tmp_path / "out.md"
    given = ["--model", str(tiny_model), "--student", str(tmp_path / "student"), "--characters", "1", "--steps", "8"]
    given += ["--guidance", "1", "2", "--device", "cpu", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["trade_offs.py", *given])
    trade_offs.main()
    text = output.read_text()
    unguided, guided = text.split("## Guidance 1\n")[1].split("## Guidance 2\n")
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in guided.splitlines() if "|" in line][2:]
    names = ["exact", "exact, in fewer steps", "`guidance`", "`solver`", "`features`", "`reference`"]
    names += ["`solver,features`", "`guidance,solver,features`", "`all`", "a student's own"]
    assert [row[0] for row in rows] == names
    assert [row[1] for row in rows] == ["8", "5", "8", "5", "8", "8", "5", "5", "5", "2"]
    assert rows[0][6:8] == ["", ""] and all(10 < float(row[7]) < 99 for row in rows[1:])
    assert "`guidance`" not in unguided
