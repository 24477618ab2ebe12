"""Training clips from the studio: rendered as they are needed, or once into a cache (``clip_cache``).

A clip is a character before a background or, for Animate Anyone 2, a scene with objects.
"""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import BODY, NUM_KEYPOINTS, PoseSequence, Size
from animate_anyone.synthetic.dataset import Clip, sample_clip
from animate_anyone.synthetic.scenes import sample_scene_clip
from animate_anyone.system import processes
from animate_anyone.training.clip_cache import SHARD as SHARD
from animate_anyone.training.clip_cache import ClipArrays, ClipCache, Render
from animate_anyone.training.config import Data
from animate_anyone.training.render_pool import RenderPool, count_workers, may_start

CLIP_LENGTH = 24  # frames of a clip from which an image-stage clip's frames are taken
ARRAYS = ("frames", "masks", "poses", "joints")
SCENE_ARRAYS = ("frames", "environment", "masks", "objects", "occluders", "points")


def stream(*numbers: int) -> np.random.Generator:
    """A random stream that is a function of these numbers and of nothing else."""
    return np.random.default_rng(np.random.SeedSequence([n & 0xFFFF_FFFF for n in numbers]))


def render_clip(data: Data, number: int, device: str = "cpu") -> ClipArrays:
    """Clip ``number`` of the training split, rendered on ``device``.

    Returns:
        ``frames`` ``(f, H, W, 3)``, ``masks`` ``(f, H, W)`` with 1 on the person, ``poses``
        ``(f, h, w, 3)`` with sides ``data.pose_scale`` times the frame's, all uint8; ``joints`` ``(f, 18, 4)``
        float32, the body's x, y, score and depth as :class:`PoseSequence` has them. Where ``data.reference`` is
        ``elsewhere``, a frame of another clip of the same character is the last, one more than ``frames_per_clip``.
    """
    sampling = _sampling(data, number, device)
    arrays = _arrays(data, sample_clip(**sampling))
    if data.reference == "same_clip":
        return arrays
    place = int(stream(sampling["seed"], 2).integers(sampling["num_frames"]))
    other = _arrays(data, sample_clip(**sampling | {"frame_indices": [place], "take": 1}))
    return {name: np.concatenate([array, other[name]]) for name, array in arrays.items()}


def _arrays(data: Data, clip: Clip) -> ClipArrays:
    """A clip's arrays as :func:`render_clip` has them."""
    return {
        "frames": clip.frames.cpu().numpy(),
        "masks": clip.mask.cpu().numpy().astype(np.uint8),
        "poses": draw_pose(clip.pose, (data.pose_size, data.pose_size), style=data.skeleton_style),
        "joints": points_of(clip.pose)[:, BODY],
    }


def render_scene(data: Data, number: int, device: str = "cpu") -> ClipArrays:
    """Scene ``number`` of the training split (Animate Anyone 2), rendered on ``device``.

    Returns:
        ``frames`` and ``environment`` (the same without the person, the objects and their shadows)
        ``(f, H, W, 3)``; ``masks`` (1 on the person), ``objects`` (on what it holds or touches) and ``occluders``
        (on what stands in front of it) ``(f, H, W)``, all uint8; ``points`` ``(f, 128, 4)`` float32, every
        keypoint's x, y, score and depth as :class:`PoseSequence` has them.
    """
    clip = sample_scene_clip(**_sampling(data, number, device))
    pictures = {"frames": clip.frames, "environment": clip.environment}
    pictures |= {"masks": clip.mask, "objects": clip.object_mask, "occluders": clip.occluders}
    arrays = {name: picture.cpu().numpy().astype(np.uint8) for name, picture in pictures.items()}
    return arrays | {"points": points_of(clip.pose)}


def _sampling(data: Data, number: int, device: str) -> dict[str, Any]:
    """What the studio is asked for: the arguments of ``sample_clip`` and ``sample_scene_clip``."""
    seed, length = data.first_seed + number, max(CLIP_LENGTH, data.frames_per_clip)
    if data.consecutive:
        kept = list(range(data.frames_per_clip))
    else:
        kept = sorted(stream(seed, 1).choice(length, data.frames_per_clip, replace=False).tolist())
    return {
        "seed": seed,
        "num_frames": length,
        "size": (data.size, data.size),
        "frame_indices": kept,
        "supersample": data.supersample,
        "device": device,
        "domain": data.domain,
    }


def points_of(pose: PoseSequence) -> NDArray[np.float32]:
    """All keypoints of a pose as one array ``(f, 128, 4)``: x, y, score, depth; an unknown depth is 0."""
    depth = np.zeros_like(pose.scores) if pose.depth is None else np.nan_to_num(pose.depth)
    return np.concatenate([pose.keypoints, pose.scores[..., None], depth[..., None]], -1).astype(np.float32)


def pose_of(points: NDArray[np.float32], size: Size) -> PoseSequence:
    """The pose of :func:`points_of`, or of its body ``(f, 18, 4)`` alone, in pixels of frames ``(width, height)``."""
    whole = np.zeros((len(points), NUM_KEYPOINTS, 4), np.float32)
    whole[:, : points.shape[1]] = points
    return PoseSequence(whole[..., :2], whole[..., 2], size, depth=whole[..., 3])


class StudioClips:
    """Batches of clips, each a function of the step alone.

    Args:
        data: the recipe's settings; with ``data.cache`` the clips are rendered into it first.
        seed: orders the clips.
        scenes: whether the clips are scenes, see :func:`render_scene`, or of :func:`render_clip`.

    Attributes:
        arrays: names of what :attr:`render` returns.
        render: a clip of these settings by its number; other processes call it too.
        device: which device renders.
    """

    def __init__(self, data: Data, seed: int, progress: Progress = SILENT, *, scenes: bool = False) -> None:
        self.data, self.seed, self.scenes = data, seed, scenes
        self.render: Render = render_scene if scenes else render_clip
        self.arrays = SCENE_ARRAYS if scenes else ARRAYS
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

    def of_step(self, step: int, part: int, parts: int, count: int) -> list[ClipArrays]:
        """The clips of micro-batch ``part`` of ``parts`` of a step, ``count`` of them."""
        return self.clips(self.numbers(step, part, parts, count))

    def clips(self, numbers: NDArray[np.int64]) -> list[ClipArrays]:
        """These clips' arrays, with what :meth:`derive` added.

        Without a cache they are rendered now, by ``data.workers`` processes; several threads may ask at once.
        """
        if self._cache is not None:
            return [self._cache.clip(int(number), self.arrays) for number in numbers]
        if self._owner != os.getpid():  # forked from it: neither the GPU nor its processes can be used
            return [self.render(self.data, int(number), "cpu") for number in numbers]
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
        """What the clips of a cache depend on: its index. Poses of scenes are kept as keypoints, not drawn."""
        names = ["size", "frames_per_clip", "consecutive", "first_seed", "supersample"]
        if not self.scenes:
            names += ["pose_size", "skeleton_style"]
        settings: dict[str, object] = {"scenes": True} if self.scenes else {}
        settings |= {name: getattr(self.data, name) for name in names}
        if self.data.domain != "plain":  # caches from before there were domains are plain and do not say so
            settings["domain"] = self.data.domain
        if self.data.reference != "same_clip":  # likewise
            settings["reference"] = self.data.reference
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
