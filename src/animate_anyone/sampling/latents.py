"""What both pipelines do between pictures and latents: sizes, encoding, the first noise, decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline
from diffusers.utils import BaseOutput
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from animate_anyone.errors import InputError
from animate_anyone.first_guess.guess import FirstGuess, GuessOptions
from animate_anyone.models.autoencoding import at_once, decode, encode
from animate_anyone.sampling.finite import check_finite
from animate_anyone.sampling.initial_noise import initial_noise
from animate_anyone.sampling.inputs import Pictures


def stretch(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """``picture`` ``(h, w, 3)`` at ``size`` (width, height), its aspect not kept; a copy where it has that size.

    As the samplers of the published open checkpoints do.
    """
    if picture.shape[1::-1] == size:
        return picture.copy()
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)).copy()


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
        """The frames ``(height, width, 3)`` uint8 of ``(1, channels, frames, h, w)`` latents.

        Args:
            carried: as in the call.

        Raises:
            InputError: a frame is not finite.
        """
        known, self._guess = self._guess, FirstGuess()
        guess, vae = self.guess_options.detail(carried, known, latents.shape), self.vae
        count = at_once(latents.shape[-1] * self.latent_downscale, latents.shape[-2] * self.latent_downscale)
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

    def _noise(self, grid: Sequence[int], generator: torch.Generator | None, latents: Tensor | None) -> Tensor:
        """The noise that denoising begins with, for a ``grid`` of frames, h, w; ``latents`` where they are given."""
        shape, device = (1, self.vae.config["latent_channels"], *grid), self._execution_device
        if latents is None:
            shared = self.guess_options.shared_noise
            latents = initial_noise(shape, 2, shared=shared, generator=generator, device=device)
        elif tuple(latents.shape) != shape:
            raise InputError(f"latents have shape {tuple(latents.shape)}; they must be {shape}")
        return latents.to(device, torch.float32) * self.scheduler.init_noise_sigma

    def _encode(self, pictures: Pictures, size: tuple[int, int]) -> Tensor:
        """Latents ``(1, c, frames, h, w)`` of a clip, scaled; on the CPU, as a long clip's may not fit elsewhere."""
        return self._encode_means(pictures, size) * self.vae.config["scaling_factor"]

    def _encode_means(self, pictures: Pictures, size: tuple[int, int]) -> Tensor:
        """As :meth:`_encode`, not scaled."""
        count, means, device = at_once(*size), list[Tensor](), self._execution_device
        for first in range(0, len(pictures), count):
            some = np.stack([stretch(pictures[i], size) for i in range(first, min(first + count, len(pictures)))])
            pixels = torch.from_numpy(some).to(device).permute(0, 3, 1, 2).contiguous()
            means.append(encode(self.vae, pixels.float() / 127.5 - 1).cpu())
        return torch.cat(means).transpose(0, 1)[None].contiguous()
