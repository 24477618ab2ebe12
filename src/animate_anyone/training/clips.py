"""Training clips from the studio: rendered as they are needed, or once into a cache (``clip_cache``)."""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import BODY, NUM_KEYPOINTS, PoseSequence
from animate_anyone.synthetic.dataset import sample_clip
from animate_anyone.training import processes
from animate_anyone.training.clip_cache import SHARD as SHARD
from animate_anyone.training.clip_cache import Clip, ClipCache
from animate_anyone.training.config import Data
from animate_anyone.training.render_pool import RenderPool, count_workers, may_start

CLIP_LENGTH = 24  # frames of a clip from which an image-stage clip's frames are taken
ARRAYS = ("frames", "masks", "poses", "joints")


def stream(*numbers: int) -> np.random.Generator:
    """A random stream that is a function of these numbers and of nothing else."""
    return np.random.default_rng(np.random.SeedSequence([n & 0xFFFF_FFFF for n in numbers]))


def render_clip(data: Data, number: int, device: str = "cpu") -> Clip:
    """Clip ``number`` of the training split, rendered on ``device``.

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
        device=device,
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
        device: which device renders.
    """

    arrays: ClassVar[tuple[str, ...]] = ARRAYS

    @staticmethod
    def render(data: Data, number: int, device: str = "cpu") -> Clip:
        """Clip ``number`` of these settings; other processes call it too."""
        return render_clip(data, number, device)

    def __init__(self, data: Data, seed: int, progress: Progress = SILENT) -> None:
        self.data, self.seed = data, seed
        self.device = str(processes.device())
        self._cache = None if data.cache is None else ClipCache(data, self.settings())
        self._begin()
        if self._cache is not None:
            self._cache.fill(self.render, self.device, progress)

    def _begin(self) -> None:
        """What belongs to this process alone."""
        self._owner, self._lock = os.getpid(), threading.Lock()
        self._pool: RenderPool | None = None

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_owner", "_lock", "_pool")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._begin()

    def numbers(self, step: int, part: int, parts: int, batch: int) -> NDArray[np.int64]:
        """Which clips make up micro-batch ``part`` of ``parts`` of a step: each once per epoch, shuffled anew.

        ``batch`` is the number of clips in the micro-batch.
        """
        epoch, place = np.divmod((step * parts + part) * batch + np.arange(batch), self.data.clips)
        return np.array([_shuffled(self.seed, int(e), self.data.clips)[p] for e, p in zip(epoch, place, strict=True)])

    def clips(self, numbers: NDArray[np.int64]) -> list[Clip]:
        """These clips' arrays, see :func:`render_clip`, with what :meth:`derive` added.

        Without a cache they are rendered now, by ``data.workers`` processes; several threads may ask at once.
        """
        if self._cache is not None:
            return [self._cache.clip(int(number), self.arrays) for number in numbers]
        if self._owner != os.getpid():  # forked from it: neither the GPU nor its processes can be used
            return [self.render(self.data, int(number)) for number in numbers]
        with self._lock:
            if self._pool is None and may_start() and (workers := count_workers(self.data)) > 1:
                self._pool = RenderPool(workers)
                weakref.finalize(self, self._pool.close)
        if self._pool is None:
            return [self.render(self.data, int(number), self.device) for number in numbers]
        return list(self._pool.each(self.render, [(self.data, int(number), self.device) for number in numbers]))

    def derive(self, name: str, digest: str, function: Callable[[NDArray], NDArray], progress: Progress) -> None:
        """Add an array computed from each clip's frames ``(f, H, W, 3)``, kept beside them in the cache.

        ``digest`` names what computes it, so that another network's values are never taken for it.
        Without a cache nothing happens, nor without ``data.keep_latents`` unless it is there: the stage computes it in
        the step.
        """
        if self._cache is not None and (self.data.keep_latents or self._cache.holds(name, digest)):
            self._cache.derive(name, digest, function, progress)

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


@lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, clips: int) -> NDArray[np.int64]:
    return stream(seed, 2, epoch).permutation(clips)


def digest(model: torch.nn.Module) -> str:
    """Eight hexadecimal digits that change with the weights."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.detach().float().cpu().numpy().tobytes())
    return sha.hexdigest()[:8]
