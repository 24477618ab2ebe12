"""Result files: tried before the long work, and under their name only when complete."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from animate_anyone.errors import InputError


def check_writable(path: str | Path, suffixes: Collection[str] = (), inputs: Iterable[str | Path] = ()) -> Path:
    """Find out now, before long work, whether a file can be written; nothing is left behind.

    Args:
        path: the file to come; one that is already there would be replaced.
        suffixes: allowed endings, lower case with the dot; empty allows any.
        inputs: files that must not be replaced, because the work starts from them.

    Returns:
        ``path`` as a :class:`Path`.

    Raises:
        InputError: no such folder, not allowed to write there, a folder or device of that name, an
            ending that is not in ``suffixes``, or one of ``inputs``.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(
                f"{path}: is a folder; give the name of a file, such as {path / 'out'}{next(iter(suffixes), '')}"
            )
        if suffixes and path.suffix.lower() not in suffixes:
            raise InputError(f"{path}: this kind of file cannot be written; end the name in {' or '.join(suffixes)}")
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: is not an ordinary file; give another name")
        if path.exists() and not os.access(path, os.W_OK):
            raise InputError(f"{path}: is there and write-protected; give another name")
        if any(path.exists() and Path(file).exists() and path.samefile(file) for file in inputs):
            raise InputError(f"{path}: is what the work starts from; give another name for the result")
        if not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}; make it first: mkdir -p {path.parent}")
        with _part_of(path).open("xb") as trial:
            Path(trial.name).unlink()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give another name or folder") from None
    return path


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; moved to ``path`` when the block ends well, else removed.

    An interrupt counts as not ending well: nothing is left behind, and an older file stays as it was.
    """
    path = Path(path)
    part = _part_of(path)
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _part_of(path: Path) -> Path:
    """A new name in the same folder, so that the final move stays on one disk."""
    return path.with_name(f".{secrets.token_hex(8)}.part")
