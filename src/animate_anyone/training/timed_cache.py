"""The cache of clips when time is limited: as many shards as can be rendered in a third of it.

The whole shards that are there then are the clips of this call; without any, clips are rendered as they are needed.
Latents that are not kept yet are encoded in the step.
With several processes nothing is rendered beforehand: what is there already is used.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from animate_anyone.progress import Progress
from animate_anyone.system import processes
from animate_anyone.training.clip_cache import shard_folder
from animate_anyone.training.clips import SHARD, StudioClips
from animate_anyone.training.config import Data, Recipe
from animate_anyone.training.render_pool import count_workers
from animate_anyone.training.time_limit import TimeLimit

_LONGER = 1.25  # shards may take longer than those before


def clips_in_time(recipe: Recipe, limit: TimeLimit, progress: Progress) -> Data:
    """Fill the recipe's cache as far as the time goes.

    Returns:
        The recipe's ``data`` with the clips that there are: fewer of them, or without the cache.

    Raises:
        InputError: the cache cannot be made or holds clips of other settings.
    """
    data = replace(recipe.data, keep_latents=False)
    if data.cache is None or (data.source == "videos" and not data.studio_share):
        return data
    cache, total = Path(data.cache), -(-data.clips // SHARD)
    there = next((shard for shard in range(total) if not shard_folder(cache, shard).exists()), total)  # without a gap
    at_once = count_workers(data)
    began = limit.clock()

    def left() -> float:
        return limit.left_for_rendering - (limit.clock() - began)

    if there < total and processes.count() == 1:
        # The time of a shard is estimated from one clip; the first of a program takes longest.
        StudioClips(replace(data, cache=None), recipe.seed, scenes=recipe.scenes).render(data, there * SHARD, "cpu")
        takes = SHARD * (limit.clock() - began)
        rounds = 1  # to measure; then all that fit
        while there < total and _LONGER * takes <= left():
            before, count = limit.clock(), min(total - there, at_once * rounds)
            StudioClips(replace(data, clips=(there + count) * SHARD), recipe.seed, progress, scenes=recipe.scenes)
            there += count
            takes = max((limit.clock() - before) / -(-count // at_once), 1e-3)
            rounds = max(1, int(left() / (_LONGER * takes)))
    return replace(data, clips=min(data.clips, there * SHARD)) if there else replace(data, cache=None)
