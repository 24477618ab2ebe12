"""Result files and folders that appear under their name only when complete.

What is being written is hidden beside the result, as ``.<digest of its name>.part``, and removed when the writing
fails or is interrupted. A process that is killed cannot remove it; the next one that writes a result of the same name
does. A lock that ends with its process (``flock``; on Windows, that the file is open) tells a part that was left over
from one that is being written now.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from animate_anyone.errors import InputError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_unfinished: set[Path] = set()
kept_for_later: set[Path] = set()
"""Folders of finished work that the same command goes on from, should it be stopped now."""


class _TriedError(Exception):
    """All went well, and is to be undone."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; moved to ``path`` when the block ends well, else removed.

    An interrupt counts as not ending well: nothing is left behind, and an older file stays as it was. Where ``path``
    is a symbolic link, what it leads to is written and the link stays.

    Raises:
        InputError: it cannot be written; any ``OSError`` of the block is taken for that.
    """
    with writing(path), part_of(path) as part:
        yield part


@contextmanager
def part_of(path: str | Path) -> Iterator[Path]:
    """As :func:`whole_file`, with the system's own errors: for a block that does more than write."""
    target = link_target(path)
    part, lock = _new_part(target)
    try:
        with unfinished(part):
            yield part
            if os.name == "nt":  # where an open file cannot be moved
                os.close(lock)
            os.replace(part, target)
    finally:
        with suppress(OSError):
            os.close(lock)


@contextmanager
def whole_files(folder: str | Path) -> Iterator[Path]:
    """A hidden folder in ``folder`` to write files to; all of them are moved to ``folder`` when the block ends well.

    ``folder`` is made where it is not there, and removed again when the block does not end well.

    Raises:
        InputError: they cannot be written; any ``OSError`` of the block is taken for that.
    """
    folder = Path(folder)
    with writing(folder), _made(folder):
        hidden = folder / f".{_digest(folder.name)}.part"
        _remove_left_over(hidden)
        hidden = _free(hidden)
        with unfinished(hidden), _locked_folder(hidden):
            try:
                yield hidden
            except InputError as error:  # which names the hidden file
                raise InputError(str(error).replace(str(hidden), str(folder))) from error
            for file in sorted(hidden.iterdir()):
                _move(file, link_target(folder / file.name))


@contextmanager
def unfinished(path: Path) -> Iterator[None]:
    """Remove ``path``, a file or a folder, at the end of the block if it is still there; see :func:`remove_unfinished`.

    What was completed has another name by then.
    """
    _unfinished.add(path)
    try:
        yield
    finally:
        _remove(path)
        _unfinished.discard(path)


def is_unfinished() -> bool:
    """Whether this process is writing a result."""
    return bool(_unfinished)


def remove_unfinished() -> None:
    """Remove all that is being written, where there is no time to end the blocks that write it."""
    for path in list(_unfinished):
        _remove(path)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Raise the system's errors of the block as an :class:`InputError`: that ``path`` could not be written, and why."""
    try:
        yield
    except (InputError, KeyboardInterrupt):
        raise
    except Exception as error:
        cause = _system_error(error)
        if cause is None:
            raise
        advice = "make room, or write to another folder" if cause.errno in _FULL else "give another folder"
        raise InputError(f"{path}: could not be written ({cause.strerror or cause}); {advice}") from error


def _system_error(error: Exception) -> OSError | None:
    """The system's error in what a library made of it; ``None`` where there is none."""
    if isinstance(error, OSError):
        return error
    if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):  # torch.save
        return error.__context__
    number = re.search(r"\(os error (\d+)\)", str(error))  # safetensors, written in Rust
    return None if number is None else OSError(int(number[1]), os.strerror(int(number[1])))


def try_to_write(path: str | Path) -> None:
    """Write a little where :func:`whole_file` would, and remove it again.

    Raises:
        OSError: it cannot be written, or the disk is full.
    """
    with hidden_beside(path) as part:
        part.write_bytes(bytes(4096))


@contextmanager
def hidden_beside(path: str | Path) -> Iterator[Path]:
    """A new, empty file with a hidden name in the folder of ``path``, removed when the block ends.

    Raises:
        OSError: it cannot be made.
    """
    part, handle = _new_part(link_target(path))
    with unfinished(part):
        try:
            yield part
        finally:
            os.close(handle)  # on Windows an open file cannot be removed


def try_folder(folder: str | Path) -> None:
    """Make a folder, write a little there, and remove all that was not there before. Raises :class:`OSError`."""
    with suppress(_TriedError), _made(Path(folder)):
        try_to_write(Path(folder) / "trial")
        raise _TriedError


def link_target(path: str | Path) -> Path:
    """What a symbolic link leads to, there or not; any other path as it is."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)


def _digest(name: str) -> str:
    """A short name for any name: parts of long names must not be too long."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


def _free(part: Path) -> Path:
    """The name itself, or another where somebody else is writing under it."""
    return part.with_name(f"{part.stem}-{secrets.token_hex(4)}.part") if os.path.lexists(part) else part


def _new_part(target: Path) -> tuple[Path, int]:
    """A new, empty, locked file in the folder of ``target``, so that the final move stays on one disk."""
    part = target.with_name(f".{_digest(target.name)}.part")
    _remove_left_over(part)
    while True:
        free = _free(part)
        _unfinished.add(free)  # before it is there: a signal may come at any time
        try:
            handle = os.open(free, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            _unfinished.discard(free)
            if isinstance(error, FileExistsError):  # another process has just made it
                continue
            raise
        _lock(handle)
        if _is_open(free, handle):  # else another took it for left over before it was locked
            return free, handle
        _unfinished.discard(free)
        os.close(handle)


def _is_open(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _lock(handle: int) -> None:
    """Lock an open file, where the system can, until it is closed or the process ends."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    folder.mkdir()
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle)
        yield
    finally:
        os.close(handle)


def _remove_left_over(part: Path) -> None:
    """Remove a part whose process is gone. One that is being written, or that is not ours to remove, stays."""
    with suppress(OSError):
        if fcntl is None:
            part.unlink()
            return
        handle = os.open(part, (os.O_RDONLY if part.is_dir() else os.O_RDWR) | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), part.lstat()):  # else it was completed meanwhile
                _remove(part)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """A folder and those above it; those that were not there are removed when the block does not end well."""
    missing = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for place in missing:
            with suppress(OSError):
                place.rmdir()
        raise


def _move(file: Path, target: Path) -> None:
    try:
        os.replace(file, target)
    except OSError as error:
        if error.errno != errno.EXDEV:  # a link to another disk
            raise
        with part_of(target) as part:
            shutil.copyfile(file, part)
