"""What every workflow does: the video written at the driver's times and with its sound, and the report."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import pytest

from animate_anyone.media import frame_times, probe, read_frames
from animate_anyone.workflows.driving import open_driver
from animate_anyone.workflows.settings import Report, write_video
from small_videos import UNEVEN, held_last_frame, numbered


def result_of(source: Path, path: Path, frames: slice | None = None, fps: Fraction | None = None) -> Path:
    """A driver's frames and sound written as the workflows do."""
    driver = open_driver(source, frames, fps)
    write_video(path, driver.pictures(), driver.size, driver, sound=True)
    return path


@pytest.fixture
def held(tmp_path: Path) -> Path:
    return held_last_frame(tmp_path)


def sound_length(path: Path) -> float:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return float(max(p.pts + p.duration for p in container.demux(stream) if p.size) * stream.time_base)


@pytest.mark.parametrize("frames", [None, slice(2, 6), slice(1, 6, 2)])
def test_a_last_frame_that_is_held_stays_so(held: Path, tmp_path: Path, frames: slice | None) -> None:
    first = 0 if frames is None else frames.start
    result = result_of(held, tmp_path / "out.mp4", frames)
    info = probe(result)
    near = 0.51 / float(info.fps)  # the result's clock goes in frames
    assert info.duration == pytest.approx(2.5 - first / 12, abs=near)
    assert sound_length(result) == pytest.approx(info.duration, abs=0.05)
    assert len(list(read_frames(result))) == len(range(6)[frames or slice(None)])


def test_a_held_frame_at_another_rate(held: Path, tmp_path: Path) -> None:
    result = result_of(held, tmp_path / "out.mp4", fps=Fraction(24))
    info = probe(result)
    assert (info.num_frames, info.fps) == (60, 24)
    assert info.duration == pytest.approx(2.5, abs=0.002)
    assert sound_length(result) == pytest.approx(2.5, abs=0.05)


def test_a_part_that_ends_before_the_held_frame(held: Path, tmp_path: Path) -> None:
    assert probe(result_of(held, tmp_path / "out.mp4", slice(0, 5))).duration == pytest.approx(5 / 12, abs=0.002)


def test_a_report_says_how_long_each_stage_took(tmp_path: Path) -> None:
    report = Report(["a line"])
    for stage in ("first", "second"):
        with report.timed(stage):
            pass
    report.save(tmp_path)
    saved = json.loads((tmp_path / "report.json").read_text())
    assert saved == {"lines": ["a line"], "seconds": report.seconds}
    assert list(saved["seconds"]) == ["first", "second"]


def test_uneven_times_of_the_driver_are_those_of_the_video(tmp_path: Path) -> None:
    result = result_of(numbered(tmp_path / "uneven.mp4", UNEVEN, 6), tmp_path / "out.mp4")
    assert frame_times(result)[:-1] == pytest.approx(UNEVEN, abs=1e-3)
