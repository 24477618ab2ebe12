"""What Animate Anyone 2 needs beyond Animate Anyone: the scene on the networks' way, and what waits for the whole clip.

On shapes and in bytes, as :mod:`animate_anyone.sampling.memory`, which calls this.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from animate_anyone.first_guess.frames import KEPT_BYTES, KEPT_PIXEL
from animate_anyone.models.autoencoding import at_once
from animate_anyone.models.object_guider import ObjectFeatures
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.placement import Work
from animate_anyone.sampling.scene import SceneLatents
from animate_anyone.structures import Size
from animate_anyone.system.frame_store import KEPT_BYTES as FEATURES_KEPT


def frames_encoded_at_once(p: AnimateAnyone2Pipeline, work: Work) -> int:
    """Frames whose poses are encoded together, and those before and after them that their features depend on."""
    reach = 0 if p.pose_modulation is None else p.pose_modulation.reach
    return min(work.frames, p.poses_at_once + 2 * reach)


def walk_scene(p: AnimateAnyone2Pipeline, work: Work, take: Any) -> None:
    """The way of ``_clip_scene``, for one batch of frames: each is done with before the next."""
    picture = torch.empty(min(work.frames, at_once(*work.size)), 3, *work.size[::-1]).to(work.dtype)
    latent = take("scene", "vae", lambda: p.vae.encode(picture).latent_dist.mean)
    guider = p.object_guider
    if work.objects and guider is not None:
        take("scene", "object_guider", lambda: guider(latent[:1, :, None]))


def join_scene(p: AnimateAnyone2Pipeline, work: Work, noisy: Tensor) -> tuple[Tensor, ObjectFeatures | None]:
    """The windows' environment and mask behind noisy latents, and their objects."""
    return _scene(p, work, work.window).beside(noisy, [list(range(work.window))] * work.window_batch)


def scene_bytes(p: AnimateAnyone2Pipeline, work: Work) -> int:
    """The scene of the frames at work: the environment's latents, the mask, and all levels of the objects' features."""
    scene = _scene(p, work, 1)
    levels = () if scene.objects is None else scene.objects.levels
    tensors = (scene.environment, scene.mask, *levels)
    return sum(kept_bytes(t.numel() * t.element_size(), work.frames_at_work) for t in tensors)


def kept_bytes(of_a_frame: int, frames: int) -> int:
    """What of so many frames stays in memory; the rest waits on disk, see ``system.frame_store``."""
    return min(frames * of_a_frame, max(FEATURES_KEPT, of_a_frame))


def picture_bytes(
    p: AnimateAnyone2Pipeline, work: Work, video: Size, result: Size, num_objects: int | None = None
) -> int:
    """All pictures of the clip that ``replace`` holds while the networks run: the video's, the result's, the networks'.

    Args:
        video, result: ``(width, height)``; that of the networks is ``work.size``.
        num_objects: how many objects have masks; ``None``: one where ``work`` has objects.
    """
    guessed = p.guess_options.carried_reference
    # Bytes a pixel: three of a picture, one of a mask, four of structured depth.
    seen = 3 + 1 + (int(work.objects) if num_objects is None else num_objects)
    # Source, region; what is made, background, what of it is unseen and what unknown; objects and their mask.
    shown = (3 + 1) + guessed * (1 + 3 + 1 + 1 + (3 + 1) * work.objects)
    given = (3 + 1) + (3 + 1) * work.objects  # environment, mask; objects
    if result == work.size:
        given -= 1 + guessed * work.objects  # masks that are there already
    drawn = 3 + 4 * p.config["uses_depth"]
    kinds = ((seen, video), (shown, result), (given, work.size), (drawn, p.pose_picture_size(work.size)))
    pictures = work.frames * sum(each * width * height for each, (width, height) in kinds)
    return pictures + (min(KEPT_BYTES, work.frames * KEPT_PIXEL * result[0] * result[1]) if guessed else 0)


def preparation_bytes(p: AnimateAnyone2Pipeline, work: Work, video: Size, result: Size) -> int:
    """What is held beside those pictures while they are made, before the networks work; sizes as there."""
    if not p.guess_options.carried_reference:
        return work.frames * 2 * result[0] * result[1]  # masks
    # Masks of the person, the body, the character and the margins, and opacities of two; of what stands in front.
    return work.frames * (12 * result[0] * result[1] + video[0] * video[1])


def _scene(p: AnimateAnyone2Pipeline, work: Work, frames: int) -> SceneLatents:
    """So many frames of a scene, of whatever device is torch's default: shapes alone where that is meta."""
    height, width = (side // p.latent_downscale for side in work.size[::-1])
    latents = torch.empty(1, p.vae.config["latent_channels"], frames, height, width, dtype=work.dtype)
    mask = torch.empty(1, 1, frames, height, width)
    guider = p.object_guider
    return SceneLatents(latents, mask, guider(latents) if work.objects and guider is not None else None)
