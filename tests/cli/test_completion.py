"""Completion in the shell, by typer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

START = "import sys; sys.argv[0] = 'animate-anyone'; from animate_anyone.cli.main import main; main()"


def completed(folder: Path, typed: str) -> list[str]:
    """What bash is offered after ``typed``."""
    asked = {"_ANIMATE_ANYONE_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", START], cwd=folder, env={**os.environ, **asked}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("animate-anyone an", {"animate"}),
        ("animate-anyone animate --dri", {"--driving", "--driving-kind"}),
        ("animate-anyone train puppet_im", {"puppet_image", "puppet_image_encoder", "puppet_image_wide"}),
        ("animate-anyone train mi", {"mine.yaml", "mine/"}),
        ("animate-anyone replace a.png --model pup", {"puppet", "puppet-environment"}),
        ("animate-anyone models p", {"pull"}),
    ],
)
def test_bash_is_offered(tmp_path: Path, typed: str, offered: set[str]) -> None:
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "mine.mp4").touch()
    (tmp_path / "mine").mkdir()
    assert offered == set(completed(tmp_path, typed))


def test_the_script_is_shown(tmp_path: Path) -> None:
    """What ``--show-completion`` prints and ``--install-completion`` writes; that the shell is bash, is told here."""
    environment = {**os.environ, "HOME": str(tmp_path), "_ANIMATE_ANYONE_COMPLETE": "source_bash"}
    command = [sys.executable, "-c", START]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "_ANIMATE_ANYONE_COMPLETE=complete_bash" in done.stdout
    assert not list(tmp_path.iterdir())
