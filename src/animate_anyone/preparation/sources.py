"""The videos of a data set to come: found in folders and lists, in a stable order; layouts of published data sets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from animate_anyone.errors import InputError
from animate_anyone.media import PICTURE_SUFFIXES, natural_order
from animate_anyone.media.layouts import LAYOUTS

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".m2ts", ".mts", ".ts"),
    *(".flv", ".wmv", ".asf", ".3gp", ".3g2", ".ogv"),
)
"""Names of files in folders that are taken for videos."""
_SPLITS = ("train", "val", "valid", "test")
_TIKTOK_FPS = Fraction(30)


@dataclass(frozen=True)
class Source:
    """A video to prepare.

    Attributes:
        path: a file, or a folder of pictures.
        split: what the data set's own layout puts it into, such as ``train``; empty where it says nothing.
        fps: of a folder of pictures, where that is known.
    """

    path: Path
    split: str = ""
    fps: Fraction | None = None


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        sources: in order, each once.
        others: files that are no videos by their names, counted by their endings.
    """

    sources: tuple[Source, ...]
    others: dict[str, int]


def find_sources(inputs: Sequence[Path], output: Path, layout: str = "plain") -> Found:
    """Find the videos.

    Args:
        inputs: files, folders (searched with all folders in them), and lists (``.txt``, one path a line, relative to
            the list's folder; ``#`` begins a comment). The order is theirs; inside a folder that of the names,
            numbers counted as numbers.
        output: the data set to come; nothing in it is taken for a source.
        layout: a name in :data:`LAYOUTS`: ``ubc`` and ``ted`` have a folder for each split, ``ted`` with videos or
            folders of their frames; ``tiktok`` has a folder of pictures, ``images``, for each video, at 30 frames per
            second.

    Raises:
        InputError: nothing is there, or no such layout.
    """
    if layout not in LAYOUTS:
        raise InputError(f"--layout {layout}: not known; there is: {', '.join(LAYOUTS)}")
    if not inputs:
        raise InputError("no videos were given; give files, folders, or a list (.txt)")
    others: Counter[str] = Counter()
    apart = output.resolve()
    sources: dict[Path, Source] = {}
    for given in inputs:
        if not given.exists():
            raise InputError(f"{given}: no such file or folder; give videos, folders of videos, or a list (.txt)")
        for source in _in_input(given, apart, layout, others):
            sources.setdefault(source.path.resolve(), source)
    if not sources:
        what = "folders of pictures named images" if layout == "tiktok" else "videos (mp4, mov, mkv, webm, avi, ...)"
        raise InputError(f"{', '.join(map(str, inputs))}: no {what} were found there; give other folders or files")
    return Found(tuple(sources.values()), dict(sorted(others.items())))


def _in_input(given: Path, apart: Path, layout: str, others: Counter[str]) -> Iterator[Source]:
    if given.is_dir():
        yield from _picture_folders(given, apart) if layout == "tiktok" else _videos(given, apart, layout, others)
    elif given.suffix.lower() == ".txt" and layout != "tiktok":
        yield from (Source(path) for path in _listed(given))
    else:
        yield Source(given)


def _listed(file: Path) -> list[Path]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{file}: cannot be read as a list; give a text file (UTF-8) with one path a line") from None
    return [file.parent / line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _walk(folder: Path, apart: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Folders, from the top, each with its files; hidden ones and ``apart`` left out."""
    for name, folders, files in os.walk(folder, followlinks=False):
        place = Path(name)
        folders[:] = [f for f in _ordered(folders) if not f.startswith(".") and (place / f).resolve() != apart]
        if place.resolve() != apart:
            yield place, [place / f for f in _ordered(files) if not f.startswith(".")]


def _ordered(names: Iterable[str]) -> list[str]:
    return sorted(sorted(names), key=lambda name: natural_order(Path(name)))


def _videos(folder: Path, apart: Path, layout: str, others: Counter[str]) -> Iterator[Source]:
    for place, files in _walk(folder, apart):
        split = "" if layout == "plain" else _split_of(place.relative_to(folder.parent))
        if layout == "ted" and split and any(file.suffix.lower() in PICTURE_SUFFIXES for file in files):
            yield Source(place, split)  # a video as a folder of its frames
            continue
        for file in files:
            if file.suffix.lower() in SUFFIXES:
                yield Source(file, split)
            else:
                others[file.suffix.lower() or "without ending"] += 1


def _picture_folders(folder: Path, apart: Path) -> Iterator[Source]:
    for place, files in _walk(folder, apart):
        if place.name == "images" and any(file.suffix.lower() in PICTURE_SUFFIXES for file in files):
            yield Source(place, _split_of(place.relative_to(folder.parent)), _TIKTOK_FPS)


def _split_of(place: Path) -> str:
    """The last folder on the way that is named as a split."""
    found = [part.lower() for part in place.parts if part.lower() in _SPLITS]
    return {"valid": "val"}.get(found[-1], found[-1]) if found else ""
