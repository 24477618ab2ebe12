"""Where the clips of a run come from: the studio, prepared videos, or both by turns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from numpy.typing import NDArray

from animate_anyone.progress import SILENT, Progress
from animate_anyone.training.clip_cache import ClipArrays
from animate_anyone.training.clips import StudioClips
from animate_anyone.training.config import Recipe
from animate_anyone.training.wanted import Wanted


class ClipSource(Protocol):
    """What a stage takes its clips from.

    Attributes:
        device: what renders or encodes clips beforehand.
    """

    device: str

    def of_step(self, step: int, part: int, parts: int, count: int) -> list[ClipArrays]:
        """The clips of micro-batch ``part`` of ``parts`` of a step, ``count`` of them, all of one size."""
        ...

    def derive(self, name: str, digest: str, function: Callable[[NDArray], NDArray], progress: Progress) -> None:
        """Add an array computed from each clip's frames where it is kept, see ``StudioClips.derive``."""
        ...


class MixedClips:
    """Steps of videos and, evenly between them, steps of the studio.

    Args:
        share: of the studio's, in [0, 1).
    """

    def __init__(self, videos: ClipSource, studio: ClipSource, share: float) -> None:
        self._videos, self._studio, self._share = videos, studio, share
        self.device = videos.device

    def of_step(self, step: int, part: int, parts: int, count: int) -> list[ClipArrays]:
        """See :class:`ClipSource`; each source has its own order, as if the other were not there."""
        before, after = (math.floor(number * self._share) for number in (step, step + 1))
        if after > before:
            return self._studio.of_step(before, part, parts, count)
        return self._videos.of_step(step - before, part, parts, count)

    def derive(self, name: str, digest: str, function: Callable[[NDArray], NDArray], progress: Progress) -> None:
        """See :class:`ClipSource`."""
        self._videos.derive(name, digest, function, progress)
        self._studio.derive(name, digest, function, progress)


def make_source(recipe: Recipe, wanted: Wanted | None, progress: Progress = SILENT) -> ClipSource:
    """The recipe's source, its clips rendered into the cache where it has one.

    Raises:
        InputError: the videos lack what the stage wants, or the cache cannot be made.
    """
    data = recipe.data
    videos: ClipSource | None = None
    if data.source == "videos":
        from animate_anyone.training.video_clips import VideoClips  # where packages for videos are needed

        assert wanted is not None  # the recipe says so
        videos = VideoClips(data, recipe.seed, wanted)
    if videos is not None and not data.studio_share:
        return videos
    studio = StudioClips(data, recipe.seed, progress, scenes=recipe.scenes)
    return studio if videos is None else MixedClips(videos, studio, data.studio_share)
