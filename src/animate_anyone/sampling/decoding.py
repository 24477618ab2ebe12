"""Latents to frames."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.first_guess.guess import FirstGuess
from animate_anyone.models.autoencoding import at_once, decode

NO_GUESS = FirstGuess()


def decode_frames(vae: AutoencoderKL, latents: Tensor, guess: FirstGuess = NO_GUESS) -> Iterator[NDArray[np.uint8]]:
    """The frames ``(height, width, 3)`` uint8 of ``(1, channels, frames, h, w)`` latents.

    Args:
        guess: whose lost detail is put back.

    Raises:
        InputError: a frame is not finite.
    """
    downscale = 2 ** (len(vae.config["block_out_channels"]) - 1)
    count = at_once(latents.shape[-1] * downscale, latents.shape[-2] * downscale)
    for first in range(0, latents.shape[2], count):
        some = latents[0, :, first : first + count].transpose(0, 1).contiguous()  # (n, c, h, w)
        pixels = decode(vae, some.to(vae.dtype) / vae.config["scaling_factor"])
        pixels = pixels + guess.lost_detail(vae, some, first)
        if not torch.isfinite(pixels).all():
            dtype = str(vae.dtype).removeprefix("torch.")
            advice = "the autoencoder's weights are damaged" if dtype == "float32" else "give --dtype float32"
            raise InputError(f"decoding frame {first + 1} gave NaN or infinity in {dtype}; {advice}")
        frames = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        yield from (np.ascontiguousarray(frame) for frame in frames)
