"""Videos found in folders, lists and layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from animate_anyone.errors import InputError
from animate_anyone.preparation.sources import find_sources


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def _found(folder: Path, *inputs: str, layout: str = "plain") -> list[str]:
    found = find_sources([folder / name for name in inputs], folder / "out", layout)
    return [source.path.relative_to(folder).as_posix() for source in found.sources]


def test_folders_are_searched_in_the_order_of_names(tmp_path: Path) -> None:
    _touch(tmp_path, "in/10.mp4", "in/2.MP4", "in/b/1.mkv", "in/a/3.webm", "in/.hidden.mp4", "in/x.json", "in/noise")
    assert _found(tmp_path, "in") == ["in/2.MP4", "in/10.mp4", "in/a/3.webm", "in/b/1.mkv"]
    assert find_sources([tmp_path / "in"], tmp_path / "out").others == {".json": 1, "without ending": 1}


def test_inputs_keep_their_order_and_each_file_counts_once(tmp_path: Path) -> None:
    _touch(tmp_path, "in/1.mp4", "in/2.mp4")
    assert _found(tmp_path, "in/2.mp4", "in") == ["in/2.mp4", "in/1.mp4"]


def test_a_list_names_videos_beside_it_missing_ones_too(tmp_path: Path) -> None:
    _touch(tmp_path, "in/1.mp4")
    (tmp_path / "list.txt").write_text("# mine\nin/1.mp4\n\nin/gone.mp4\n")
    assert _found(tmp_path, "list.txt") == ["in/1.mp4", "in/gone.mp4"]


def test_the_data_set_itself_is_no_source(tmp_path: Path) -> None:
    _touch(tmp_path, "1.mp4", "out/clips/aa/2.mp4")
    assert _found(tmp_path, ".") == ["1.mp4"]


def test_layouts_have_splits(tmp_path: Path) -> None:
    _touch(tmp_path, "ubc/train/a.mp4", "ubc/test/b.mp4", "tiktok/00001/images/0001.png", "tiktok/00001/masks/0001.png")
    sources = find_sources([tmp_path / "ubc"], tmp_path / "out", "ubc").sources
    assert [(s.path.name, s.split) for s in sources] == [("b.mp4", "test"), ("a.mp4", "train")]
    (frames,) = find_sources([tmp_path / "tiktok"], tmp_path / "out", "tiktok").sources
    assert frames.path == tmp_path / "tiktok/00001/images"
    assert frames.fps == 30


def test_ted_has_videos_or_folders_of_their_frames(tmp_path: Path) -> None:
    _touch(tmp_path, "ted/train/a#1#90.mp4", "ted/train/b#5#99.mp4/0000000.png", "ted/train/b#5#99.mp4/0000001.png")
    _touch(tmp_path, "ted/test/c/0.jpg", "ted/test/c/1.jpg", "ted/cover.png")
    sources = find_sources([tmp_path / "ted"], tmp_path / "out", "ted").sources
    assert [(s.path.name, s.split) for s in sources] == [
        ("c", "test"),
        ("a#1#90.mp4", "train"),
        ("b#5#99.mp4", "train"),
    ]


def test_nothing_to_prepare_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        find_sources([tmp_path / "gone"], tmp_path / "out")
    with pytest.raises(InputError, match="no videos"):
        find_sources([tmp_path], tmp_path / "out")
    with pytest.raises(InputError, match="--layout x: not known"):
        find_sources([tmp_path], tmp_path / "out", "x")
