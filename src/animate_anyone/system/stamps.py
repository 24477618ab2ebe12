"""Whether a file or a folder has changed, without reading it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def stamp(path: Path) -> list[int]:
    """What changes when a file changes, or a folder with what is in it: bytes, last change (ns), number of files.

    Empty where it is gone.
    """
    try:
        files = list(_files(path)) if path.is_dir() else [path.stat()]
    except OSError:
        return []
    newest = max((file.st_mtime_ns for file in files), default=0)
    return [sum(file.st_size for file in files), newest, len(files)]


def _files(folder: Path) -> Iterator[os.stat_result]:
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.stat(os.path.join(place, name))
            except OSError:  # a link that leads nowhere, or removed meanwhile
                continue
