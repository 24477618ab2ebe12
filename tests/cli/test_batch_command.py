"""``animate-anyone batch``: what it prints and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import Shell

import forked
from animate_anyone.engines import local_pool
from animate_anyone.system import signals
from animate_anyone.system.whole_files import whole_file
from animate_anyone.workflows import batch as workflow
from animate_anyone.workflows.batch_jobs import Job


@pytest.fixture
def shell(dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    """A shell beside a character and a dance."""
    for name in ("me.png", "me.npz", "dance.npz"):
        shutil.copy(dancers / name, tmp_path / name)
    return Shell(tmp_path, monkeypatch, capfd)


@pytest.fixture
def write(tiny_model: Path, tmp_path: Path) -> Callable[..., None]:
    """Writes a jobs file."""

    def write(*changes: dict[str, Any]) -> None:
        job = {"character": "me.png", "driving": "dance.npz", "character-pose": "me.npz", "model": str(tiny_model)}
        job |= {"size": "64x64", "steps": 1, "device": "cpu", "frames": "0:3"}
        (tmp_path / "jobs.jsonl").write_text("".join(json.dumps({**job, **change}) + "\n" for change in changes))

    return write


def test_mistakes_are_told_by_line_and_nothing_is_begun(shell: Shell, write: Callable[..., None]) -> None:
    write({"output": "a.mp4", "sed": 1}, {"output": "b.mp4"}, {"output": "b.mp4"}, {"output": "c.gif"})
    before = shell.files()
    result = shell("batch", "jobs.jsonl", "-o", "out")
    assert (result.status, result.out) == (2, "")
    assert [line.rpartition(";")[0] for line in result.err.splitlines()] == [
        "error: jobs.jsonl, line 1: sed is not known",
        "error: jobs.jsonl, line 3: output b.mp4: line 2 has the same",
        "error: jobs.jsonl, line 4: output c.gif: this kind of file cannot be written",
    ]
    write(*({"output": "a.mp4", "sed": 1},) * 60)
    assert shell("batch", "jobs.jsonl", "-o", "out").err.splitlines()[-1] == "error: and 10 more"
    write({"output": "a.mp4"})
    assert "--output me.png" in shell.refused("batch", "jobs.jsonl", "-o", "me.png")
    assert "give local, auto, or HOST:PORT" in shell.refused("batch", "jobs.jsonl", "-o", "out", "--ray", "here")
    (shell.folder / "jobs.jsonl").unlink()
    assert "jobs.jsonl: cannot be read" in shell.refused("batch", "jobs.jsonl", "-o", "out")
    assert shell.files() == {file: time for file, time in before.items() if file != str(shell.folder / "jobs.jsonl")}


def test_a_dry_run(shell: Shell, write: Callable[..., None]) -> None:
    write({"output": "a.mp4"}, {"output": "b.mp4", "character": "gone.png"})
    before = shell.files()
    result = shell("batch", "jobs.jsonl", "-o", "out", "--dry-run")
    assert (result.status, result.err) == (0, "")
    _, good, bad = result.out.splitlines()
    assert good.endswith("make")
    assert "would fail" in bad and "gone.png: no such file" in bad
    assert shell.files() == before


def run(folder: Path, job: Callable[[Job], list[str]] | None = None) -> forked.Forked:
    """The command, with processes that are forked; ``job`` is what makes a video in place of the workflow."""

    def work() -> None:
        local_pool._METHOD = "fork"
        signals.AGAIN = 0.0005  # that a signal is told again disturbs no part of the end

        if job is not None:
            workflow._run = job  # type: ignore[assignment]
        forked.command_line("batch", "jobs.jsonl", "-o", "out")()

    return forked.Forked(work, folder)


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_gone_on_with(shell: Shell, write: Callable[..., None], number: signal.Signals) -> None:
    def half(job: Job) -> list[str]:
        job.output.parent.mkdir()
        with whole_file(job.output) as part:
            part.write_bytes(b"half")
            os.write(1, b"here\n")
            time.sleep(600)
        return []

    write({"output": "a.mp4"}, {"output": "b.mp4", "seed": 1})
    process = run(shell.folder, half)
    assert process.stdout.readline() == "here\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, "stopped; nothing half-written is left\n")
    assert list((shell.folder / "out").iterdir()) == []

    process = run(shell.folder)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == "2 jobs: 2 made, 0 was there, 0 failed"
    names = [f"{name}.mp4{ending}" for name in "ab" for ending in ("", ".json")]
    assert sorted(file.name for file in (shell.folder / "out").iterdir()) == [*names, "records"]
