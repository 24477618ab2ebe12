"""Damaged and odd files; many more of them: ``python tests/fuzz.py``."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import forked
import fuzz

FILES = 10  # of each kind


def fork(ground: Path, scratch: Path, seed: int, numbers: range, complaints: IO[Any]) -> forked.Forked:
    """As :func:`fuzz.start`, with everything imported."""
    return forked.Forked(lambda: fuzz.children(ground, scratch, seed, numbers), scratch, complaints)


def test_each_is_used_or_refused_in_one_line(tmp_path: Path) -> None:
    fuzz.make_ground(tmp_path)
    start = fork if forked.TRAINS else fuzz.start
    answers = list(fuzz.answers(tmp_path, seed=1, numbers=range(FILES * len(fuzz.KINDS)), start=start))
    assert [answer for answer in answers if answer.result not in ("used", "refused")] == []
    assert len(answers) == FILES * len(fuzz.KINDS)
    assert {answer.result for answer in answers} == {"used", "refused"}
