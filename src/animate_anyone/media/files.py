"""Result files and folders, tried before the long work; :mod:`animate_anyone.system.whole_files` makes them whole."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from animate_anyone.errors import InputError
from animate_anyone.system.whole_files import link_target, try_folder, try_to_write


def check_writable(path: str | Path, suffixes: Collection[str] = (), inputs: Iterable[str | Path] = ()) -> Path:
    """Find out now, before long work, whether a file can be written; nothing is left behind.

    Args:
        path: the file to come; one that is already there would be replaced. Where it is a symbolic link, what
            that leads to would be.
        suffixes: allowed endings, lower case with the dot; empty allows any.
        inputs: files that must not be replaced, because the work starts from them.

    Returns:
        ``path`` as a :class:`Path`.

    Raises:
        InputError: no such folder, not allowed to write there, a folder or device of that name, an
            ending that is not in ``suffixes``, a link that leads nowhere, one of ``inputs``, or a full disk.
    """
    path = Path(path)
    target = link_target(path)
    shown = str(path) if target == path else f"{path} (a link to {target})"
    try:
        if os.path.islink(target):
            raise InputError(f"{path}: is a link that leads to itself; give another name")
        if target.is_dir():
            raise InputError(
                f"{shown}: is a folder; give the name of a file, such as {path / 'out'}{next(iter(suffixes), '')}"
            )
        if suffixes and path.suffix.lower() not in suffixes:
            raise InputError(f"{path}: this kind of file cannot be written; end the name in {' or '.join(suffixes)}")
        if target.exists() and not target.is_file():
            raise InputError(f"{shown}: is not an ordinary file; give another name")
        if target.exists() and not os.access(target, os.W_OK):
            raise InputError(f"{shown}: is there and write-protected; give another name")
        if any(target.exists() and Path(file).exists() and target.samefile(file) for file in inputs):
            raise InputError(f"{shown}: is what the work starts from; give another name for the result")
        if not target.parent.is_dir():
            raise InputError(f"{shown}: there is no folder {target.parent}; make it first: mkdir -p {target.parent}")
        try_to_write(path)
    except OSError as error:
        raise InputError(f"{shown}: cannot be written ({error.strerror}); give another name or folder") from None
    return path


def check_folder(folder: Path, option: str, names: Collection[str], taken: Iterable[str | Path] = ()) -> None:
    """Find out now whether files can be written to a folder, which is made if need be; nothing is left behind.

    Args:
        folder: there, or to be made.
        option: what it was given as, for the message, such as ``--keep``.
        names: of the files to come.
        taken: files that must not be among them: the result, and what the work starts from.

    Raises:
        InputError: it is no folder, cannot be made or written to, or one of ``taken`` would be replaced.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not os.path.isdir(there):
        raise InputError(f"{option} {folder}: {there} is no folder; give a folder")
    inside = Path(os.path.realpath(folder))
    for file in taken:
        place = Path(os.path.realpath(file))
        # Some disks take small and capital letters for the same.
        clash = place.parent == inside and place.name.casefold() in {name.casefold() for name in names}
        if clash or any((inside / n).exists() and (inside / n).samefile(file) for n in names if os.path.exists(file)):
            raise InputError(f"{option} {folder}: {file} would be replaced by what is kept; give another folder")
    for name in names:
        if (inside / name).is_dir():
            raise InputError(f"{option} {folder}: {inside / name} is a folder, and a file is to be kept there")
    try:
        try_folder(folder)
    except OSError as error:
        raise InputError(f"{option} {folder}: cannot be written to ({error.strerror}); give another folder") from None
