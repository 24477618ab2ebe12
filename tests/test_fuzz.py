"""Damaged and odd files; many more of them: ``python tests/fuzz.py``."""

from __future__ import annotations

from pathlib import Path

import fuzz

FILES = 10  # of each kind


def test_each_is_used_or_refused_in_one_line(tmp_path: Path) -> None:
    fuzz.make_ground(tmp_path)
    answers = list(fuzz.answers(tmp_path, seed=1, numbers=range(FILES * len(fuzz.KINDS))))
    assert [answer for answer in answers if answer.result not in ("used", "refused")] == []
    assert len(answers) == FILES * len(fuzz.KINDS)
    assert {answer.result for answer in answers} == {"used", "refused"}
