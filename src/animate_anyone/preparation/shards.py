"""Data sets as tar files for object storage, in the form of webdataset; written, read as a stream, and unpacked.

Each kept clip is a sample: ``ID.mp4``, ``ID.npz``, ``ID.masks.npz`` and ``ID.objects.npz`` where there are some, and
``ID.json``, its entry of the manifest without the thumbnail. Equal data sets give equal bytes.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from animate_anyone.errors import InputError, shortened
from animate_anyone.optional import require
from animate_anyone.preparation import records
from animate_anyone.preparation.clip_stages import place, sha256
from animate_anyone.preparation.prepare import MANIFEST, read_manifest
from animate_anyone.progress import SILENT, Progress
from animate_anyone.system.whole_files import whole_file, writing

FOLDER, INDEX = "shards", "shards.jsonl"
"""In a data set: the folder of its shards, and in it the list of them: ``file``, ``bytes``, ``sha256``, ``clips``."""
DEFAULT_SIZE = 10**9
"""Bytes of a shard."""

_DONE = Path(records.FOLDER) / FOLDER
_ENDINGS = {"video": "mp4", "poses": "npz", "masks": "masks.npz", "objects": "objects.npz"}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_LEAST = 10**6  # bytes


@dataclass(frozen=True)
class Sample:
    """A clip out of a shard.

    Attributes:
        entry: of the manifest, as :func:`~animate_anyone.preparation.prepare.read_manifest` gives it.
        files: bytes by kind: ``video``, ``poses`` and, where there are some, ``masks`` and ``objects``.
    """

    entry: dict[str, Any]
    files: dict[str, bytes]


def parse_shard_size(text: str) -> int:
    """``"1GB"``, ``"500 MB"`` or ``"1GiB"`` to bytes. Raises :class:`InputError`."""
    found = re.fullmatch(r"\s*(\d{1,15})\s*([kmg]i?)?b?\s*", text, re.ASCII | re.IGNORECASE)
    size = int(found[1]) * _UNITS[(found[2] or "").lower()] if found else 0
    if size < _LEAST:
        raise InputError(f"--shards {shortened(text)}: give the size of a file, 1MB or more, such as 1GB")
    return size


def write_shards(dataset: Path, size: int = DEFAULT_SIZE, progress: Progress = SILENT) -> list[dict[str, Any]]:
    """Write the kept clips of a data set into ``dataset/shards``; shards that are there already stay.

    Args:
        dataset: a folder that ``prepare`` wrote.
        size: bytes of a shard at most, unless a single clip is larger.
        progress: shown how many clips are done.

    Returns:
        The lines of the index.

    Raises:
        InputError: no data set, files that are gone or changed, or it cannot be written.
    """
    folder, lines = dataset / FOLDER, []
    for number, entries in enumerate(_divided(dataset, size)):
        name = f"clips-{number:06d}.tar"
        lines.append(_write_shard(dataset, name, list(progress.track(entries, len(entries), name))))
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("clips-*.tar"):
            if file.name not in {line["file"] for line in lines}:  # of a call with other settings
                file.unlink()
    with whole_file(folder / INDEX) as part:
        part.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return lines


def read_shards(pattern: str) -> Iterator[Sample]:
    """The clips of shards, in order, as a stream: nothing is kept on this machine.

    Args:
        pattern: a shard, a folder of shards (with its index), or a pattern of names: ``data/clips-*.tar`` on this
            machine, or a URL that webdataset or fsspec takes, ``{000000..000012}`` for several.

    Raises:
        InputError: nothing there, a shard that is damaged, or webdataset is not installed.
    """
    for url in shard_urls(pattern):
        yield from _read_shard(url)


def unpack_shards(pattern: str, folder: Path, progress: Progress = SILENT) -> int:
    """Make the plain data set of shards, ``manifest.jsonl`` and ``clips``, which training reads; goes on with one.

    Args:
        pattern: see :func:`read_shards`.
        folder: the data set, new or to go on with.
        progress: shown how many shards are done.

    Returns:
        The number of clips.

    Raises:
        InputError: as :func:`read_shards`, a file that is not what its entry says, or ``folder`` cannot be written.
    """
    if (folder / records.FOLDER / "sources").exists():
        raise InputError(f"{folder}: holds a data set that was made of videos; give another folder for that of shards")
    urls = shard_urls(pattern)
    lines = [line for url in progress.track(urls, len(urls), "shards") for line in _unpack_shard(url, folder)]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / MANIFEST) as part:
        part.write_text("".join(lines), encoding="utf-8", errors="surrogateescape", newline="\n")
    return len(lines)


def shard_urls(pattern: str) -> list[str]:
    """The shards that a pattern names, in order; see :func:`read_shards`. Raises :class:`InputError`."""
    if Path(pattern).is_dir():
        try:
            index = (Path(pattern) / INDEX).read_text(encoding="utf-8").splitlines()
            sizes = {Path(pattern) / line["file"]: line["bytes"] for line in map(json.loads, index)}
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{pattern}: no folder of shards with a {INDEX}; call `prepare --shards` again") from None
        for file, size in sizes.items():
            if not file.is_file() or file.stat().st_size != size:
                raise InputError(f"{file}: gone, or not of {size} bytes as {INDEX} has it; copy the shard anew")
        return [str(file) for file in sizes]
    urls = [str(url) for url in require("webdataset.shardlists", extra="webdataset").expand_urls(pattern)]
    found = [name for url in urls for name in ([url] if "://" in url else sorted(glob.glob(url)))]
    if not found:
        raise InputError(
            f"{shortened(pattern)}: no such shards; give a folder, or names such as clips-{{000000..000012}}.tar"
        )
    return found


def _divided(dataset: Path, size: int) -> Iterator[list[dict[str, Any]]]:
    """Entries of the kept clips, by shards."""
    together: list[dict[str, Any]] = []
    total = 0
    for entry in read_manifest(dataset):
        if entry["status"] != records.KEPT:
            continue
        files = {kind: about for kind, about in entry["files"].items() if kind in _ENDINGS}
        entry = entry | {"files": files}
        paths = [dataset / about["path"] for about in files.values()]
        more = sum(_in_tar(_size(path)) for path in paths) + _in_tar(len(_json(entry)))
        if together and total + more > size:
            yield together
            together, total = [], 0
        together.append(entry)
        total += more
    if together:
        yield together


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        raise InputError(f"{path}: gone; call `prepare` once more") from None


def _in_tar(size: int) -> int:
    return 512 + -(-size // 512) * 512


def _json(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, sort_keys=True).encode()


def _write_shard(dataset: Path, name: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Write a shard unless it is there; its line of the index."""
    content = hashlib.sha256(b"\n".join(map(_json, entries))).hexdigest()
    file, record = dataset / FOLDER / name, dataset / _DONE / f"{name}.json"
    done = _read_record(record)
    if done.get("content") == content and file.is_file() and file.stat().st_size == done.get("bytes"):
        return {name: value for name, value in done.items() if name != "content"}
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        record.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as part:
        with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
            for entry in entries:
                for kind, about in sorted(entry["files"].items()):
                    _add(tar, f"{entry['id']}.{_ENDINGS[kind]}", _checked(dataset / about["path"], about["sha256"]))
                _add(tar, f"{entry['id']}.json", _json(entry))
        line = {"file": name, "bytes": part.stat().st_size, "sha256": sha256(part), "clips": len(entries)}
    with whole_file(record) as part:
        part.write_text(json.dumps(line | {"content": content}), encoding="utf-8")
    return line


def _read_record(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _checked(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); call `prepare` once more") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{path}: is not what the manifest says; remove it and call `prepare` once more")
    return content


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    about = tarfile.TarInfo(name)  # of no owner, at no time: equal bytes
    about.size, about.mode = len(content), 0o644
    tar.addfile(about, io.BytesIO(content))


def _read_shard(url: str) -> Iterator[Sample]:
    expand = require("webdataset.tariterators", extra="webdataset")
    try:
        with _opened(url) as stream:
            for parts in expand.group_by_keys(expand.tar_file_expander([{"url": url, "stream": stream}])):
                yield _sample(url, parts)
    except InputError:
        raise
    except Exception as error:  # of the protocols of fsspec: any
        said = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
        why = " ".join(said.split()).partition(" @ ")[0][:200]
        raise InputError(f"{url}: cannot be read as a shard ({why}); give one that is whole") from error


def _opened(url: str) -> Any:
    opener = require("webdataset.gopen", extra="webdataset")
    scheme, _, _ = url.partition("://")
    if scheme in opener.gopen_schemes:
        return opener.gopen(url)
    return require("fsspec", extra="webdataset").open(url, "rb").open()


def _sample(url: str, parts: dict[str, Any]) -> Sample:
    try:
        entry = json.loads(parts["json"])
        right = entry["id"] == parts["__key__"] and re.fullmatch(r"[0-9a-f]{16}_\d{6,}", entry["id"])
        files = {kind: parts[_ENDINGS[kind]] for kind in entry["files"]}
        whole = all(
            hashlib.sha256(files[kind]).hexdigest() == about["sha256"] for kind, about in entry["files"].items()
        )
    except (KeyError, ValueError, TypeError, AttributeError):
        right = whole = None
    if not right or not whole:
        raise InputError(f"{url}: {parts.get('__key__')} is no whole clip; copy the shard anew")
    return Sample(entry, files)


def _unpack_shard(url: str, folder: Path) -> Iterable[str]:
    """The lines of the manifest for a shard, whose files are in the folder afterwards."""
    record = folder / _DONE / f"{hashlib.sha256(url.encode()).hexdigest()[:24]}.jsonl"
    if record.is_file():
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
        paths = [about["path"] for line in lines for about in json.loads(line)["files"].values()]
        if all((folder / path).is_file() for path in paths):
            return lines
    lines = []
    for sample in _read_shard(url):
        files = {}
        for kind, content in sample.files.items():
            path = f"{place(sample.entry['id'])}.{_ENDINGS[kind]}"
            with writing(folder):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / path) as part:
                part.write_bytes(content)
            files[kind] = {"path": path, "sha256": sample.entry["files"][kind]["sha256"]}
        lines.append(json.dumps(sample.entry | {"files": files}, ensure_ascii=False) + "\n")
    with writing(folder):
        record.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(record) as part:
        part.write_text("".join(lines), encoding="utf-8", errors="surrogateescape", newline="\n")
    return lines
