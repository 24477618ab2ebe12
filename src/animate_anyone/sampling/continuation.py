"""A long clip in segments, one after the other (Animate Anyone 2): how it is cut, and how each goes on from the one
before.

Models that were trained for it (``temporal_reference_frames`` of the denoising UNet) are shown the last frames made, by
their temporal attention. With any other model the frames that two segments share are overwritten at every step,
noised as far as that step wants; nothing is trained for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.models.temporal_reference import TemporalReference, pair_temporal_reference
from animate_anyone.sampling.denoising import Hold


def frames_before(unet: DenoisingUNet) -> int:
    """How many frames before a segment a model was trained to be shown; 0: none."""
    return int(unet.config["temporal_reference_frames"])


def check_continuation(unet: DenoisingUNet, options: Mapping[str, Any], asked: int, steps: int, window: int) -> None:
    """See that a model can go on from ``asked`` frames, in segments of ``window``; raises :class:`InputError` else.

    ``options``: of the pipeline.
    """
    trained = frames_before(unet)
    if trained and asked != trained:
        raise InputError(
            f"continuation is {asked}; this model was trained to see {trained} frames before; give that or 0"
        )
    if not trained and not 0 < asked < window:
        raise InputError(f"continuation is {asked}; give 0, or less than the window of {window} frames")
    if not trained and steps == 1:  # the frames that are put in are noise alone then
        raise InputError(
            "continuation has nothing to go on from in 1 step: this model was not trained for it; give 2 steps or more"
        )
    if options["aggregation"] != "fade":
        raise InputError("this model's windows wrap round; continuation goes with windows that fade alone")


def segments(num_frames: int, length: int) -> list[list[int]]:
    """Cut a clip into segments of ``length`` frames that share none; the last may be shorter."""
    if length < 1:
        raise InputError(f"window {length}: give a window of at least 1")
    return [list(range(first, min(first + length, num_frames))) for first in range(0, num_frames, length)]


def decoded_together(length: int, most: int) -> int:
    """How many frames are decoded at once, up to ``most``, so that a segment's are all handed out before the next."""
    return max(count for count in range(1, min(length, most) + 1) if length % count == 0)


def see_frames(
    unet: DenoisingUNet, network: ReferenceNet, latents: Tensor, token: Tensor, poses: Tensor | None
) -> TemporalReference:
    """What temporal attention is given of some frames.

    Args:
        latents: ``(1, channels, frames, h, w)``, scaled, without noise, of whole frames.
        token: ``(1, tokens, width)``, the reference's.
        poses: ``(1, width of the first level, frames, h, w)``, where ReferenceNet is given poses; else ``None``.
    """
    count = latents.shape[2]
    own = None if poses is None else poses[0].transpose(0, 1).to(latents.device, network.dtype)
    rows = latents[0].transpose(0, 1).to(network.dtype)
    features = network(rows, token.to(network.dtype).repeat(count, 1, 1), own)
    return pair_temporal_reference(unet, features, count)


def holding(scheduler: DDIMScheduler, known: Tensor, noise: Tensor) -> Hold:
    """Put frames that are made already in at the head of a segment, noised as far as each step wants.

    Args:
        known: ``(1, channels, frames, h, w)``, without noise.
        noise: of the whole segment; its first frames are taken.
    """
    count = known.shape[2]

    def hold(latents: Tensor, t: Tensor) -> Tensor:
        noised = scheduler.add_noise(known, noise[:, :, :count], t.view(1))  # type: ignore[arg-type]
        return torch.cat([noised, latents[:, :, count:]], 2)

    return hold
