"""The Dockerfile: its targets, and what a linter says of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY

FILE = REPOSITORY / "Dockerfile"


def test_a_linter_passes_it() -> None:
    linter = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip('hadolint is not installed: pip install "animate-anyone[dev]"')
    done = subprocess.run([linter, "--no-color", str(FILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_it_copies_is_sent_to_the_builder() -> None:
    """``.dockerignore`` leaves out all but what is named; each source of COPY must be, and must be there."""
    sent = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (.+) \S+$", FILE.read_text(), re.M)
    names = {name for line in copied for name in line.split()}
    assert names and names <= sent
    assert all((REPOSITORY / name).exists() for name in sent)


def test_its_targets() -> None:
    stages = re.findall(r"^FROM \S+ AS (\w+)$", FILE.read_text(), re.M)
    assert {"cpu", "cuda"} <= set(stages)
    assert stages[-1] == "cpu", "the default target"
