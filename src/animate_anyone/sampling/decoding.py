"""Latents to frames."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.sampling.autoencoding import at_once, decode, encode
from animate_anyone.sampling.inputs import Pictures

UNCHANGED = 0.05
"""Mean squared change of a cell's latents (their variance is about 1) at which detail is put back by 1/e only."""


def decode_frames(
    vae: AutoencoderKL, latents: Tensor, origins: Pictures | None = None, known: Tensor | None = None
) -> Iterator[NDArray[np.uint8]]:
    """The frames ``(height, width, 3)`` uint8 of ``(1, channels, frames, h, w)`` latents.

    Args:
        origins: the pictures that the latents were made from by changing them, one a frame, each of a frame's size:
            what the autoencoder loses of them is put back where little was changed.
        known: latents of ``origins``, not scaled, where they were computed before; shape as ``latents``.

    Raises:
        InputError: a frame is not finite.
    """
    downscale = 2 ** (len(vae.config["block_out_channels"]) - 1)
    count = at_once(latents.shape[-1] * downscale, latents.shape[-2] * downscale)
    for first in range(0, latents.shape[2], count):
        part = slice(first, first + count)
        some = latents[0, :, part].transpose(0, 1).contiguous()  # (n, c, h, w)
        pixels = decode(vae, some.to(vae.dtype) / vae.config["scaling_factor"])
        if origins is not None:
            pictures = torch.from_numpy(np.stack([origins[first + i] for i in range(len(some))]))
            own = None if known is None else known[0, :, part].transpose(0, 1).to(some.device)
            pixels = pixels + _lost_detail(vae, some, pictures, own)
        if not torch.isfinite(pixels).all():
            dtype = str(vae.dtype).removeprefix("torch.")
            advice = "the autoencoder's weights are damaged" if dtype == "float32" else "give --dtype float32"
            raise InputError(f"decoding frame {first + 1} gave NaN or infinity in {dtype}; {advice}")
        frames = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        yield from (np.ascontiguousarray(frame) for frame in frames)


def _lost_detail(vae: AutoencoderKL, latents: Tensor, origins: Tensor, known: Tensor | None) -> Tensor:
    """What the autoencoder loses of pictures, ``(n, 3, height, width)``, less of it the more their latents changed.

    Args:
        latents: ``(n, c, h, w)``, scaled.
        origins: ``(n, height, width, 3)`` uint8.
        known: their latents ``(n, c, h, w)``, not scaled; ``None``: they are encoded here.
    """
    pictures = origins.to(latents.device).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
    known = encode(vae, pictures) if known is None else known
    rebuilt = decode(vae, known)
    change = (latents.float() - known.float() * vae.config["scaling_factor"]).square().mean(1, keepdim=True)
    kept = F.interpolate(torch.exp(-change / UNCHANGED), pictures.shape[-2:], mode="bilinear")
    return kept * (pictures - rebuilt)
