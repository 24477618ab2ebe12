"""What Animate Anyone 2 needs beyond Animate Anyone: the scene on the networks' way, and what waits for the whole clip.

On shapes and in bytes, as :mod:`animate_anyone.sampling.memory`, which calls this.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from animate_anyone.first_guess.collage import LAYERS, chunks
from animate_anyone.models.autoencoding import at_once
from animate_anyone.models.object_guider import ObjectFeatures
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.placement import Work
from animate_anyone.sampling.scene import SceneLatents


def frames_encoded_at_once(p: AnimateAnyone2Pipeline, work: Work) -> int:
    """Frames whose poses are encoded together, and those before and after them that their features depend on."""
    reach = 0 if p.pose_modulation is None else p.pose_modulation.reach
    return min(work.frames, p.poses_at_once + 2 * reach)


def walk_scene(p: AnimateAnyone2Pipeline, work: Work, take: Any) -> None:
    """The way of ``_encode_scene``, for one batch of frames: each is done with before the next."""
    picture = torch.empty(min(work.frames, at_once(*work.size)), 3, *work.size[::-1]).to(work.dtype)
    latent = take("scene", "vae", lambda: p.vae.encode(picture).latent_dist.mean)
    guider = p.object_guider
    if work.objects and guider is not None:
        take("scene", "object_guider", lambda: guider(latent[:1, :, None]))


def join_scene(p: AnimateAnyone2Pipeline, work: Work, noisy: Tensor) -> tuple[Tensor, ObjectFeatures | None]:
    """The windows' environment and mask behind noisy latents, and their objects."""
    return _scene(p, work, work.window).beside(noisy, [list(range(work.window))] * work.window_batch)


def scene_bytes(p: AnimateAnyone2Pipeline, work: Work) -> int:
    """The scene of the whole clip: the environment's latents, the mask, and all levels of the objects' features."""
    scene = _scene(p, work, 1)
    levels = () if scene.objects is None else scene.objects.levels
    return work.frames * sum(t.numel() * t.element_size() for t in (scene.environment, scene.mask, *levels))


def picture_bytes(p: AnimateAnyone2Pipeline, work: Work, size: tuple[int, int], num_objects: int | None = None) -> int:
    """All pictures of the clip that ``replace`` holds while the networks run: the video's, and what the model is given.

    Args:
        size: ``(width, height)`` of the video.
        num_objects: how many objects have masks; ``None``: one where ``work`` has objects.
    """
    # Bytes a pixel: three of a picture, one of a mask, four of structured depth.
    seen = 3 + 1 + (int(work.objects) if num_objects is None else num_objects)
    given = (3 + 3 + 1 + 1) + (3 + 1) * work.objects + (3 + 1) * p.guess_options.carried_reference
    drawn = 3 + 4 * p.config["uses_depth"]
    kinds = ((seen, size), (given, work.size), (drawn, p.pose_picture_size(work.size)))
    return work.frames * sum(each * width * height for each, (width, height) in kinds)


def preparation_bytes(p: AnimateAnyone2Pipeline, work: Work, size: tuple[int, int]) -> int:
    """What is held beside those pictures while they are made, before the networks work.

    Args:
        size: ``(width, height)`` of the video.
    """
    width, height = work.size
    if not p.guess_options.carried_reference:
        return work.frames * 2 * width * height  # masks
    layers = next(chunks(work.frames, work.size)).stop * LAYERS * width * height
    # Masks of the person, the body and the character, the background in making; masks of what stands in front.
    return layers + work.frames * (8 * width * height + size[0] * size[1])


def _scene(p: AnimateAnyone2Pipeline, work: Work, frames: int) -> SceneLatents:
    """So many frames of a scene, of whatever device is torch's default: shapes alone where that is meta."""
    height, width = (side // p.latent_downscale for side in work.size[::-1])
    latents = torch.empty(1, p.vae.config["latent_channels"], frames, height, width, dtype=work.dtype)
    mask = torch.empty(1, 1, frames, height, width)
    guider = p.object_guider
    return SceneLatents(latents, mask, guider(latents) if work.objects and guider is not None else None)
