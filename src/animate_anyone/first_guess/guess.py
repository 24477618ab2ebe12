"""How a model joins a first guess to its noise, changes it, and has its detail put back. (Not in the papers.)

Without a guess the null form of :class:`FirstGuess` leaves everything as the papers have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.models.autoencoding import decode

Pictures = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]

UNCHANGED = 0.05
"""Mean squared change of a cell's latents (their variance is about 1) at which detail is put back by 1/e only."""


@dataclass(frozen=True)
class FirstGuess:
    """What the latents of some frames are changes of; the null form, without ``origin``, is none.

    Attributes:
        origin: ``(1, channels, 1 or frames, h, w)``, scaled; one frame stands for all. They join the noise on the
            channels, and the networks make what differs from them.
    """

    origin: Tensor | None = None

    def join(self, noisy: Tensor, windows: Sequence[list[int]], num_unconditional: int) -> Tensor:
        """The guess behind noisy latents, for networks whose ``in_channels`` are both.

        Args:
            noisy: ``(samples, channels, frames, h, w)``: the windows, the unconditional samples first.
            windows: the frames of each, counted as those of ``origin`` are.
            num_unconditional: samples that see zeros instead.
        """
        if self.origin is None:
            return noisy
        still = self.origin.shape[2] == 1
        guess = torch.cat([self.origin if still else self.origin[:, :, frames] for frames in windows])
        return join_guess(noisy, guess.to(noisy.device), num_unconditional)

    def join_samples(self, noisy: Tensor, num_unconditional: int) -> Tensor:
        """As :meth:`join`, of training samples that have a guess each: ``origin`` has as many as ``noisy``."""
        return noisy if self.origin is None else join_guess(noisy, self.origin[num_unconditional:], num_unconditional)

    def changes(self, latents: Tensor) -> Tensor:
        """What is to be changed of the guess, so that ``latents`` come out; the inverse of :meth:`restore`."""
        return latents if self.origin is None else latents - self.origin.to(latents)

    def restore(self, latents: Tensor) -> Tensor:
        """The latents of frames, of what is to be changed of the guess."""
        return latents if self.origin is None else latents + self.origin.to(latents)


def lost_detail(vae: AutoencoderKL, latents: Tensor, pictures: Pictures, means: Tensor) -> Tensor:
    """What the autoencoder loses of a guess's pictures, less of it the more their latents were changed.

    Args:
        vae: the autoencoder.
        latents: ``(n, channels, h, w)``, scaled, of some frames.
        pictures: the guess at them, ``(height, width, 3)`` uint8 each.
        means: of the pictures: latents as ``latents``, not scaled.

    Returns:
        ``(n, 3, height, width)`` to be added to the decoded frames.
    """
    shown = torch.from_numpy(np.stack(list(pictures))).to(latents.device).permute(0, 3, 1, 2).contiguous()
    given = shown.float() / 127.5 - 1
    means = means.to(latents.device)
    rebuilt = decode(vae, means)
    change = (latents.float() - means.float() * vae.config["scaling_factor"]).square().mean(1, keepdim=True)
    kept = F.interpolate(torch.exp(-change / UNCHANGED), given.shape[-2:], mode="bilinear")
    return kept * (given - rebuilt)


@dataclass(frozen=True)
class GuessOptions:
    """What a model is given of a first guess; options of ``model_index.json``, all off in the papers' models.

    Attributes:
        reference_latents: the reference's latents are the guess: attention need not find what stays in its place.
        carried_reference: the guess is, for every frame, the reference moved into its pose
            (:mod:`animate_anyone.first_guess.character`), or a collage of the scene.
        shared_noise: all frames begin with the same noise, so that what shows of it stands still. (For models of one or
            few steps.)
        keep_detail: what the autoencoder loses of a warped reference is put back where little was changed.
    """

    reference_latents: bool = False
    carried_reference: bool = False
    shared_noise: bool = False
    keep_detail: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> GuessOptions:
        """Of a pipeline's configuration or a recipe's options; those that are not there are off."""
        return cls(**{name: bool(options.get(name, False)) for name in cls.__dataclass_fields__})

    def input_channels(self, channels: int) -> int:
        """Channels that the denoising UNet is given of latents of so many: the noise's and the guess's."""
        return (1 + self.reference_latents) * channels

    def check(self, reference: NDArray[np.uint8], num_poses: int, carried: Pictures | None) -> Pictures | None:
        """``carried``, which is there where the model wants it, one picture a pose; raises ``InputError`` else."""
        if carried is None:
            if self.carried_reference:
                raise InputError("this model needs carried, the reference moved into each pose (first_guess.character)")
            return None
        if not self.carried_reference:
            raise InputError("this model was trained without a carried reference; leave carried out")
        if len(carried) != num_poses:
            raise InputError(f"there are {len(carried)} carried pictures and {num_poses} poses; give one for each")
        if carried[0].shape != reference.shape:
            raise InputError(f"carried[0] has shape {carried[0].shape}; the reference has {reference.shape}")
        return carried


def join_guess(noisy: Tensor, guess: Tensor, num_unconditional: int = 0) -> Tensor:
    """A guess's latents behind the noisy ones, for networks whose ``in_channels`` are both.

    Args:
        noisy: ``(batch, channels, frames, height, width)``, unconditional samples first.
        guess: ``(batch - num_unconditional, channels, frames, height, width)``; one frame stands for all.
        num_unconditional: samples that see zeros instead.
    """
    beside = guess.to(noisy.dtype).expand(-1, -1, noisy.shape[2], -1, -1)
    nothing = torch.zeros_like(noisy[:num_unconditional])
    return torch.cat([noisy, torch.cat([nothing, beside])], 1)
