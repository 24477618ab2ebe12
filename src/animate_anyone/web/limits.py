"""What is taken from a visitor of the page, at most."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

from animate_anyone.errors import InputError
from animate_anyone.media import PICTURE_SUFFIXES

VIDEO_KINDS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif", ".m4v")
"""Endings of videos that may be uploaded."""
POSES = ".npz"
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Bounds; what is over one of them is refused before any work.

    Attributes:
        megabytes: of each file.
        frames: of the part of the video that is chosen.
        pixels: of a frame of the video, and of a result.
        waiting: jobs that wait.
        kept: results in the history; the oldest is removed for a new one.
        steps: denoising steps.
    """

    megabytes: int = 200
    frames: int = 3000
    pixels: int = 4096 * 2304
    waiting: int = 20
    kept: int = 100
    steps: int = 200


def check_upload(path: str | Path, kinds: tuple[str, ...], limits: Limits) -> Path:
    """A file that was uploaded, as far as its name and size tell.

    Raises:
        InputError: it is too large, empty, or of another kind.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in kinds:
        raise InputError(f"a file that ends in {suffix[:10] or 'nothing'} is not taken here; give {', '.join(kinds)}")
    size = os.path.getsize(path)
    if not 0 < size <= limits.megabytes * MEGABYTE:
        raise InputError(f"the file has {size / MEGABYTE:.1f} MB; it must not be empty, and {limits.megabytes} at most")
    return path


def check_archive(path: Path, limits: Limits) -> None:
    """Raise :class:`InputError` where a file of poses would be far larger in memory than it is, or is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile):
        raise InputError(f"{path}: not a pose file; give a .npz made by `animate-anyone pose`") from None
    if total > limits.megabytes * MEGABYTE:
        raise InputError(f"{path}: holds {total / MEGABYTE:.0f} MB of poses; {limits.megabytes} at most")


PICTURES = tuple(PICTURE_SUFFIXES)
DRIVERS = (*VIDEO_KINDS, POSES)
