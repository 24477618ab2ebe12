"""``evaluate --benchmark``, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import Shell

import small_benchmark


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    """A shell beside UBC fashion of two clips."""
    small_benchmark.videos(tmp_path / "data", ("91+20mY7UJS", "A1BgXgPkFJS"))
    monkeypatch.setenv("ANIMATE_ANYONE_METRICS", str(tmp_path / "metrics"))
    return Shell(tmp_path, monkeypatch, capfd)


def test_the_test_clips_of_ubc(shell: Shell, tiny_model: Path) -> None:
    words = ("evaluate", "--benchmark", "ubc", "data", "--model", tiny_model, "-o", "out", "--json", "figures.json")
    words = (*words, "--steps", "1", "--device", "cpu", "--size", "64x64", "--most-frames", "2", "--protocol", "clean")
    result = shell(*words, "--metrics", "psnr,fvd")
    assert result.status == 0, result.err
    assert "2 videos, 4 frames, protocol clean" in result.out
    assert "FVD            needs i3d_pretrained_400.pt" in result.out
    assert "## UBC fashion" in result.out and "| SD-I2V | 0.894 | 36.01 |" in result.out
    report = json.loads(Path("out/report.json").read_text())
    assert report == json.loads(Path("figures.json").read_text())
    assert (report["settings"]["steps"], report["scaled_to_truth"], report["sizes"]) == (1, ["64x64"], ["192x256"])
    assert Path("out/report.md").read_text().strip() in result.out
    assert "| **figures (ours)** [^1] |" in shell("report", "figures.json").out  # in the table of the benchmark


def test_mistakes(shell: Shell) -> None:
    known = ("--benchmark", "ubc", "data", "--model", "puppet", "-o", "out")
    Path("taken").write_text("a file")
    for arguments, message in (
        (
            known[:2],
            "--benchmark ubc: wants a folder: the data set, as it is published; type: evaluate --benchmark ubc",
        ),
        (known[:3], "--benchmark ubc: wants --model"),
        (known[:5], "--benchmark ubc: wants --output"),
        (("data",), "data: a folder goes with --benchmark; give that, or leave the folder out"),
        (("-o", "out"), "--output goes with --benchmark; give that, or leave it out"),
        ((*known, "--suite", "puppet"), "--suite does not go with --benchmark; leave it out"),
        ((*known, "--layout", "ubc"), "--layout does not go with --benchmark"),
        ((*known, "--characters", "2"), "--characters does not go with --benchmark"),
        ((*known[:1], "cats", *known[2:]), "--benchmark cats: not known; there are: tiktok, ubc, ted"),
        ((*known[:4], "nobody", *known[5:]), "nobody"),
        ((*known[:2], "nowhere", *known[3:]), "nowhere: no such folder"),
        ((*known, "--size", "65x64"), "size 65x64: both must be multiples of 8"),
        ((*known, "--background", "pink"), "--background pink: not known"),
        ((*known, "--metrics", "taste"), "--metrics taste: taste is not known"),
        ((*known, "--split", "nowhere.txt"), "--split nowhere.txt: cannot be read"),
        ((*known[:-1], "taken"), "--output taken: taken is no folder"),
    ):
        assert message in shell.refused("evaluate", *arguments), arguments
