"""The frames before a clip, as training gives them to the temporal layers (Animate Anyone 2, long video)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.temporal_reference import (
    TemporalReference,
    pair_temporal_reference,
    with_temporal_reference,
)
from animate_anyone.training.objective import part_of_step
from animate_anyone.training.scene_split import SplitScene
from animate_anyone.training.stage_denoising import DenoisingStage
from animate_anyone.training.temporal_reference_settings import TemporalReferenceSettings


def take_frames_before(unet: DenoisingUNet, frames: int, init: Path) -> DenoisingUNet:
    """A denoising UNet that takes so many frames before a clip: as it is, or one that learns it from now on.

    Raises:
        InputError: it takes other frames before already, or cannot take so many.
    """
    known = unet.config["temporal_reference_frames"]
    if known == frames:
        return unet
    name = "recipe: environment.temporal_reference.frames"
    if known:
        raise InputError(f"{name} is {frames}; in {init} it is {known}; give that")
    try:
        widened: DenoisingUNet = with_temporal_reference(unet, frames)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    return widened


def draws_given(settings: TemporalReferenceSettings, rng: np.random.Generator) -> bool:
    """Whether a clip is trained with the frames before it; drawn where there are any."""
    return settings.frames > 0 and bool(rng.random() >= settings.dropout)


def fields_before(split: SplitScene, given: bool) -> dict[str, NDArray]:
    """What a batch has of the frames before a clip. Nothing of what is to be made is left out of them."""
    return {
        "before": split.frames,
        "poses_before": split.poses,
        "depth_before": split.depth,
        "given_before": np.array(given),
    }


def joined(before: Tensor | None, clip: Tensor) -> Tensor:
    """Frames before a clip, where there are any, and the clip's: ``(b, m + k, ...)``."""
    return clip if before is None else torch.cat([before, clip], 1)


def see_before(
    stage: DenoisingStage[Any],
    frames: Tensor,
    given: Tensor | None,
    token: Tensor,
    pose: Tensor,
    noise: float,
    generator: torch.Generator,
) -> TemporalReference:
    """What temporal attention is given of true frames before each clip.

    Args:
        stage: its networks.
        frames: ``(b, m, H, W, 3)`` uint8.
        given: ``(b,)`` bool, clips that are trained with them.
        token: the reference's image token ``(b, tokens, C)``, also where the clip itself goes without.
        pose: the guider's features of these frames, ``(b, C, m, h, w)``.
        noise: the largest standard deviation of what is added to their latents; each clip draws its own.
        generator: of the whole step.
    """
    latents = stage.encode(frames)  # (b, m, c, h, w)
    b, m = latents.shape[:2]
    if noise:
        drawn = part_of_step(lambda n, g: torch.randn((n, *latents.shape[1:]), generator=g), b, generator)
        strength = part_of_step(lambda n, g: torch.rand((n, 1, 1, 1, 1), generator=g), b, generator)
        latents = latents + (noise * strength * drawn).to(latents)
    assert stage.reference_net is not None
    own = pose.transpose(1, 2).flatten(0, 1) if stage.options.get("reference_pose", False) else None
    features = stage.reference_net(latents.flatten(0, 1), token.repeat_interleave(m, 0), own)
    return pair_temporal_reference(stage.denoising_unet, features, m, given)
