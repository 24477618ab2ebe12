"""Scenes from the studio as training clips (Animate Anyone 2): rendered on the fly, or once into a cache."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from animate_anyone.structures import PoseSequence
from animate_anyone.synthetic.scenes import sample_scene_clip
from animate_anyone.training.clip_cache import Clip
from animate_anyone.training.clips import StudioClips, moments
from animate_anyone.training.config import Data

SCENE_ARRAYS = ("frames", "environment", "masks", "objects", "occluders", "points")


def render_scene(data: Data, number: int, device: str = "cpu") -> Clip:
    """Scene ``number`` of the training split, rendered on ``device``.

    Returns:
        ``frames`` and ``environment`` (the same without the person, the objects and their shadows)
        ``(f, H, W, 3)``; ``masks`` (1 on the person), ``objects`` (on what it holds or touches) and ``occluders``
        (on what stands in front of it) ``(f, H, W)``, all uint8; ``points`` ``(f, 128, 4)`` float32, every
        keypoint's x, y, score and depth as :class:`PoseSequence` has them.
    """
    seed = data.first_seed + number
    length, kept = moments(data, seed)
    clip = sample_scene_clip(
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
        "environment": clip.environment.cpu().numpy(),
        "masks": clip.mask.cpu().numpy().astype(np.uint8),
        "objects": clip.object_mask.cpu().numpy().astype(np.uint8),
        "occluders": clip.occluders.cpu().numpy().astype(np.uint8),
        "points": points_of(clip.pose),
    }


class SceneClips(StudioClips):
    """:class:`StudioClips` of scenes, see :func:`render_scene`."""

    arrays: ClassVar[tuple[str, ...]] = SCENE_ARRAYS

    @staticmethod
    def render(data: Data, number: int, device: str = "cpu") -> Clip:
        """Scene ``number`` of these settings."""
        return render_scene(data, number, device)

    def settings(self) -> dict[str, object]:
        """What the scenes of a cache depend on; how poses are drawn is none of it, for they are kept as points."""
        drawn = ("pose_size", "skeleton_style")
        return {"scenes": True} | {name: value for name, value in super().settings().items() if name not in drawn}


def points_of(pose: PoseSequence) -> NDArray[np.float32]:
    """All points of a pose as one array ``(f, 128, 4)``: x, y, score, depth."""
    depth = np.zeros_like(pose.scores) if pose.depth is None else np.nan_to_num(pose.depth)
    return np.concatenate([pose.keypoints, pose.scores[..., None], depth[..., None]], -1).astype(np.float32)


def pose_from(points: NDArray[np.float32], side: int) -> PoseSequence:
    """What :func:`points_of` made one array of, in pixels of square frames of this side."""
    whole = np.array(points, np.float32)  # out of the cache, which is only mapped
    return PoseSequence(whole[..., :2], whole[..., 2], (side, side), depth=whole[..., 3])
