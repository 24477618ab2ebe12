"""What is computed once of every frame of prepared clips, such as latents: kept in a folder, a file a clip.

The folder's name has the digest of the weights that made it. Any number of processes may fill it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.preparation.reading import PreparedClip
from animate_anyone.progress import Progress
from animate_anyone.structures import Size
from animate_anyone.system.whole_files import writing
from animate_anyone.training.clip_cache import make_whole, save_array, together

_AT_ONCE = 8  # frames
_OPEN = 256  # files

Frames = Callable[[int, Sequence[int]], NDArray[np.uint8]]
"""Some frames of a clip by its place among all, ``(n, height, width, 3)``."""


class VideoLatents:
    """One value a frame, such as its latents, of clips at a size.

    Args:
        cache: the folder with all that is kept.
        name: of the values.
        digest: of the weights that make them.
    """

    def __init__(self, cache: Path, name: str, digest: str) -> None:
        self.folder = cache / f"{name}-{digest}"

    def file(self, clip: PreparedClip, size: Size) -> Path:
        """Where the values of a clip are; the name has the digest of its video and the size."""
        name = clip.digest[:24]
        return self.folder / name[:2] / f"{name}-{size[0]}x{size[1]}.npy"

    def holds(self, clip: PreparedClip, size: Size) -> bool:
        """Whether they are there."""
        return self.file(clip, size).is_file()

    def read(self, clip: PreparedClip, size: Size) -> NDArray:
        """The values of all frames, mapped; raises :class:`InputError` for a damaged file."""
        path = self.file(clip, size)
        values = _opened(path)
        if len(values) != clip.num_frames:
            raise InputError(f"{path}: is of another clip; remove {self.folder} to have it anew")
        return values

    def fill(
        self,
        clips: Sequence[PreparedClip],
        sizes: Sequence[Size],
        frames: Frames,
        function: Callable[[NDArray], NDArray],
        progress: Progress,
    ) -> None:
        """Compute what is missing, by this process and others that do the same.

        Args:
            sizes: of each clip.
            frames: reads them.
            function: the values of frames ``(n, height, width, 3)`` uint8.

        Raises:
            InputError: a clip cannot be read, or the folder not be written.
        """
        missing = [n for n in range(len(clips)) if not self.holds(clips[n], sizes[n])]

        def make(number: int) -> tuple[int, bool]:
            path, clip = self.file(clips[number], sizes[number]), clips[number]
            with writing(self.folder):
                path.parent.mkdir(parents=True, exist_ok=True)
                return number, make_whole(path, lambda part: save_array(part, values(number, clip.num_frames)))

        def values(number: int, count: int) -> NDArray:
            parts = (range(first, min(first + _AT_ONCE, count)) for first in range(0, count, _AT_ONCE))
            return np.concatenate([function(frames(number, part)) for part in parts])

        def attempt(numbers: list[int]) -> Iterator[tuple[int, bool]]:
            return map(make, numbers)

        for _ in progress.track(together(missing, attempt), len(missing), self.folder.name.partition("-")[0]):
            pass


@lru_cache(_OPEN)
def _opened(path: Path) -> NDArray:
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read ({reason}); remove it to have it anew") from None
