"""Finds the clips in two folders of videos, pairs them by name and lists what has no partner."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from animate_anyone.errors import InputError
from animate_anyone.media import PICTURE_SUFFIXES, natural_order, probe, read_frames, read_picture
from animate_anyone.media.layouts import LAYOUTS
from animate_anyone.structures import Picture, Size

VIDEO_FILES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif")
FRAME_FILES = tuple(suffix for suffix in PICTURE_SUFFIXES if suffix not in VIDEO_FILES)
WHOLE = "."  # the name of a folder's only video where the folder itself is that video
MIN_SIDE = 32  # below, the networks have nothing left to look at
_REMARK = re.compile(r"(^|\s)#.*")
# TiktokDance_00337_0010.png, as DisCo names frames; its results end in `png.png`.
_TIKTOK_FRAME = re.compile(r"(?:TiktokDance_)?([A-Za-z0-9]+)_\d+(?:png)?", re.IGNORECASE)


@dataclass(frozen=True)
class ClipFiles:
    """One video: the file ``path``, or (``files``) frames of the folder ``path`` in order.

    Attributes:
        most: how many of its frames count, from the first on; ``None``: all.
    """

    name: str
    path: Path
    files: tuple[Path, ...] = ()
    most: int | None = None

    def shape(self) -> tuple[int, int, int]:
        """Frames, width, height in pixels, hardly anything decoded. Raises :class:`InputError` where it is broken."""
        if self.files:
            height, width = read_picture(self.files[0], min_side=1).shape[:2]
            return len(self.files[: self.most]), width, height
        info = probe(self.path)
        count = info.num_frames if self.most is None else min(info.num_frames, self.most)
        return count, info.width, info.height

    def frames(self) -> Iterator[Picture]:
        """Frames ``(H, W, 3)`` uint8, one after another. Raises :class:`InputError` at one that is broken."""
        if not self.files:
            yield from islice((frame for _, frame in read_frames(self.path)), self.most)
            return
        shape = None
        for file in self.files[: self.most]:
            frame = read_picture(file, min_side=1)
            shape = shape or frame.shape
            if frame.shape != shape:
                raise InputError(f"{file}: another size than {self.files[0].name}; give frames of one size")
            yield frame


@dataclass(frozen=True)
class Pair:
    """A generated video and the true one, of the same length and size.

    Attributes:
        size: ``(width, height)`` of the true one. A generated one of another size, which :func:`pair_clips` refuses and
            a benchmark allows, is scaled to it.
    """

    name: str
    generated: ClipFiles
    truth: ClipFiles
    num_frames: int
    size: Size


def find_clips(folder: Path, layout: str = "plain") -> dict[str, ClipFiles]:
    """The videos of a folder by name, sorted.

    ``plain``: files (mp4, mov, mkv, webm, avi, gif) and folders of pictures by their names without ending;
    a folder that itself holds the frames, or a single file, is one video of the name ``"."``.
    ``ubc``, ``ted``: as ``plain``, in ``test/`` where there is one.
    ``tiktok``: as ``plain``; a person's frames may lie in ``images/``, as in the dataset, or all persons' frames in
    one folder, named ``TiktokDance_00337_0010.png``, as DisCo writes them. The name is the person's: ``00337``.

    Raises:
        InputError: missing, without videos, or two of one name.
    """
    if layout not in LAYOUTS:
        raise InputError(f"--layout {layout}: not known; there are: {', '.join(LAYOUTS)}")
    if folder.is_file():
        return {WHOLE: ClipFiles(WHOLE, folder)}
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a folder of videos or of folders of frames")
    if layout in ("ubc", "ted") and (folder / "test").is_dir():
        folder = folder / "test"
    clips = [clip for entry in sorted(folder.iterdir()) if (clip := _clip_of(entry, layout))]
    loose = _frames_in(folder)
    if loose and clips:
        raise InputError(f"{folder}: holds frames ({loose[0].name}) and videos ({clips[0].path.name}); leave one kind")
    if loose:
        clips = _persons(folder, loose) if layout == "tiktok" else [ClipFiles(WHOLE, folder, tuple(loose))]
    found: dict[str, ClipFiles] = {}
    for clip in clips:
        if clip.name in found:
            raise InputError(
                f"{folder}: {found[clip.name].path.name} and {clip.path.name} are both named {clip.name}; leave one"
            )
        found[clip.name] = clip
    if not found:
        raise InputError(f"{folder}: no videos ({', '.join(VIDEO_FILES)}) and no folders of frames (png, jpg) there")
    return dict(sorted(found.items()))


def read_split(file: Path, layout: str = "plain") -> list[str]:
    """Names of videos from a text file, one a line; see :func:`split_lines`.

    Addresses and endings are taken off, so that the UBC lists of addresses serve as they are.

    Raises :class:`InputError`: missing, no text, empty, or a name twice.
    """
    names = [plain_name(line, layout) for line in split_lines(file)]
    check_names(file, names)
    return names


def split_lines(file: Path) -> list[str]:
    """The lines of a split file that say something, without remarks.

    A remark starts with ``#`` at the beginning of a line or after a space: the names of TED-talks hold others.

    Raises :class:`InputError`: missing, or no text.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"--split {file}: cannot be read ({error.strerror}); give a text file of names") from None
    except UnicodeDecodeError:
        raise InputError(f"--split {file}: is no text; give a text file of names, one a line") from None
    return [line for line in (_REMARK.sub("", line).strip() for line in lines) if line]


def check_names(file: Path, names: Sequence[str]) -> None:
    """Raise :class:`InputError` where a split file names nothing, or something twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"--split {file}: names {listed(twice)} more than once")
    if not names:
        raise InputError(f"--split {file}: names no video; give one name a line")


def pair_clips(
    generated: Mapping[str, ClipFiles], truth: Mapping[str, ClipFiles], split: Sequence[str] | None = None
) -> list[Pair]:
    """Put together what has one name, and see that it can be compared.

    Args:
        generated, truth: see :func:`find_clips`.
        split: the names to take; ``None`` takes all, and both sides must then have the same.

    Raises:
        InputError: names that one side lacks; videos that are broken; lengths or sizes that differ, all listed.
    """
    wanted = list(split) if split is not None else sorted({*generated, *truth})
    lacking = [
        f"the {side} videos lack {listed(missing)}"
        for side, clips in (("generated", generated), ("true", truth))
        if (missing := [name for name in wanted if name not in clips])
    ]
    if lacking and split is not None:
        raise InputError(f"{'; '.join(lacking)}: the split names them; add them, or give another --split")
    if lacking:
        raise InputError(
            f"{'; '.join(lacking)}: both folders must hold the same names; rename the files, or name those to be "
            "measured in a file: --split FILE"
        )
    pairs, lengths, sizes = [], [], []
    for name in wanted:
        (count, *size), (true_count, *true_size) = generated[name].shape(), truth[name].shape()
        if count != true_count:
            lengths.append(f"{name} ({count} and {true_count} frames)")
        if size != true_size:
            sizes.append(f"{name} ({size[0]}×{size[1]} and {true_size[0]}×{true_size[1]} pixels)")
        if min(size) < MIN_SIDE:
            raise InputError(f"{generated[name].path}: {size[0]}×{size[1]} pixels; at least {MIN_SIDE} a side")
        pairs.append(Pair(name, generated[name], truth[name], count, (size[0], size[1])))
    if lengths or sizes:
        kinds = [f"{what} differ: {listed(of)}" for what, of in (("lengths", lengths), ("sizes", sizes)) if of]
        raise InputError(f"generated and true {'; '.join(kinds)}; cut or scale one side so that both are alike")
    return pairs


def _clip_of(entry: Path, layout: str) -> ClipFiles | None:
    if entry.name.startswith("."):
        return None
    if entry.is_file():
        is_video = entry.suffix.lower() in VIDEO_FILES
        return ClipFiles(plain_name(entry.name, layout), entry) if is_video else None
    folder = entry / "images" if layout == "tiktok" and (entry / "images").is_dir() else entry
    frames = _frames_in(folder)
    return ClipFiles(plain_name(entry.name, layout), folder, tuple(frames)) if frames else None


def _frames_in(folder: Path) -> list[Path]:
    files = [f for f in folder.iterdir() if f.suffix.lower() in FRAME_FILES and not f.name.startswith(".")]
    return sorted(files, key=natural_order)


def _persons(folder: Path, files: Sequence[Path]) -> list[ClipFiles]:
    by_person: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        found = _TIKTOK_FRAME.fullmatch(file.stem)
        if found is None:
            raise InputError(f"{file}: not named PERSON_NUMBER, such as TiktokDance_00337_0010.png")
        by_person[found[1]].append(file)
    return [ClipFiles(name, folder, tuple(frames)) for name, frames in by_person.items()]


def plain_name(text: str, layout: str) -> str:
    """The name of a video from the name or address of its file."""
    name = PurePosixPath(text.strip()).name
    for ending in VIDEO_FILES:
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
            break
    return re.sub(r"^TiktokDance_", "", name, flags=re.IGNORECASE) if layout == "tiktok" else name


def listed(names: Sequence[str], most: int = 6) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
