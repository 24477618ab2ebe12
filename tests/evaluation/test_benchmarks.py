"""Which clips are a benchmark's test, in the layouts in which they are published, and what each is made from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import small_benchmark
from animate_anyone.errors import InputError
from animate_anyone.evaluation.benchmarks import BENCHMARKS, FIRST, clips_of, find_benchmark, read_test_split
from animate_anyone.evaluation.report import published
from animate_anyone.media import write_picture


def test_each_has_a_table_of_published_rows() -> None:
    assert BENCHMARKS.keys() <= published().keys()
    with pytest.raises(InputError, match="--benchmark cats: not known; there are: tiktok, ubc, ted"):
        find_benchmark("cats")


def test_tiktok(tmp_path: Path) -> None:
    small_benchmark.tiktok(tmp_path)
    for folder in (tmp_path, tmp_path / "TikTok_dataset"):
        clips = clips_of(BENCHMARKS["tiktok"], folder)
        assert [clip.name for clip in clips] == ["00335", "00336", "00337", "00338", "00339", "00340"]
        assert [clip.files is not None for clip in clips] == [True] * 3 + [False] * 3
        assert {clip.reference for clip in clips} == {FIRST}
        assert clips[0].files is not None and clips[0].files.shape() == (3, 192, 256)
    (clip,) = [c for c in clips_of(BENCHMARKS["tiktok"], tmp_path, num_frames=2) if c.name == "00336"]
    assert clip.files is not None and clip.files.shape()[0] == len(list(clip.files.frames())) == 2


def test_test_folders(tmp_path: Path) -> None:
    ubc = small_benchmark.videos(tmp_path / "ubc", ("91+20mY7UJS", "A1BgXgPkFJS"))
    assert [clip.name for clip in clips_of(BENCHMARKS["ubc"], ubc)] == ["91+20mY7UJS", "A1BgXgPkFJS"]
    names = ("-0KWsUp1Lxs#000256#000512", "-0KWsUp1Lxs#000512#000700")
    ted = small_benchmark.videos(tmp_path / "TED384-v2", names)
    (tmp_path / "split.txt").write_text(f"# a talk\n{names[1]}.mp4 1 # from its second frame\n")
    assert [clip.name for clip in clips_of(BENCHMARKS["ted"], ted)] == list(names)
    (clip,) = clips_of(BENCHMARKS["ted"], tmp_path, tmp_path / "split.txt")
    assert (clip.name, clip.reference) == (names[1], 1)
    assert clip.files is not None and clip.files.shape()[0] == 3


def test_a_split_names_references(tmp_path: Path) -> None:
    small_benchmark.blank(tmp_path)
    file = tmp_path / "split.txt"
    file.write_text("00335\n00336 4\n00337\tblank.png\nTiktokDance_00338.mp4 0 # why\n")
    assert read_test_split(file, "tiktok") == {
        "00335": 0, "00336": 4, "00337": tmp_path / "blank.png", "00338": 0,
    }  # fmt: skip
    for text, message in (
        ("00335 other.png\n", "the reference of 00335, other.png, is no number of a frame and no picture"),
        ("00335 -1\n", "the reference of 00335, -1, is no number"),
        ("00335\n00335 2\n", "names 00335 more than once"),
        ("# nothing\n", "names no video"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            read_test_split(file, "tiktok")


def test_what_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    write_picture(tmp_path / "frames" / "0.png", small_benchmark.dancer(1).frames[0].numpy())
    small_benchmark.videos(tmp_path / "videos", ("a",))
    for name, folder, message in (
        ("ubc", tmp_path / "gone", "no such folder"),
        ("ubc", tmp_path / "frames", "holds frames of one clip; give the folder of UBC fashion as it is published"),
        ("tiktok", tmp_path / "videos" / "test", "holds none of the test clips of TikTok (00335, 00336"),
        ("ted", tmp_path / "videos" / "test" / "a.mp4", "is a file; give the folder of TED-talks"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            clips_of(BENCHMARKS[name], folder)
