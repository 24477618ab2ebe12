"""A long video that is stopped goes on when the same command is given again, to the same file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from animate_anyone.models import autoencoding
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.progress import SILENT, Item, Progress
from animate_anyone.structures import PoseSequence
from animate_anyone.system.whole_files import kept_for_later
from animate_anyone.workflows import resuming
from animate_anyone.workflows.animate import Settings, animate
from animate_anyone.workflows.resuming import KeptWork, describe_job
from animate_anyone.workflows.settings import Report


class StoppedAfter(Progress):
    """Ctrl-C while a frame is written."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def track(self, items: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
        for number, item in enumerate(items):
            if description == "frames" and number == self.frames:
                raise KeyboardInterrupt
            yield item


class Job:
    """``me.png`` dances in windows of four frames, two steps each."""

    def __init__(self, model: Path, dancers: Path, folder: Path) -> None:
        self.model, self.dancers, self.folder, self.calls = model, dancers, folder, 0

    def run(self, name: str = "out.mp4", stop_after: int | None = None, **changes: Any) -> Report | None:
        """``None``: it was stopped."""
        known = PoseSequence.load(self.dancers / "me.npz")
        options = {"model": str(self.model), "size": (64, 64), "steps": 2, "device": "cpu", "window": 4, "overlap": 1}
        progress = SILENT if stop_after is None else StoppedAfter(stop_after)
        given = self.dancers / "me.png", self.dancers / "dance.npz", self.folder / name
        try:
            return animate(*given, Settings(**{**options, **changes}), character_pose=known, progress=progress)
        except KeyboardInterrupt:
            return None

    @property
    def left(self) -> Path:
        return self.folder / "out.mp4.unfinished"

    def bytes(self, name: str = "out.mp4") -> bytes:
        return (self.folder / name).read_bytes()


@pytest.fixture
def job(tiny_model: Path, dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(autoencoding, "PIXELS_AT_ONCE", 64 * 64)
    made = Job(tiny_model, dancers, tmp_path)
    right = DenoisingUNet.forward

    def counted(*given: Any, **more: Any) -> Any:
        made.calls += 1
        return right(*given, **more)

    monkeypatch.setattr(DenoisingUNet, "forward", counted)
    return made


def test_stopped_and_begun_again(job: Job) -> None:
    job.run("whole.mp4")
    whole, job.calls = job.calls, 0
    for frames in (0, 5, 8):
        assert job.run(stop_after=frames) is None
        assert {file.name for file in job.folder.iterdir()} == {"whole.mp4", "whole.mp4.json", "out.mp4.unfinished"}
        assert job.left in kept_for_later
    report = job.run()
    assert report is not None
    assert f"{job.left}: 8 frames were finished, and are not made again" in report.lines
    assert job.bytes() == job.bytes("whole.mp4")
    assert {file.name for file in job.folder.iterdir()} == {"whole.mp4", "whole.mp4.json", "out.mp4", "out.mp4.json"}
    assert job.left not in kept_for_later
    # Whatever windows were finished is not computed again; those that a stop came in the middle of are.
    assert job.calls < whole + 3 * 2 * 2


def test_another_job_begins_anew(job: Job) -> None:
    job.run("whole.mp4", seed=1)
    for changes in ({}, {"seed": 2}, {"steps": 1, "seed": 1}):
        assert job.run(stop_after=7, **changes) is None
        assert job.left.is_dir()
    report = job.run(seed=1)
    assert report is not None
    assert f"{job.left}: was begun for another command or other files, and is begun anew" in report.lines
    assert job.bytes() == job.bytes("whole.mp4") and not job.left.exists()


@pytest.mark.parametrize("file", ["state.safetensors", "job.json", "00000001.png"])
@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_what_is_damaged_is_made_again(job: Job, file: str, content: bytes | None) -> None:
    job.run("whole.mp4")
    assert job.run(stop_after=8) is None
    if content is None:
        (job.left / file).unlink()
    else:
        (job.left / file).write_bytes(content)
    assert job.run() is not None
    assert job.bytes() == job.bytes("whole.mp4")


def test_where_it_cannot_be_kept_the_work_goes_on(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job.run("whole.mp4")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resuming.KeptWork, "_write_frame", full)
    assert job.run() is not None
    assert job.bytes() == job.bytes("whole.mp4")


def test_one_window_is_not_kept(job: Job) -> None:
    assert job.run(stop_after=5, window=16) is None
    assert list(job.folder.iterdir()) == []


def test_a_folder_of_that_name_that_is_not_ours_stays(job: Job) -> None:
    job.left.mkdir()
    (job.left / "mine.txt").write_text("mine")
    assert job.run() is not None
    assert (job.left / "mine.txt").read_text() == "mine"


def test_another_number_of_processes_begins_anew(job: Job) -> None:
    """How far a clip is, is told by groups of windows, which are as many as there are processes."""
    things = job.dancers / "me.png", job.dancers / "dance.npz", Settings(model=str(job.model), device="cpu"), None
    one, two = (describe_job("animate", *things, count) for count in (1, 2))
    assert one != two and one == describe_job("animate", *things)


def test_poses_are_looked_for_once(tmp_path: Path, dancers: Path) -> None:
    found, looked = PoseSequence.load(dancers / "dance.npz"), list[int]()

    def find() -> tuple[PoseSequence, list[str]]:
        looked.append(0)
        return found, ["a remark"]

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), KeptWork(tmp_path / "out.mp4", "job") as kept:
            poses, lines = kept.poses(find)
            raise KeyboardInterrupt
        assert (poses.keypoints == found.keypoints).all() and poses.fps == found.fps and lines == ["a remark"]
    assert len(looked) == 1
