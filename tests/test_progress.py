"""Progress passes items through; the default is silent."""

from __future__ import annotations

import pytest

from animate_anyone.progress import SILENT, TerminalProgress


def test_silent(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(SILENT.track(iter("abc"), description="letters")) == ["a", "b", "c"]
    assert capfd.readouterr() == ("", "")


def test_terminal_leaves_the_standard_output_alone(capfd: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress() as progress:
        assert [list(progress.track(range(n), description="inner")) for n in progress.track([2, 3])] == [
            [0, 1],
            [0, 1, 2],
        ]
    out, err = capfd.readouterr()
    assert out == ""
    assert "inner" in err
    assert "3/3" in err
