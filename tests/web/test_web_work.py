"""What a job of the page does, in this process: workflows on a tiny model, within the limits."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from animate_anyone.errors import InputError
from animate_anyone.media import VideoWriter, probe, read_comment
from animate_anyone.web.limits import Limits
from animate_anyone.web.work import do
from animate_anyone.workflows.demo_inputs import write_demo_inputs
from animate_anyone.workflows.understanding import show_frame


@pytest.fixture
def job(tiny_model: Path, dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A job that is made of a picture and poses."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(dancers / "me.png", tmp_path / "character.png")
    shutil.copy(dancers / "dance.npz", tmp_path / "video.npz")
    settings = {"model": str(tiny_model), "steps": 2, "size": "64x64", "frames": "0:8", "align": False}
    files = {"folder": str(tmp_path), "character": "character.png", "video": "video.npz"}
    yield {"kind": "make", "verb": "animate", "settings": settings, "limits": asdict(Limits()), **files}
    assert tempfile.tempdir is None


def test_a_video_is_made_and_told_of(job: dict[str, Any], tmp_path: Path) -> None:
    told: list[Any] = []
    done = do(job, told.append)
    assert (done["files"], done["frames"]) == ({"video": "result.mp4", "settings": "result.mp4.json"}, 8)
    assert done["lines"][-1] == "result.mp4: 8 frames, 64x64, 12 frames per second"
    assert told[-1] == {"stage": "frames", "done": 8, "total": 8}
    assert {"preview": True} in told and (tmp_path / "preview.jpg").is_file()
    assert str(tmp_path) not in (read_comment(tmp_path / "result.mp4") or str(tmp_path)).replace(
        job["settings"]["model"], ""
    )


def test_what_is_understood_is_shown_and_the_needs_told(job: dict[str, Any], tmp_path: Path) -> None:
    done = do(job | {"kind": "understand"}, lambda said: None)
    assert any(line.startswith("memory: ") for line in done["lines"])
    info = probe(tmp_path / "understood.mp4")
    assert (info.num_frames, done["frames"]) == (8, 8)
    assert not (tmp_path / "result.mp4").exists()


@pytest.mark.parametrize(
    ("settings", "limits", "said"),
    [
        ({"size": "4096x4096"}, Limits(), "size 4096x4096: at most"),
        ({"steps": 300}, Limits(), "steps 300: at most 200"),
        ({"keep": "/tmp"}, Limits(), "there is no setting keep here"),
        ({}, Limits(megabytes=0), "MB of poses; 0 at most"),
    ],
)
def test_over_a_limit_nothing_is_begun(
    job: dict[str, Any], tmp_path: Path, settings: dict[str, Any], limits: Limits, said: str
) -> None:
    changed = job | {"settings": job["settings"] | settings, "limits": asdict(limits)}
    with pytest.raises(InputError, match=said):
        do(changed, lambda told: None)
    assert not (tmp_path / "result.mp4").exists()
    os.chdir(tmp_path)


@pytest.mark.parametrize(
    ("limits", "said"),
    [(Limits(frames=3), "video.mp4: 4 frames; at most 3"), (Limits(pixels=1000), "64x64; at most 1000 pixels a frame")],
)
def test_long_and_large_videos_are_refused(job: dict[str, Any], tmp_path: Path, limits: Limits, said: str) -> None:
    with VideoWriter(tmp_path / "video.mp4", (64, 64), 12) as video:
        for _ in range(4):
            video.write(np.zeros((64, 64, 3), np.uint8))
    more = {"video": "video.mp4", "limits": asdict(limits), "settings": job["settings"] | {"frames": None}}
    with pytest.raises(InputError, match=said):
        do(job | more, lambda told: None)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"<html><script>alert(1)</script>"])
def test_a_file_that_is_no_picture_is_one_line_without_the_servers_folder(
    job: dict[str, Any], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "character.png").write_bytes(content)
    with pytest.raises(InputError, match=r"^character\.png: ") as raised:
        do(job, lambda told: None)
    assert str(tmp_path) not in str(raised.value)


def test_the_example_needs_nothing(tmp_path: Path) -> None:
    assert write_demo_inputs(tmp_path, "animate", frames=2, side=64) == {
        "character": "character.png",
        "poses": "dance.npz",
    }
    assert write_demo_inputs(tmp_path, "replace", frames=2, side=64)["video"] == "scene.mp4"
    assert probe(tmp_path / "scene.mp4").num_frames == 2


def test_poses_have_no_frame_to_click_on(dancers: Path) -> None:
    with pytest.raises(InputError, match="holds poses"):
        show_frame(dancers / "dance.npz", 0)
