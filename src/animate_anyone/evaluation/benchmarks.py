"""Published test sets: how their folders lie, which clips are the test, and from which frame each is made.

Facts and their sources are in ``docs/evaluation.md``. The papers' own lists differ from each other and of some only
part is public, so a file may name the clips and their references: :func:`read_test_split`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from animate_anyone.errors import InputError
from animate_anyone.evaluation.folders import WHOLE, ClipFiles, check_names, find_clips, listed, plain_name, split_lines

FIRST = 0
"""The frame that a clip is made from where nothing else is said, counted from 0: the first, as in FOMM, MRAA, DisCo and
those that follow them."""


@dataclass(frozen=True)
class Benchmark:
    """A published test set.

    Attributes:
        name: what ``--benchmark`` takes; the layout of ``--layout`` and the table of published rows have it too.
        title: for people.
        inside: the folder that its archive holds, which may be given or be in the folder that is given.
        clips: names of the test clips; empty: all that its ``test/`` holds, or the folder where there is no ``test/``.
    """

    name: str
    title: str
    inside: str
    clips: tuple[str, ...] = ()


BENCHMARKS = {
    one.name: one
    for one in (
        Benchmark("tiktok", "TikTok", "TikTok_dataset", tuple(f"{number:05}" for number in range(335, 341))),
        Benchmark("ubc", "UBC fashion", "fashion_dataset"),
        Benchmark("ted", "TED-talks", "TED384-v2"),
    )
}


@dataclass(frozen=True)
class BenchmarkClip:
    """A clip to be made and measured.

    Attributes:
        files: its true frames; ``None``: the folder has no clip of that name.
        reference: what it is made from: the number of one of its frames, counted from 0, or a picture.
    """

    name: str
    files: ClipFiles | None
    reference: int | Path = FIRST


def find_benchmark(name: str) -> Benchmark:
    """The test set of that name; :class:`InputError` lists those there are."""
    if name not in BENCHMARKS:
        raise InputError(f"--benchmark {name}: not known; there are: {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def clips_of(
    benchmark: Benchmark, folder: Path, split: Path | None = None, num_frames: int | None = None
) -> list[BenchmarkClip]:
    """The clips of a test set, in the order of the split, or of their names.

    Args:
        folder: where the data set was unpacked.
        split: a file, see :func:`read_test_split`; ``None``: the benchmark's own clips.
        num_frames: how many frames of each count, from the first on; ``None``: all.

    Raises:
        InputError: no such folder, no clip in it that is asked for, or a split that cannot be used.
    """
    if (folder / benchmark.inside).is_dir():
        folder = folder / benchmark.inside
    if folder.is_file():
        raise InputError(f"{folder}: is a file; give the folder of {benchmark.title}")
    found: Mapping[str, ClipFiles] = find_clips(folder, benchmark.name)
    if WHOLE in found:
        raise InputError(f"{folder}: holds frames of one clip; give the folder of {benchmark.title} as it is published")
    if split is not None:
        wanted = read_test_split(split, benchmark.name)
    else:
        wanted = {name: FIRST for name in benchmark.clips or found}
    if not wanted.keys() & found.keys():
        what = f"--split {split}" if split is not None else f"the test clips of {benchmark.title}"
        raise InputError(
            f"{folder}: holds none of {what} ({listed(list(wanted))}) but {listed(list(found))}; give a file of names "
            "with --split"
        )
    return [
        BenchmarkClip(name, None if name not in found else replace(found[name], most=num_frames), reference)
        for name, reference in wanted.items()
    ]


def read_test_split(file: Path, layout: str) -> dict[str, int | Path]:
    """Names of clips and what each is made from, from a text file: ``NAME [REFERENCE]`` a line.

    ``REFERENCE`` is the number of a frame of the clip, counted from 0, or a picture, relative to the file; without it
    the clip is made from its first frame. Names are as of :func:`.folders.read_split`, and so are remarks.

    Raises :class:`InputError`: as of :func:`.folders.read_split`, or a reference that is neither.
    """
    clips = [_clip_of(file, line, layout) for line in split_lines(file)]
    check_names(file, [name for name, _ in clips])
    return dict(clips)


def _clip_of(file: Path, line: str, layout: str) -> tuple[str, int | Path]:
    name, _, reference = (part.strip() for part in _parted(line))
    if not reference:
        return plain_name(name, layout), FIRST
    if reference.isdecimal():
        return plain_name(name, layout), int(reference)
    picture = file.parent / reference
    if not picture.is_file():
        raise InputError(
            f"--split {file}: the reference of {name}, {reference}, is no number of a frame and no picture; give a "
            "number counted from 0, a picture, or nothing"
        )
    return plain_name(name, layout), picture


def _parted(line: str) -> Sequence[str]:
    """A line's name and reference: what follows the first space."""
    return line.replace("\t", " ").partition(" ")
