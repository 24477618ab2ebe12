"""What Animate Anyone 2 needs beyond Animate Anyone: the scene on the networks' way, and what waits for the whole clip.

On shapes and in bytes, as :mod:`animate_anyone.sampling.memory`, which calls this.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from animate_anyone.models.autoencoding import at_once
from animate_anyone.models.object_guider import ObjectFeatures
from animate_anyone.models.temporal_reference import TemporalReference
from animate_anyone.sampling.continuation import see_frames
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.placement import Work
from animate_anyone.sampling.scene import SceneLatents
from animate_anyone.structures import Size
from animate_anyone.system.frame_sequence import KEPT_BYTES
from animate_anyone.system.frame_store import KEPT_BYTES as FEATURES_KEPT

_LOOKED_AT = 384
"""Longer side of the frames in which a person is found, ``perception.classical.WORKING_SIDE``."""


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


def walk_before(p: AnimateAnyone2Pipeline, work: Work, token: Tensor, take: Any) -> TemporalReference | None:
    """The way of the frames before a segment through ReferenceNet; ``None`` where none are shown."""
    if not work.before:
        return None
    height, width = (side // p.latent_downscale for side in work.size[::-1])
    shape = (work.before, height, width)
    latents = torch.empty(1, p.vae.config["latent_channels"], *shape, dtype=work.dtype)
    poses = torch.empty(1, p.guider.config["out_channels"], *shape, dtype=work.dtype)
    own = poses if p.config["reference_pose"] else None
    seen: TemporalReference = take(
        "denoising", "reference_net", lambda: see_frames(p.denoising_unet, p.reference_net, latents, token, own)
    )
    return seen


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
    """What ``replace`` holds in memory of a clip's pictures and masks while the networks run: a little of each kind.

    Args as :func:`disk_bytes`.
    """
    kinds = _kept_by_frame(p, work, video, result, num_objects)
    return 2 * 3 * video[0] * video[1] + sum(min(work.frames * each, max(KEPT_BYTES, each)) for each in kinds)


def disk_bytes(p: AnimateAnyone2Pipeline, work: Work, video: Size, result: Size, num_objects: int | None = None) -> int:
    """All pictures and masks of a clip that ``replace`` makes, which lie in temporary files but for a few.

    Args:
        video, result: ``(width, height)``; that of the networks is ``work.size``.
        num_objects: how many objects have masks; ``None``: one where ``work`` has objects.
    """
    return work.frames * sum(_kept_by_frame(p, work, video, result, num_objects))


def preparation_bytes(work: Work, video: Size, in_reach: int) -> int:
    """What is held beside those pictures before the networks work: frames of the video, and what finds the person in
    them at :data:`_LOOKED_AT`.

    Args:
        in_reach: frames of the video that are held.
    """
    width, height = video
    scale = min(1.0, _LOOKED_AT / max(video))
    pixels = round(width * scale) * round(height * scale)
    kinds = (3 * pixels, 2 * pixels, *(4 * [_bits(pixels)]))  # frames, distances; four masks
    seen = sum(min(work.frames * each, max(KEPT_BYTES, each)) for each in kinds)
    return min(in_reach, work.frames) * 3 * width * height + seen


def _kept_by_frame(
    p: AnimateAnyone2Pipeline, work: Work, video: Size, result: Size, num_objects: int | None
) -> tuple[int, ...]:
    """Bytes a frame of each kind of picture that is kept while the networks run; masks are bits."""
    guessed, depth = p.guess_options.carried_reference, p.config["uses_depth"]
    objects = int(work.objects) if num_objects is None else num_objects
    seen, made, given, drawn = (w * h for w, h in (video, result, work.size, p.pose_picture_size(work.size)))
    kinds = [_bits(seen)] * (1 + objects) + [3 * made, _bits(made)]  # masks of the video; source, region
    if guessed:
        # What is made, background, what of it is unseen and what unknown; the guess: picture, region, what stays.
        kinds += [_bits(made), 3 * made, _bits(made), _bits(made), 3 * made, 4 * made, made]
    if work.objects and (guessed or result == work.size):
        kinds.append(_bits(made))
    if result != work.size:
        kinds += [3 * given, _bits(given), *([_bits(given)] * work.objects)]
    return (*kinds, 3 * drawn, *([4 * drawn] * depth))


def _bits(pixels: int) -> int:
    return -(-pixels // 8)


def _scene(p: AnimateAnyone2Pipeline, work: Work, frames: int) -> SceneLatents:
    """So many frames of a scene, of whatever device is torch's default: shapes alone where that is meta."""
    height, width = (side // p.latent_downscale for side in work.size[::-1])
    latents = torch.empty(1, p.vae.config["latent_channels"], frames, height, width, dtype=work.dtype)
    mask = torch.empty(1, 1, frames, height, width)
    guider = p.object_guider
    return SceneLatents(latents, mask, guider(latents) if work.objects and guider is not None else None)
