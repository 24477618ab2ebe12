"""What both pipelines do between pictures and latents: sizes, encoding, the initial noise, decoding, finding NaN."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from animate_anyone.errors import InputError
from animate_anyone.first_guess.guess import FirstGuess, GuessOptions
from animate_anyone.models.autoencoding import at_once, decode, encode
from animate_anyone.sampling.inputs import Pictures


def stretch(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """``picture`` ``(h, w, 3)`` at ``size`` (width, height), its aspect not kept; a copy where it has that size.

    As the samplers of the published open checkpoints do.
    """
    if picture.shape[1::-1] == size:
        return picture.copy()
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)).copy()


def initial_noise(
    shape: Sequence[int], frame_axis: int, *, shared: bool, generator: torch.Generator | None, device: torch.device
) -> Tensor:
    """Standard normal noise for a clip's latents, float32; training draws it so too.

    Args:
        shape: of the latents.
        frame_axis: which axis of ``shape`` counts the frames of one clip.
        shared: all frames of a clip get the same noise (``shared_noise`` of the pipelines), else each its own.
        generator: one of the CPU gives the same noise on every device; ``None`` is the device's own.
        device: where the noise is wanted.

    Returns:
        Noise of ``shape``; with ``shared`` an expanded view, not to be written to.
    """
    drawn = list(shape)
    if shared:
        drawn[frame_axis] = 1
    noise = randn_tensor(tuple(drawn), generator=generator, device=device, dtype=torch.float32)
    return noise.expand(*shape)


def check_finite(networks: Mapping[str, nn.Module], values: Tensor, what: str) -> None:
    """See that values are finite, neither NaN nor infinity.

    Args:
        networks: those that made them, ``denoising_unet`` among them.
        what: what gave them, e.g. ``"step 3 of 20 gave"``.

    Raises:
        InputError: they are not; it says which weights are to blame, or which number type.
    """
    if torch.isfinite(values).all():
        return
    tensors = ((f"{p}/{name}", t) for p, network in networks.items() for name, t in network.state_dict().items())
    found = (n for n, t in tensors if t.is_floating_point() and not t.is_meta and not torch.isfinite(t).all())
    damaged = next(found, None)
    dtype = str(networks["denoising_unet"].dtype).removeprefix("torch.")
    if damaged is not None:
        # Cast to float16, large weights become infinite.
        or_else = " (or too large for float16: give --dtype float32)" if dtype == "float16" else ""
        raise InputError(f"{what} NaN or infinity: {damaged} is not finite; the weights are damaged{or_else}")
    if dtype != "float32":
        raise InputError(f"{what} NaN or infinity in {dtype}; give --dtype float32")
    raise InputError(f"{what} NaN or infinity, in float32 and with weights that are finite; this model cannot be used")


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
