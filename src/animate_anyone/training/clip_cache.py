"""A folder that keeps rendered clips: an index of what they depend on, and shards of 64 clips.

Any number of processes may fill one cache at once, those of one run or of several: a shard is made by one of them,
under a lock that ends with its process, and gets its name when it is whole. So rendering can be stopped and goes on
where it was, and what is in a cache does not depend on who filled it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.progress import Progress
from animate_anyone.system.processes import count, rank
from animate_anyone.system.whole_files import unfinished
from animate_anyone.training.config import Data
from animate_anyone.training.render_pool import RenderPool, count_workers, may_start

SHARD = 64  # clips
_PAUSE = 0.5  # seconds between looks at what other processes are making

ClipArrays = dict[str, NDArray]  # what training keeps of a clip, by name; frames first
Render = Callable[[Data, int, str], ClipArrays]


def shard_folder(cache: Path, number: int) -> Path:
    """Where a cache has a shard."""
    return cache / f"shard_{number:05d}"


class ClipCache:
    """The cache ``data.cache`` of clips with these ``settings``."""

    def __init__(self, data: Data, settings: dict[str, object]) -> None:
        assert data.cache is not None
        self.data, self.folder = data, Path(data.cache)
        self._derived: dict[str, str] = {}
        self._arrays: dict[Path, NDArray] = {}
        self._check(settings)

    def _check(self, settings: dict[str, object]) -> None:
        """Write the index of a new cache, hold an old one against the settings."""
        index = self.folder / "index.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            make_whole(index, lambda path: path.write_text(json.dumps(settings, indent=1)), wait=True)
        except OSError as error:
            raise InputError(f"data.cache {self.folder}: cannot be made ({error.strerror}); give a folder") from None
        try:
            there = json.loads(index.read_text())
        except (OSError, ValueError):
            raise InputError(f"{index}: cannot be read; remove {self.folder} or give another data.cache") from None
        if there != settings:
            raise InputError(f"{self.folder}: holds clips of other settings ({index.name}); give another data.cache")

    @property
    def _shards(self) -> range:
        return range(-(-self.data.clips // SHARD))

    def fill(self, render: Render, device: str, progress: Progress) -> None:
        """Render the shards that are missing, in ``data.workers`` processes, and wait for those that others render."""
        missing = [number for number in self._shards if not shard_folder(self.folder, number).exists()]
        workers = min(count_workers(self.data), len(missing)) if may_start() else 1
        job = partial(_make_shard, render, self.data, self.folder, device)
        with RenderPool(workers) if workers > 1 else nullcontext() as pool:

            def attempt(numbers: list[int]) -> Iterator[tuple[int, bool]]:
                return pool.each(job, [(n,) for n in numbers], in_order=False) if pool else map(job, numbers)

            for _ in progress.track(together(missing, attempt), len(missing), "render"):
                pass

    def holds(self, name: str, digest: str) -> bool:
        """Whether every shard has the array that :meth:`derive` keeps under this name."""
        return all((shard_folder(self.folder, number) / f"{name}-{digest}.npy").exists() for number in self._shards)

    def derive(self, name: str, digest: str, function: Callable[[NDArray], NDArray], progress: Progress) -> None:
        """Keep beside the clips an array computed from each one's frames, see ``StudioClips.derive``."""
        file = f"{name}-{digest}.npy"
        missing = [number for number in self._shards if not (shard_folder(self.folder, number) / file).exists()]

        def make(number: int) -> tuple[int, bool]:
            shard = shard_folder(self.folder, number)

            def write(path: Path) -> None:
                frames = np.load(shard / "frames.npy", mmap_mode="r")
                save_array(path, np.stack([function(clip) for clip in frames]))

            return number, make_whole(shard / file, write)

        for _ in progress.track(together(missing, lambda numbers: map(make, numbers)), len(missing), name):
            pass
        self._derived[name] = file

    def clip(self, number: int, names: tuple[str, ...]) -> ClipArrays:
        """The arrays of these names, and those that were derived, of a clip; mapped, not read."""
        shard, row = divmod(number, SHARD)
        files = {name: f"{name}.npy" for name in names} | self._derived
        return {name: self._open(shard_folder(self.folder, shard) / file)[row] for name, file in files.items()}

    def _open(self, path: Path) -> NDArray:
        if path not in self._arrays:
            try:
                self._arrays[path] = np.load(path, mmap_mode="r")
            except (OSError, ValueError, EOFError) as error:
                reason = " ".join(str(error).split())[:200]
                raise InputError(f"{path}: cannot be read ({reason}); remove {path.parent} to have it anew") from None
        return self._arrays[path]


def make_whole(path: Path, write: Callable[[Path], object], wait: bool = False) -> bool:
    """Make a file or folder that is either whole or not there, and by one process only.

    Args:
        write: writes it under the name that it is given.
        wait: until another process that is making it has done so.

    Returns:
        Whether it is there; not, where another process is making it.
    """
    if path.exists():
        return True
    lock = path.with_name(f"{path.name}.lock")
    half = path.with_name(f"{path.name}.partial")
    try:
        with FileLock(lock, timeout=-1 if wait else 0):
            if not path.exists():
                with unfinished(half):
                    pass  # what a process that was killed left
                with unfinished(half):
                    write(half)
                    os.replace(half, path)
    except Timeout:
        return False
    with suppress(OSError):
        lock.unlink()  # whoever still holds it finds the work done
    return True


def together(missing: list[int], attempt: Callable[[list[int]], Iterator[tuple[int, bool]]]) -> Iterator[int]:
    """The numbers of ``missing``, as they are made by ``attempt`` here or by another process elsewhere."""
    first = rank() * len(missing) // count()  # each begins in a part of its own
    missing = missing[first:] + missing[:first]
    while missing:
        left = []
        for number, made in attempt(missing):
            if made:
                yield number
            else:
                left.append(number)
        missing = left
        if missing:
            time.sleep(_PAUSE)


def _make_shard(render: Render, data: Data, cache: Path, device: str, number: int) -> tuple[int, bool]:
    def write(folder: Path) -> None:
        folder.mkdir()
        clips = [render(data, number * SHARD + row, device) for row in range(SHARD)]
        for name in clips[0]:
            save_array(folder / f"{name}.npy", np.stack([clip[name] for clip in clips]))

    path = shard_folder(cache, number)
    try:
        return number, make_whole(path, write)
    except OSError as error:
        raise InputError(f"data.cache {path}: cannot be written ({error.strerror or error}); make room") from None


def save_array(path: Path, values: NDArray) -> None:
    with path.open("wb") as file:  # np.save would add an ending to the name
        np.save(file, values)
