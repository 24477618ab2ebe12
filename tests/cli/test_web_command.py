"""``animate-anyone web``: how it refuses; the page itself is tested in tests/web."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from command import Shell


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, monkeypatch, capfd)


def test_without_the_package_one_line_says_what_to_type(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio.blocks", None)
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    assert 'pip install "animate-anyone[web]"' in shell.refused("web", "--port", port)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--share"], "--share: anybody who has the address"),
        (["--auth", "ann"], "--auth: give USER:PASSWORD"),
        (["--host", "192.0.2.1"], "--host 192.0.2.1 --port 7860: cannot listen there"),
        (["--model", "none"], "none"),
    ],
)
def test_mistakes(shell: Shell, options: list[str], said: str) -> None:
    assert said in shell.refused("web", *options)
