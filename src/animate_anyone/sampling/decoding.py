"""Latents to frames, one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.sampling.inputs import Pictures

UNCHANGED = 0.05
"""Mean squared change of a cell's latents (their variance is about 1) at which detail is put back by 1/e only."""


def decode_frames(vae: AutoencoderKL, latents: Tensor, origins: Pictures | None = None) -> Iterator[NDArray[np.uint8]]:
    """The frames ``(height, width, 3)`` uint8 of ``(1, channels, frames, h, w)`` latents.

    Args:
        origins: the pictures that the latents were made from by changing them, one a frame, each of a frame's size:
            what the autoencoder loses of them is put back where little was changed.
    """
    for number, frame in enumerate(latents[0].unbind(1)):
        scaled = frame[None].to(vae.dtype) / vae.config["scaling_factor"]
        pixels = vae.decode(scaled, return_dict=False)[0].float()
        if origins is not None:
            pixels = pixels + _lost_detail(vae, frame[None], origins[number])
        yield ((pixels[0] / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def _lost_detail(vae: AutoencoderKL, latent: Tensor, origin: NDArray[np.uint8]) -> Tensor:
    """What the autoencoder loses of a picture, ``(1, 3, height, width)``, less of it the more its latents changed."""
    picture = torch.from_numpy(origin).to(latent.device).permute(2, 0, 1)[None].float() / 127.5 - 1
    known = vae.encode(picture.to(vae.dtype)).latent_dist.mean
    rebuilt = vae.decode(known, return_dict=False)[0].float()
    change = (latent.float() - known.float() * vae.config["scaling_factor"]).square().mean(1, keepdim=True)
    kept = F.interpolate(torch.exp(-change / UNCHANGED), picture.shape[-2:], mode="bilinear")
    return kept * (picture - rebuilt)
