"""``prepare``: mistakes are told before anything is written, and broken files stop nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("scenedetect")
pytest.importorskip("mediapipe")

from command import Shell


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "taken").touch()
    return Shell(tmp_path, monkeypatch, capfd)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone", "-o", "out"), "gone: no such file or folder"),
        (("empty.mp4", "-o", "out", "--seconds", "2"), "--seconds 2: give A:B"),
        (("empty.mp4", "-o", "out", "--seconds", "6:10"), "at least twice as long"),
        (("empty.mp4", "-o", "out", "--fps", "fast"), "--fps fast: not a number"),
        (("empty.mp4", "-o", "out", "--fps", "0"), "between 1 and 1000"),
        (("empty.mp4", "-o", "out", "--min-height", "1"), "--min-height 1"),
        (("empty.mp4", "-o", "out", "--max-side", "1"), "--max-side 1"),
        (("empty.mp4", "-o", "out", "--layout", "x"), "--layout x: not known; there is: plain, ubc, tiktok, ted"),
        (("empty.mp4", "-o", "out", "--pose-estimator", "x"), "give mediapipe or rtmlib"),
        (("empty.mp4", "-o", "out", "--depth", "nowhere"), "nowhere: no config.json there"),
        (("empty.mp4", "-o", "out", "--rtmlib-pose", "dw.onnx"), "--rtmlib-pose: the pose estimator is mediapipe"),
        (("empty.mp4", "-o", "out", "--objects", "ask", "--object-weights", "."), "--objects ask: replace asks"),
        (("empty.mp4", "-o", "taken"), "--output taken"),
        (("empty.mp4", "-o", "out", "--shards", "big"), "--shards big: give the size of a file"),
        (("empty.mp4", "-o", "out", "--from-shards", "x"), "--from-shards takes the place of videos"),
        (("-o", "out"), "no videos were given"),
    ],
)
def test_mistakes(shell: Shell, arguments: tuple[str, ...], message: str) -> None:
    assert message in shell.refused("prepare", *arguments)


def test_a_broken_file_is_listed(shell: Shell) -> None:
    result = shell("prepare", "empty.mp4", "-o", "out")
    assert result.status == 0, result
    assert "empty.mp4: the file is empty" in result.out
    assert (shell.folder / "out" / "manifest.jsonl").read_text().count("\n") == 1


def test_shards_of_no_clips(shell: Shell) -> None:
    result = shell("prepare", "empty.mp4", "-o", "out", "--shards", "1GB")
    assert result.status == 0, result
    assert (shell.folder / "out" / "shards" / "shards.jsonl").read_text() == ""
