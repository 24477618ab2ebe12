"""The command line, called as the shell calls it, in this process."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from animate_anyone.cli.main import main
from animate_anyone.system.signals import SIGNALS


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it said; bytes that libraries in C wrote are among it."""

    status: int
    out: str
    err: str


class Shell:
    """Runs commands in a folder of their own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self._monkeypatch, self._capture = folder, monkeypatch, capture
        monkeypatch.chdir(folder)

    def __call__(self, *arguments: object) -> Result:
        self._monkeypatch.setattr(sys, "argv", ["animate-anyone", *map(str, arguments)])
        self._capture.readouterr()
        handlers = [signal.getsignal(number) for number in SIGNALS]
        status = 0
        try:
            main()
        except SystemExit as end:
            assert isinstance(end.code, int)
            status = end.code
        finally:
            for number, handler in zip(SIGNALS, handlers, strict=True):
                signal.signal(number, handler)
        out, err = self._capture.readouterr()
        return Result(status, out, err)

    def refused(self, *arguments: object) -> str:
        """Run a command that is the user's mistake; returns the one line that says so. Nothing may be left behind."""
        before = self.files()
        result = self(*arguments)
        assert result.status == 2, result
        assert result.out == ""
        assert result.err.startswith("error: "), result.err
        assert result.err.count("\n") == 1, result.err
        assert result.err.endswith("\n")
        assert self.files() == before
        return result.err.removeprefix("error: ").rstrip("\n")

    def files(self) -> dict[str, int]:
        """Everything in the folder, files with the time they were last written (trying a folder changes its own)."""
        return {str(f): 0 if f.is_dir() else f.stat().st_mtime_ns for f in self.folder.rglob("*")}
