"""What both pipelines do between pictures and latents: encoding, the first noise, decoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline
from diffusers.utils import BaseOutput
from numpy.typing import NDArray
from torch import Tensor, nn

from animate_anyone.errors import InputError
from animate_anyone.first_guess.guess import FirstGuess, GuessOptions
from animate_anyone.models.autoencoding import at_once, encode
from animate_anyone.sampling.decoding import decode_frames
from animate_anyone.sampling.finite import check_finite
from animate_anyone.sampling.initial_noise import initial_noise
from animate_anyone.sampling.inputs import Pictures
from animate_anyone.sampling.stretching import stretch


@dataclass
class AnimateAnyoneOutput(BaseOutput):
    """What a pipeline returns.

    Attributes:
        frames: ``(frames, height, width, 3)`` uint8, or latents for ``output_type="latent"``.
    """

    frames: NDArray[np.uint8] | Tensor


class LatentVideoPipeline(DiffusionPipeline):
    """A pipeline that makes a clip's latents with a VAE and a schedule; subclasses say how."""

    vae: AutoencoderKL
    scheduler: DDIMScheduler
    _guess = FirstGuess()  # of the last call, for its decoding

    @property
    def latent_downscale(self) -> int:
        """Pixels per latent cell, per side."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def guess_options(self) -> GuessOptions:
        """What the model is given of a first guess."""
        return GuessOptions.of(self.config)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """All networks, by part."""
        return {name: part for name, part in self.components.items() if isinstance(part, nn.Module)}

    @torch.no_grad()
    def decode(self, latents: Tensor, carried: Pictures | None = None) -> Iterator[NDArray[np.uint8]]:
        """The frames ``(height, width, 3)`` of ``(1, channels, frames, h, w)`` latents; ``carried`` as in the call."""
        known, self._guess = self._guess, FirstGuess()
        yield from decode_frames(self.vae, latents, self.guess_options.detail(carried, known, latents.shape))

    def _finish(
        self, latents: Tensor, guess: FirstGuess, output_type: Literal["np", "latent"], return_dict: bool
    ) -> AnimateAnyoneOutput | tuple[NDArray[np.uint8] | Tensor]:
        """What the call returns of what the networks made."""
        latents = guess.restore(latents)
        check_finite(self.networks, latents, "the latents hold")
        self._guess = replace(guess, origin=None)
        result = latents if output_type == "latent" else np.stack(list(self.decode(latents, guess.pictures)))
        self.maybe_free_model_hooks()
        return AnimateAnyoneOutput(frames=result) if return_dict else (result,)

    def _make_guess(self, reference: Tensor, pictures: Pictures | None, size: tuple[int, int]) -> FirstGuess:
        """The first guess at a clip, of the reference's latents ``(1, channels, h, w)`` or of one picture a frame."""
        scale = self.vae.config["scaling_factor"]
        return self.guess_options.guess(reference, pictures, lambda some: self._encode_means(some, size), scale)

    def _noise(self, shape: tuple[int, ...], generator: torch.Generator | None, latents: Tensor | None) -> Tensor:
        """The noise that denoising begins with, ``latents`` where they are given."""
        device = self._execution_device
        if latents is None:
            shared = self.guess_options.shared_noise
            latents = initial_noise(shape, 2, shared=shared, generator=generator, device=device)
        elif tuple(latents.shape) != shape:
            raise InputError(f"latents have shape {tuple(latents.shape)}; they must be {shape}")
        return latents.to(device, torch.float32) * self.scheduler.init_noise_sigma

    def _encode(self, picture: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
        """Latents ``(1, c, 1, h, w)`` of a picture, scaled, on the CPU."""
        return self._encode_all([picture], size)

    def _encode_all(self, pictures: Pictures, size: tuple[int, int]) -> Tensor:
        """Latents ``(1, c, frames, h, w)`` of a clip, scaled; on the CPU, as a long clip's may not fit elsewhere."""
        return self._encode_means(pictures, size) * self.vae.config["scaling_factor"]

    def _encode_means(self, pictures: Pictures, size: tuple[int, int]) -> Tensor:
        """As :meth:`_encode_all`, not scaled."""
        count, means, device = at_once(*size), list[Tensor](), self._execution_device
        for first in range(0, len(pictures), count):
            some = np.stack([stretch(pictures[i], size) for i in range(first, min(first + count, len(pictures)))])
            pixels = torch.from_numpy(some).to(device).permute(0, 3, 1, 2).contiguous()
            means.append(encode(self.vae, pixels.float() / 127.5 - 1).cpu())
        return torch.cat(means).transpose(0, 1)[None].contiguous()
