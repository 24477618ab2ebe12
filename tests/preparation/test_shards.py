"""Data sets as tar files: written, read as a stream, unpacked."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from animate_anyone.errors import InputError
from animate_anyone.preparation.prepare import read_manifest
from animate_anyone.preparation.shards import parse_shard_size, read_shards, unpack_shards, write_shards

pytestmark = pytest.mark.skipif(importlib.util.find_spec("webdataset") is None, reason="webdataset is not installed")


def _dataset(folder: Path, clips: int = 5) -> Path:
    """A data set of files that hold anything, with an entry that is no clip, and masks for every second."""
    folder.mkdir()
    lines: list[dict[str, Any]] = [{"status": "broken", "source": "x.mp4", "reason": "the file is empty"}]
    for number in range(clips):
        clip = f"{hashlib.sha256(bytes([number])).hexdigest()[:16]}_{number:06d}"
        files = {}
        for kind, ending in {"video": "mp4", "poses": "npz", **({"masks": "masks.npz"} if number % 2 else {})}.items():
            path = folder / f"clips/{clip[:2]}/{clip}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content := f"{kind} {number} ".encode() * 3000)
            about = {"path": path.relative_to(folder).as_posix(), "sha256": hashlib.sha256(content).hexdigest()}
            files[kind] = about
        lines.append({"status": "kept", "id": clip, "source": f"{number} é.mp4", "files": files})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return folder


def _tars(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder / "shards").iterdir())}


def test_equal_data_sets_give_equal_shards_of_the_size_asked_for(tmp_path: Path) -> None:
    for name in ("one", "two"):
        index = write_shards(_dataset(tmp_path / name), 150_000)
    assert _tars(tmp_path / "one") == _tars(tmp_path / "two")
    assert [line["clips"] for line in index] == [2, 2, 1]
    for line in index:
        content = (tmp_path / "two" / "shards" / line["file"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (line["bytes"], line["sha256"])
        assert len(content) < 170_000
    with tarfile.open(tmp_path / "one" / "shards" / "clips-000000.tar") as tar:
        assert {(m.mtime, m.uid, m.mode) for m in tar.getmembers()} == {(0, 0, 0o644)}


def test_shards_that_are_there_stay_and_others_go(tmp_path: Path) -> None:
    folder = _dataset(tmp_path / "set")
    write_shards(folder, 150_000)
    first, second = (folder / "shards" / f"clips-00000{n}.tar" for n in range(2))
    before = first.stat().st_mtime_ns
    truth = _tars(folder)
    second.unlink()
    write_shards(folder, 150_000)
    assert first.stat().st_mtime_ns == before
    assert _tars(folder) == truth
    write_shards(folder, 10**9)
    assert sorted(_tars(folder)) == ["clips-000000.tar", "shards.jsonl"]


@pytest.mark.parametrize("pattern", ["shards", "shards/*.tar", "shards/clips-{000000..000002}.tar", "file://"])
def test_clips_are_read_as_they_were(tmp_path: Path, pattern: str) -> None:
    folder = _dataset(tmp_path / "set")
    write_shards(folder, 150_000)
    names = (
        (folder / pattern).as_posix()
        if pattern != "file://"
        else f"file://{folder}/shards/clips-{{000000..000002}}.tar"
    )
    entries = [entry for entry in read_manifest(folder) if entry["status"] == "kept"]
    samples = list(read_shards(names))
    assert [sample.entry for sample in samples] == entries
    for sample in samples:
        for kind, about in sample.entry["files"].items():
            assert sample.files[kind] == (folder / about["path"]).read_bytes()


def test_unpacked_they_are_the_data_set(tmp_path: Path) -> None:
    folder = _dataset(tmp_path / "set")
    write_shards(folder, 150_000)
    assert unpack_shards(str(folder / "shards"), tmp_path / "out") == 5
    assert list(read_manifest(tmp_path / "out")) == [e for e in read_manifest(folder) if e["status"] == "kept"]
    kept = sorted((folder / "clips").rglob("*.*"))
    assert [file.read_bytes() for file in sorted((tmp_path / "out" / "clips").rglob("*.*"))] == [
        file.read_bytes() for file in kept
    ]


def test_a_data_set_of_no_clips_and_one_that_was_made_of_videos(tmp_path: Path) -> None:
    folder = _dataset(tmp_path / "set", clips=0)
    assert write_shards(folder) == []
    assert unpack_shards(str(folder / "shards"), tmp_path / "out") == 0
    assert list(read_manifest(tmp_path / "out")) == []
    (tmp_path / "mine" / "records" / "sources").mkdir(parents=True)
    with pytest.raises(InputError, match="holds a data set that was made of videos"):
        unpack_shards(str(folder / "shards"), tmp_path / "mine")


def test_unpacking_goes_on_where_it_stopped(tmp_path: Path) -> None:
    folder = _dataset(tmp_path / "set")
    write_shards(folder, 150_000)
    last = folder / "shards" / "clips-000002.tar"
    whole, pattern = last.read_bytes(), str(folder / "shards" / "*.tar")
    last.write_bytes(whole[:2000])
    with pytest.raises(InputError, match=r"clips-000002\.tar: "):
        unpack_shards(pattern, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    last.write_bytes(whole)
    (folder / "shards" / "clips-000000.tar").write_bytes(b"not read again")
    assert unpack_shards(pattern, tmp_path / "out") == 5
    with pytest.raises(InputError, match=r"clips-000000\.tar: gone, or not of \d+ bytes"):
        unpack_shards(str(folder / "shards"), tmp_path / "out")


def test_a_changed_clip_is_told(tmp_path: Path) -> None:
    folder = _dataset(tmp_path / "set")
    write_shards(folder)
    tar = folder / "shards" / "clips-000000.tar"
    tar.write_bytes(tar.read_bytes().replace(b"video 3 video 3", b"video 3 video 4", 1))
    with pytest.raises(InputError, match="is no whole clip; copy the shard anew"):
        list(read_shards(str(tar)))
    next(folder.glob("clips/*/*.mp4")).write_bytes(b"another")
    (folder / "records" / "shards" / "clips-000000.tar.json").unlink()
    with pytest.raises(InputError, match="is not what the manifest says"):
        write_shards(folder)


def test_no_shards(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such shards"):
        list(read_shards(str(tmp_path / "clips-*.tar")))
    with pytest.raises(InputError, match="no folder of shards"):
        list(read_shards(str(tmp_path)))


def test_sizes_of_shards() -> None:
    assert [parse_shard_size(text) for text in ("1GB", "500 mb", "2GiB", "3000000")] == [
        10**9,
        500 * 10**6,
        2 * 2**30,
        3_000_000,
    ]
    for wrong in ("", "1", "1TB", "-1GB", "GB"):
        with pytest.raises(InputError, match="--shards"):
            parse_shard_size(wrong)
