"""Training clips from the studio: rendered on the fly, or once into a cache that is read ever after.

A cache is a folder of shards; a shard is written under another name and renamed when whole, so that
rendering can be stopped and goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.errors import InputError
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import BODY, NUM_KEYPOINTS, PoseSequence
from animate_anyone.synthetic.dataset import sample_clip
from animate_anyone.training.config import Data

CLIP_LENGTH = 24  # frames of a clip from which an image-stage clip's frames are taken
SHARD = 64  # clips
ARRAYS = ("frames", "masks", "poses", "joints")


def stream(*numbers: int) -> np.random.Generator:
    """A random stream that is a function of these numbers and of nothing else."""
    return np.random.default_rng(np.random.SeedSequence([n & 0xFFFF_FFFF for n in numbers]))


def render_clip(data: Data, number: int) -> dict[str, NDArray[np.uint8]]:
    """Clip ``number`` of the training split.

    Returns:
        ``frames`` ``(f, H, W, 3)``, ``masks`` ``(f, H, W)`` with 1 on the person, ``poses``
        ``(f, h, w, 3)`` with sides ``data.pose_scale`` times the frame's, all uint8; ``joints`` ``(f, 18, 4)``
        float32, the body's x, y, score and depth as :class:`PoseSequence` has them.
    """
    seed = data.first_seed + number
    length, kept = moments(data, seed)
    clip = sample_clip(
        seed,
        num_frames=length,
        size=(data.size, data.size),
        frame_indices=kept,
        supersample=data.supersample,
        device="cuda" if torch.cuda.is_available() else "cpu",
        domain=data.domain,
    )
    return {
        "frames": clip.frames.cpu().numpy(),
        "masks": clip.mask.cpu().numpy().astype(np.uint8),
        "poses": draw_pose(clip.pose, (data.pose_size, data.pose_size), style=data.skeleton_style),
        "joints": joints_of(clip.pose),
    }


def moments(data: Data, seed: int) -> tuple[int, list[int]]:
    """How long the movement of a seed is, frames, and which frames of it are kept."""
    length = max(CLIP_LENGTH, data.frames_per_clip)
    if data.consecutive:
        return length, list(range(data.frames_per_clip))
    return length, sorted(stream(seed, 1).choice(length, data.frames_per_clip, replace=False).tolist())


def joints_of(pose: PoseSequence) -> NDArray[np.float32]:
    """The body of a pose as one array ``(f, 18, 4)``: x, y, score, depth."""
    depth = np.zeros_like(pose.scores) if pose.depth is None else pose.depth
    return np.concatenate([pose.keypoints, pose.scores[..., None], depth[..., None]], -1)[:, BODY].astype(np.float32)


def pose_of(joints: NDArray[np.float32], side: int) -> PoseSequence:
    """What :func:`joints_of` kept, without hands and face, in pixels of square frames of this side."""
    whole = np.zeros((len(joints), NUM_KEYPOINTS, 4), np.float32)
    whole[:, BODY] = joints
    return PoseSequence(whole[..., :2], whole[..., 2], (side, side), depth=whole[..., 3])


class StudioClips:
    """Batches of clips, each a function of the step alone.

    Args:
        data: the recipe's settings; with ``data.cache`` the clips are rendered into it first.
        seed: orders the clips.

    Attributes:
        arrays: names of what :meth:`render` returns.
    """

    arrays: ClassVar[tuple[str, ...]] = ARRAYS

    @staticmethod
    def render(data: Data, number: int) -> dict[str, NDArray]:
        """Clip ``number`` of these settings; other processes call it too."""
        return render_clip(data, number)

    def __init__(self, data: Data, seed: int, progress: Progress = SILENT) -> None:
        self.data, self.seed = data, seed
        self._cache = None if data.cache is None else Path(data.cache)
        self._derived: dict[str, str] = {}
        self._open = lru_cache(maxsize=None)(np.load)
        if self._cache is not None:
            self._render_cache(self._cache, progress)

    def numbers(self, step: int, part: int, parts: int, batch: int) -> NDArray[np.int64]:
        """Which clips make up micro-batch ``part`` of ``parts`` of a step: each once per epoch, shuffled anew.

        ``batch`` is the number of clips in the micro-batch.
        """
        epoch, place = np.divmod((step * parts + part) * batch + np.arange(batch), self.data.clips)
        return np.array([_shuffled(self.seed, int(e), self.data.clips)[p] for e, p in zip(epoch, place, strict=True)])

    def clips(self, numbers: NDArray[np.int64]) -> list[dict[str, NDArray]]:
        """These clips' arrays, see :func:`render_clip`, with what :meth:`derive` added."""
        if self._cache is None:
            return [self.render(self.data, int(n)) for n in numbers]
        names = {**{name: name for name in self.arrays}, **self._derived}
        out = []
        for n in numbers:
            shard, row = divmod(int(n), SHARD)
            folder = self._cache / f"shard_{shard:05d}"
            out.append({k: self._open(folder / f"{file}.npy", mmap_mode="r")[row] for k, file in names.items()})
        return out

    def derive(self, name: str, digest: str, function: Callable[[NDArray], NDArray], progress: Progress) -> None:
        """Add an array computed from each clip's frames ``(f, H, W, 3)``, kept beside them in the cache.

        ``digest`` names what computes it, so that another network's values are never taken for it.
        Without a cache nothing happens, nor without ``data.keep_latents`` unless it is there: the stage computes it in
        the step.
        """
        if self._cache is None:
            return
        file = f"{name}-{digest}"
        paths = [self._cache / f"shard_{shard:05d}" / f"{file}.npy" for shard in range(self._num_shards)]
        if not self.data.keep_latents and not all(path.exists() for path in paths):
            return
        for shard in progress.track(range(self._num_shards), self._num_shards, name):
            path = self._cache / f"shard_{shard:05d}" / f"{file}.npy"
            if path.exists():
                continue
            frames = np.load(path.with_name("frames.npy"), mmap_mode="r")
            values = np.stack([function(clip) for clip in frames])
            with path.with_suffix(".partial").open("wb") as partial:
                np.save(partial, values)
            os.replace(path.with_suffix(".partial"), path)
        self._derived[name] = file

    @property
    def _num_shards(self) -> int:
        return -(-self.data.clips // SHARD)

    def settings(self) -> dict[str, object]:
        """What the clips of a cache depend on: its index."""
        d = self.data
        settings: dict[str, object] = {
            "size": d.size,
            "frames_per_clip": d.frames_per_clip,
            "consecutive": d.consecutive,
            "first_seed": d.first_seed,
            "supersample": d.supersample,
            "pose_size": d.pose_size,
            "skeleton_style": d.skeleton_style,
        }
        if d.domain != "plain":  # caches from before there were domains are plain and do not say so
            settings["domain"] = d.domain
        return settings

    def _render_cache(self, cache: Path, progress: Progress) -> None:
        settings = self.settings()
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"data.cache {cache}: cannot be made ({error.strerror}); give a folder") from None
        index = cache / "index.json"
        if index.exists() and json.loads(index.read_text()) != settings:
            raise InputError(f"{cache}: holds clips of other settings ({index.name}); give another data.cache")
        index.write_text(json.dumps(settings, indent=1))
        missing = [s for s in range(self._num_shards) if not (cache / f"shard_{s:05d}").exists()]
        if not missing:
            return
        jobs = [(self.render, self.data, cache, shard) for shard in missing]
        if torch.cuda.is_available():
            for job in progress.track(jobs, len(jobs), "render"):
                _render_shard(job)
            return
        with multiprocessing.get_context("spawn").Pool(self.data.workers, torch.set_num_threads, (1,)) as pool:
            for _ in progress.track(pool.imap_unordered(_render_shard, jobs), len(jobs), "render"):
                pass


@lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, clips: int) -> NDArray[np.int64]:
    return stream(seed, 2, epoch).permutation(clips)


def _render_shard(job: tuple[Callable[[Data, int], dict[str, NDArray]], Data, Path, int]) -> None:
    render, data, cache, shard = job
    folder = cache / f"shard_{shard:05d}"
    partial = cache / f"shard_{shard:05d}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    clips = [render(data, shard * SHARD + i) for i in range(SHARD)]
    for name in clips[0]:
        np.save(partial / f"{name}.npy", np.stack([clip[name] for clip in clips]))
    os.replace(partial, folder)


def digest(model: torch.nn.Module) -> str:
    """Eight hexadecimal digits that change with the weights."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.detach().float().cpu().numpy().tobytes())
    return sha.hexdigest()[:8]
