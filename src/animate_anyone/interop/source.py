"""``source.json``: what a folder was pulled from, to the commit and the digest. It pins later pulls of the folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from animate_anyone.errors import InputError
from animate_anyone.interop.catalog import Entry, Source, WebFile
from animate_anyone.system.whole_files import whole_file

NAME = "source.json"
CHUNK = 1 << 20  # bytes read at once


@dataclass(frozen=True)
class File:
    """One file of a repository.

    Attributes:
        path: inside the repository, with ``/``.
        size: bytes.
        sha256: of its content; the hub states it for large files, for the others it is known once they are here.
        git_sha1: git's name of its content; the hub states it for the files that are no large ones.
        url: its own address, of a file that lies outside the hub; nobody may state a digest of it.
    """

    path: str
    size: int
    sha256: str | None
    git_sha1: str | None
    url: str | None = None

    def __post_init__(self) -> None:
        """Names come from outside, a hub or a copied record: none may lead out of the folder."""
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or "\\" in self.path:
            raise ValueError(f"{self.path} leads out of the folder")
        digests = (r"[0-9a-f]{64}", self.sha256), (r"[0-9a-f]{40}", self.git_sha1)
        known = any(re.fullmatch(pattern, digest or "") for pattern, digest in digests)
        if not known and (self.url is None or self.sha256 is not None or self.git_sha1 is not None):
            raise ValueError(f"{self.path} has no digest")

    @property
    def digest(self) -> str:
        """The surest digest that is known, with its kind: ``sha256:…``; that of its address where none is."""
        if self.sha256 is None and self.git_sha1 is None:
            return f"address-sha256:{hashlib.sha256(str(self.url).encode()).hexdigest()}"
        return f"sha256:{self.sha256}" if self.sha256 else f"git-sha1:{self.git_sha1}"


@dataclass(frozen=True)
class Pinned:
    """Files of one repository at one commit, or one file at an address of its own, which stands for the repository.

    Attributes:
        repo, into: as in :class:`~animate_anyone.interop.catalog.Source`.
        revision: what was asked for.
        commit: what it was then, 40 hexadecimal digits.
        files: what is wanted of it.
    """

    repo: str
    into: str
    revision: str
    commit: str
    files: tuple[File, ...]

    def local(self, file: File) -> PurePosixPath:
        """Where a file lies inside the local folder."""
        return PurePosixPath(self.into) / file.path

    def holds(self, source: Source | WebFile) -> bool:
        """Whether it has files for all of a source's patterns."""
        return all(any(fnmatchcase(file.path, pattern) for file in self.files) for pattern in source.files)


@dataclass(frozen=True)
class Record:
    """The content of ``source.json``."""

    name: str
    endpoint: str
    pinned: tuple[Pinned, ...]

    def of(self, source: Source | WebFile) -> Pinned | None:
        """What is recorded of a source of the catalogue."""
        return next((p for p in self.pinned if (p.repo, p.into) == (source.repo, source.into)), None)


def home() -> Path:
    """The folder below which weights are kept: ``ANIMATE_ANYONE_HOME``, else ``~/.cache/animate-anyone``."""
    given = os.environ.get("ANIMATE_ANYONE_HOME")
    if given:
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "animate-anyone"


def read(folder: Path) -> Record | None:
    """The record of a folder; ``None`` where it has none.

    Raises:
        InputError: there is one, and it is damaged.
    """
    file = folder / NAME
    try:
        content = json.loads(file.read_text())
        if any(".." in PurePosixPath(p["into"]).parts or p["into"].startswith("/") for p in content["repositories"]):
            raise ValueError("leads out of the folder")
        return Record(
            content["name"],
            content["endpoint"],
            tuple(
                Pinned(p["repo"], p["into"], p["revision"], p["commit"], tuple(File(**f) for f in p["files"]))
                for p in content["repositories"]
            ),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: cannot be read ({type(error).__name__}); remove it and pull again") from None


def write(folder: Path, record: Record) -> None:
    """Put the record into its folder, whole or not at all."""
    content = {
        "name": record.name,
        "endpoint": record.endpoint,
        "repositories": [asdict(pinned) for pinned in record.pinned],
    }
    with whole_file(folder / NAME) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")


def files_of(record: Record, folder: Path) -> Iterator[tuple[File, Path]]:
    """Every file of a record, and where it belongs."""
    for pinned in record.pinned:
        for file in pinned.files:
            yield file, folder / pinned.local(file)


def state(folder: Path) -> str:
    """``whole``, ``partly here`` or ``""``, by names and sizes alone; digests are checked by a pull."""
    record = read(folder)
    if record is None:
        return ""
    there = [place.is_file() and place.stat().st_size == file.size for file, place in files_of(record, folder)]
    return "whole" if all(there) else "partly here"


def default_folder(entry: Entry) -> Path:
    """Where an entry is pulled to by default."""
    return home() / entry.within / entry.name


def is_path(text: str) -> bool:
    """Whether what was typed for weights can only be a path, there or not, and no name."""
    return "/" in text or "\\" in text or text.startswith((".", "~"))


def digests(file: Path) -> tuple[str, str]:
    """SHA-256 of a file, and git's SHA-1 name of its content; read once, in pieces."""
    sha256, git = hashlib.sha256(), hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as content:
        while chunk := content.read(CHUNK):
            sha256.update(chunk)
            git.update(chunk)
    return sha256.hexdigest(), git.hexdigest()


def is_that(place: Path, file: File) -> bool:
    """Whether the file at ``place`` has the recorded size and digest."""
    if not place.is_file() or place.stat().st_size != file.size:
        return False
    if file.sha256 is None and file.git_sha1 is None:
        return True  # it is checked when it is read
    sha256, git_sha1 = digests(place)
    return sha256 == file.sha256 if file.sha256 else git_sha1 == file.git_sha1
