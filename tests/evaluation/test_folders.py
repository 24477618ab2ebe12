"""What two folders hold, put together by name; all that differs is told."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from animate_anyone.errors import InputError
from animate_anyone.evaluation.folders import find_clips, pair_clips, read_split
from animate_anyone.media import VideoWriter


def frame(number: int, size: tuple[int, int] = (32, 48)) -> Image.Image:
    """A picture whose shade tells its number."""
    return Image.new("RGB", size, (number, number, number))


def frames(folder: Path, count: int = 3, size: tuple[int, int] = (32, 48), name: str = "{}.png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        frame(number, size).save(folder / name.format(number))
    return folder


def video(file: Path, count: int = 3, size: tuple[int, int] = (32, 48)) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(file, size, 12) as writer:
        for number in range(count):
            writer.write(np.asarray(frame(number, size)))
    return file


def test_files_and_folders_of_frames(tmp_path: Path) -> None:
    video(tmp_path / "walk.mp4", 4)
    frames(tmp_path / "a+b.2", 12)
    (tmp_path / "notes.txt").write_text("not a video")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "empty").mkdir()
    found = find_clips(tmp_path)
    assert list(found) == ["a+b.2", "walk"]
    assert (found["walk"].shape(), found["a+b.2"].shape()) == ((4, 32, 48), (12, 32, 48))
    shades = [int(picture[0, 0, 0]) for picture in found["a+b.2"].frames()]
    assert shades == list(range(12)), "10 comes after 9"
    assert [int(p[0, 0, 0] + 0.5) for p in found["walk"].frames()] == pytest.approx([0, 1, 2, 3], abs=1)


def test_a_folder_that_is_itself_a_video(tmp_path: Path) -> None:
    one, other = find_clips(frames(tmp_path / "out")), find_clips(video(tmp_path / "truth.mp4"))
    (pair,) = pair_clips(one, other)
    assert (pair.num_frames, pair.size) == (3, (32, 48))


def test_layout_of_ubc(tmp_path: Path) -> None:
    for name in ("91+20mY7UJS.mp4", "A1BgXgPkFJS.mp4"):
        video(tmp_path / "test" / name)
    video(tmp_path / "train" / "other.mp4")
    assert list(find_clips(tmp_path, "ubc")) == list(find_clips(tmp_path / "test", "ubc"))
    split = tmp_path / "fashion_test.txt"
    split.write_text("# the test videos\nhttps://example.org/fashion/A1BgXgPkFJS.mp4\n\n91+20mY7UJS # shown\n")
    assert read_split(split, "ubc") == ["A1BgXgPkFJS", "91+20mY7UJS"]


def test_layouts_of_tiktok(tmp_path: Path) -> None:
    for person in ("00337", "00338"):
        frames(tmp_path / "dataset" / person / "images", 11, name="{:04}.png")
        frames(tmp_path / "dataset" / person / "masks", 2)
        frames(tmp_path / "by_person" / f"TiktokDance_{person}", 11, name="{:04}.jpg")
        frames(tmp_path / "flat", 11, name=f"TiktokDance_{person}_{{:04}}png.png")
    for folder in ("dataset", "by_person", "flat"):
        found = find_clips(tmp_path / folder, "tiktok")
        assert [(name, clip.shape()[0]) for name, clip in found.items()] == [("00337", 11), ("00338", 11)]
    shades = [int(picture[0, 0, 0]) for picture in find_clips(tmp_path / "flat", "tiktok")["00338"].frames()]
    assert shades == list(range(11))
    split = tmp_path / "split.txt"
    split.write_text("TiktokDance_00338\n")
    pairs = pair_clips(
        find_clips(tmp_path / "flat", "tiktok"), find_clips(tmp_path / "dataset", "tiktok"), read_split(split, "tiktok")
    )
    assert [pair.name for pair in pairs] == ["00338"]
    frames(tmp_path / "flat", 1, name="portrait{}.png")
    with pytest.raises(InputError, match=r"portrait0\.png: not named PERSON_NUMBER"):
        find_clips(tmp_path / "flat", "tiktok")


def test_what_is_no_folder_of_videos(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    frames(video(tmp_path / "both" / "a.mp4").parent)
    frames(video(tmp_path / "twice" / "a.mp4").parent / "a")
    for name, message in (
        ("missing", "no such folder"),
        ("empty", "no videos"),
        ("both", r"holds frames \(0\.png\) and videos \(a\.mp4\)"),
        ("twice", "a and a.mp4 are both named a"),
    ):
        with pytest.raises(InputError, match=message):
            find_clips(tmp_path / name)
    with pytest.raises(InputError, match="--layout cats: not known; there are: plain, ubc, tiktok"):
        find_clips(tmp_path, "cats")


def test_names_that_differ_are_listed(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        frames(tmp_path / "generated" / name)
    for name in ("b", "c", "d", *(f"e{n}" for n in range(9))):
        frames(tmp_path / "truth" / name)
    sides = find_clips(tmp_path / "generated"), find_clips(tmp_path / "truth")
    listed = re.escape("the generated videos lack d, e0, e1, e2, e3, e4 and 4 more; the true videos lack a: both")
    with pytest.raises(InputError, match=listed):
        pair_clips(*sides)
    assert [pair.name for pair in pair_clips(*sides, ["c", "b"])] == ["c", "b"]
    with pytest.raises(InputError, match="the generated videos lack d; the true videos lack a: the split names them"):
        pair_clips(*sides, ["a", "b", "d"])


def test_lengths_and_sizes_that_differ_are_all_listed(tmp_path: Path) -> None:
    for name, count, size in (("a", 3, (32, 48)), ("b", 3, (32, 48)), ("c", 3, (32, 48))):
        frames(tmp_path / "generated" / name, count, size)
    for name, count, size in (("a", 4, (32, 48)), ("b", 3, (48, 32)), ("c", 5, (64, 64))):
        frames(tmp_path / "truth" / name, count, size)
    want = re.escape(
        "generated and true lengths differ: a (3 and 4 frames), c (3 and 5 frames); "
        "sizes differ: b (32×48 and 48×32 pixels), c (32×48 and 64×64 pixels); cut or scale"
    )
    with pytest.raises(InputError, match=want):
        pair_clips(find_clips(tmp_path / "generated"), find_clips(tmp_path / "truth"))
    small = find_clips(frames(tmp_path / "small", size=(31, 64)))
    with pytest.raises(InputError, match="31×64 pixels; at least 32 a side"):
        pair_clips(small, small)


def test_a_frame_of_another_size(tmp_path: Path) -> None:
    frames(tmp_path / "a")
    frame(9, (64, 64)).save(tmp_path / "a" / "9.png")
    with pytest.raises(InputError, match=r"9\.png: another size than 0\.png"):
        list(find_clips(tmp_path)["a"].frames())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "names no video"),
        (b"# nothing\n\n", "names no video"),
        (b"a\nb.mp4\nb\n", "names b more than once"),
        (b"\xff\xfe\x00", "is no text"),
    ],
)
def test_splits_that_are_none(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "split.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_split(file)
