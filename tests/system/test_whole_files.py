"""Results are there whole or not at all, also on full disks and behind links."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from animate_anyone.errors import InputError
from animate_anyone.media import VideoWriter, check_folder, check_writable, write_picture
from animate_anyone.structures import PoseSequence
from animate_anyone.system.whole_files import (
    remove_unfinished,
    try_to_write,
    unfinished,
    whole_file,
    whole_files,
    writing,
)

NOISE = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), np.uint8)
LINKS = pytest.mark.skipif(os.name == "nt", reason="links need rights there")


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The system refuses to write more: EFBIG, where a full disk says ENOSPC."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def poses(frames: int = 40) -> PoseSequence:
    rng = np.random.default_rng(0)
    return PoseSequence(rng.random((frames, 128, 2), np.float32) * 64, np.ones((frames, 128), np.float32), (64, 64))


def write_video(path: Path) -> None:
    with VideoWriter(path, (64, 64), 24) as video:
        for frame in NOISE:
            video.write(frame)


WRITERS = {
    "out.mp4": write_video,
    "out.mkv": write_video,
    "out.npz": lambda path: poses().save(path),
    "out.png": lambda path: write_picture(path, NOISE[0]),
    "out.jpg": lambda path: write_picture(path, NOISE[0]),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0], ids=["nothing", "some", "most", "all but a byte"])
def test_a_full_disk(tmp_path: Path, name: str, share: float, capfd: pytest.CaptureFixture[str]) -> None:
    """One line, nothing left, and what was there stays; also where only the last bytes do not fit."""
    path = tmp_path / name
    WRITERS[name](path)
    limit = min(int(path.stat().st_size * share), path.stat().st_size - 1)
    path.write_bytes(b"yesterday's")
    with no_file_larger_than(max(limit, 0)), pytest.raises(InputError, match=r"written \(File too large\)") as error:
        WRITERS[name](path)
    assert str(error.value).startswith(f"{path}: ")
    assert [f.name for f in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == b"yesterday's"
    assert capfd.readouterr().err == ""


def test_a_disk_that_fills_up_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first error is told, not what closing the file says of it."""
    with pytest.raises(InputError) as error, VideoWriter(tmp_path / "out.mp4", (64, 64), 24) as video:
        for frame in NOISE[:2]:
            video.write(frame)
        with no_file_larger_than(0):
            for frame in np.concatenate([NOISE] * 4):
                video.write(frame)
            pytest.fail("it was written")
    assert "out.mp4: could not be written" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_callers_is_not_hidden_by_a_full_disk(tmp_path: Path) -> None:
    with (
        no_file_larger_than(9000),
        pytest.raises(ZeroDivisionError),
        VideoWriter(tmp_path / "o.mp4", (64, 64), 24) as v,
    ):
        v.write(NOISE[0])
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_what_to_do(number: int) -> None:
    with pytest.raises(InputError, match=r"^file: could not be written \(.*\); ") as error, writing("file"):
        raise OSError(number, os.strerror(number))
    assert ("make room" in str(error.value)) == (number != errno.EIO)


def test_what_a_library_makes_of_a_full_disk() -> None:
    with pytest.raises(InputError, match="No space left"), writing("file"):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    with pytest.raises(RuntimeError, match="other"), writing("file"):
        raise RuntimeError("other")


def test_a_full_disk_at_the_start(tmp_path: Path) -> None:
    with no_file_larger_than(0):
        with pytest.raises(InputError, match="cannot be written"):
            check_writable(tmp_path / "out.mp4")
        with pytest.raises(InputError, match=r"--keep .*: cannot be written to"):
            check_folder(tmp_path / "a" / "b", "--keep", ("x",))
    assert not list(tmp_path.iterdir())


def test_files_that_belong_together(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "kept"
    with pytest.raises(InputError, match=rf"^{folder}/two.npz: could not be written"), whole_files(folder) as hidden:
        (hidden / "one").touch()
        with no_file_larger_than(10):
            poses().save(hidden / "two.npz")
    assert not list(tmp_path.iterdir()), "also the folders that were made for it"
    for content in ("first", "second"):
        with whole_files(folder) as hidden:
            (hidden / "one").write_text(content)
            assert (folder / "one").exists() == (content == "second")
        assert [f.name for f in folder.iterdir()] == ["one"]
        assert (folder / "one").read_text() == content
    with suppress(KeyboardInterrupt), whole_files(folder) as hidden:
        (hidden / "one").write_text("half")
        raise KeyboardInterrupt
    assert [f.name for f in folder.iterdir()] == ["one"]
    assert (folder / "one").read_text() == "second"


def test_what_is_unfinished_can_be_removed_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").touch()
    with unfinished(folder), unfinished(tmp_path / "never made"):
        remove_unfinished()
        assert not folder.exists()


def test_long_names(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".mp4")
    with whole_file(check_writable(path)) as part:
        part.write_text("whole")
    assert path.read_text() == "whole"


@LINKS
def test_a_link_is_kept_and_its_target_written(tmp_path: Path) -> None:
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    there.mkdir()
    elsewhere.mkdir()
    link, chain, target = there / "out.mp4", there / "chain.mp4", elsewhere / "real.mp4"
    link.symlink_to("../elsewhere/real.mp4")
    chain.symlink_to("out.mp4")
    for path, old in ((link, None), (chain, b"old")):  # the first leads to nothing yet
        assert target.exists() == (old is not None)
        write_video(check_writable(path))
        assert link.is_symlink() and chain.is_symlink()
        assert target.is_file() and not target.is_symlink()
        target.write_bytes(b"old")
    assert {f.name for f in there.iterdir()} == {"out.mp4", "chain.mp4"}
    assert [f.name for f in elsewhere.iterdir()] == ["real.mp4"]


@LINKS
def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    def link(name: str, to: Path | str) -> Path:
        (tmp_path / name).symlink_to(to)
        return tmp_path / name

    source = tmp_path / "source.mp4"
    source.touch()
    os.link(source, tmp_path / "hard.mp4")
    for path, reason in (
        (link("loop.mp4", "loop.mp4"), "leads to itself"),
        (link("folder.mp4", tmp_path), r"\(a link to .*\): is a folder"),
        (link("none.mp4", tmp_path / "none" / "out.mp4"), "there is no folder"),
        (link("device.mp4", "/dev/null"), "not an ordinary file"),
        (link("source_too.mp4", source), "is what the work starts from"),
        (tmp_path / "hard.mp4", "is what the work starts from"),
    ):
        with pytest.raises(InputError, match=reason):
            check_writable(path, (".mp4",), inputs=(source,))


@LINKS
def test_a_folder_to_keep_things_in(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "poses.npz").touch()
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "file").touch()
    (tmp_path / "nothing").symlink_to(tmp_path / "none")
    (tmp_path / "other.npz").symlink_to(kept / "poses.npz")
    names = ("poses.npz", "skeletons.mp4")
    for taken, folder in (
        (kept / "skeletons.mp4", kept),
        (kept / "Skeletons.MP4", kept),
        (tmp_path / "link" / "skeletons.mp4", kept),
        (kept / "skeletons.mp4", tmp_path / "link"),
        (tmp_path / "new" / "skeletons.mp4", tmp_path / "new"),
        (kept / "poses.npz", kept),
        (tmp_path / "other.npz", kept),
    ):
        with pytest.raises(InputError, match="would be replaced by what is kept"):
            check_folder(folder, "--keep", names, taken=(taken,))
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "nothing"):
        with pytest.raises(InputError, match="is no folder"):
            check_folder(folder, "--keep", names)
    (kept / "skeletons.mp4").mkdir()
    with pytest.raises(InputError, match=r"skeletons\.mp4 is a folder"):
        check_folder(kept, "--keep", names)
    check_folder(tmp_path / "new", "--keep", names, taken=(kept / "skeletons.mp4", tmp_path / "none"))
    assert not (tmp_path / "new").exists()


def test_poses_get_their_ending(tmp_path: Path) -> None:
    poses().save(tmp_path / "some")
    poses().save(str(tmp_path / "other.npz"))
    assert {f.name for f in tmp_path.iterdir()} == {"some.npz", "other.npz"}
    assert len(PoseSequence.load(tmp_path / "some.npz")) == 40


def test_errors_are_one_line(tmp_path: Path) -> None:
    error = InputError("a\nb\x1b[2J\udc80: no such file")
    assert str(error) == "a\\nb\\x1b[2J\\udc80: no such file"
    assert json.dumps(str(error)).isascii()


def test_several_try_one_name_at_once(tmp_path: Path) -> None:
    """As the processes of one clip do at the start: none finds the others' trial in its way, and none is left."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(50):
                try_to_write(tmp_path / "out.mp4")
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and not list(tmp_path.iterdir())
