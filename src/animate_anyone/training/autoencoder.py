"""Small models only: an autoencoder and an image encoder of their own, trained before everything else.

Large models take Stable Diffusion's autoencoder and CLIP, frozen (Animate Anyone, section 3.3).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from animate_anyone.errors import InputError
from animate_anyone.models.image_tokens import image_tokens
from animate_anyone.progress import SILENT, Progress
from animate_anyone.training.batch import Batch
from animate_anyone.training.clip_cache import ClipArrays
from animate_anyone.training.config import Recipe
from animate_anyone.training.initial import start_at_identity
from animate_anyone.training.objective import part_of_step, weighted_square
from animate_anyone.training.stage import Stage, to_pixels
from animate_anyone.training.starting_folder import load_published


@dataclass(frozen=True, kw_only=True, eq=False)
class CropBatch(Batch):
    """Squares cut out of single frames, all of one side ``S``.

    Attributes:
        frames: ``(b, S, S, 3)`` uint8.
        masks: the person, ``(b, S, S)`` bool.
    """

    frames: Tensor
    masks: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class PairBatch(Batch):
    """Two frames of each of ``b`` characters, before plain backgrounds.

    Attributes:
        frames: ``(b, 2, H, W, 3)`` uint8.
    """

    frames: Tensor


@torch.no_grad()
def _tried(vae: AutoencoderKL, recipe: Recipe) -> AutoencoderKL:
    """The network itself; raises what it raises for settings with which it can be built and not used."""
    side = recipe.objective.crop or recipe.data.size
    vae.decode(vae.encode(torch.zeros(1, 3, side, side)).latent_dist.mean)
    return vae


def _start_quiet(vae: AutoencoderKL) -> None:
    """Begin with a posterior of small variance: else noise drowns the latents until training has shrunk it."""
    variance = slice(vae.config["latent_channels"], None)  # the second half: log variances
    with torch.no_grad():
        vae.quant_conv.weight[variance] = 0
        vae.quant_conv.bias[variance] = -6


_ANY_MASK = np.ones((2, 2), np.uint8)


def _crop_corner(mask: NDArray[np.uint8], side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Top and left of a square around a random pixel of the person, or of the frame one time in four.

    As much is drawn whatever the mask, but for one draw in 2**32 / ``mask.size`` that NumPy repeats.
    """
    person = np.flatnonzero(mask)
    anywhere = rng.random() < 0.25 or not len(person)
    pixel = rng.integers(mask.size) if anywhere else person[rng.integers(len(person))]
    row, column = np.unravel_index(pixel, mask.shape)
    limit = mask.shape[0] - side
    return int(np.clip(row - side // 2, 0, limit)), int(np.clip(column - side // 2, 0, limit))


class AutoencoderStage(Stage[CropBatch]):
    """Trains the VAE to rebuild single frames: absolute and squared error, mean colour, a KL term of small weight."""

    STREAM, record = 3, CropBatch

    def __init__(self, recipe: Recipe, progress: Progress = SILENT) -> None:
        super().__init__(recipe)
        if recipe.init_folder is not None:
            self.vae = load_published(AutoencoderKL, recipe.init_folder / "vae")
        else:
            self.vae = recipe.networks.build("vae", lambda **settings: _tried(AutoencoderKL(**settings), recipe))
            start_at_identity(self.vae)
            _start_quiet(self.vae)
        if recipe.gradient_checkpointing:
            self.vae.enable_gradient_checkpointing()
        self.make_clips(progress)

    def crop(self, step: int) -> int:
        """Side of what a step trains on, pixels: every fourth one takes whole frames."""
        crop = self.recipe.objective.crop
        return self.recipe.data.size if crop is None or step % 4 == 3 else crop

    def num_clips(self, step: int) -> int:
        """Of whole frames fewer, of about as many pixels: a whole number for every part of the step."""
        count, crop = super().num_clips(step), self.recipe.objective.crop
        return count if crop is None else max(1, count * crop**2 // self.crop(step) ** 2)

    def skip(self, rng: np.random.Generator) -> None:
        rng.integers(self.recipe.data.frames_per_clip)
        _crop_corner(_ANY_MASK, 1, rng)

    def row(self, clip: ClipArrays, rng: np.random.Generator, step: int) -> dict[str, NDArray]:
        frame, side = rng.integers(len(clip["frames"])), self.crop(step)
        top, left = _crop_corner(clip["masks"][frame], side, rng)
        cut = (frame, slice(top, top + side), slice(left, left + side))
        return {"frames": clip["frames"][cut], "masks": clip["masks"][cut].astype(bool)}

    def weights(self, batch: CropBatch) -> Tensor:
        """What an error counts, ``(b, 1, S, S)``."""
        return 1 + (self.recipe.objective.person_weight - 1) * batch.masks[:, None].float()

    def forward(self, batch: CropBatch, generator: torch.Generator) -> dict[str, Tensor]:
        pixels = to_pixels(batch.frames)
        posterior = self.vae.encode(pixels).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        noise = part_of_step(lambda n, g: torch.randn((n, *mean.shape[1:]), generator=g), len(mean), generator).to(mean)
        rebuilt = self.vae.decode(mean + noise * (0.5 * logvar).exp()).sample
        weight = self.weights(batch)
        mean_weight = weight.mean() if batch.mean_weight is None else batch.mean_weight
        absolute = ((rebuilt.float() - pixels).abs() * weight / mean_weight).mean()
        square = weighted_square(rebuilt, pixels, weight, mean_weight).mean()
        # Colour is learnt late if every pixel counts alike: the mean of each latent cell counts again.
        cells = F.avg_pool2d(rebuilt.float() - pixels, 8).square().mean()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = absolute + 2 * square + 4 * cells + self.recipe.objective.kl_weight * kl
        return {"loss": loss, "square": square, "cells": cells, "kl": kl}

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        some = torch.cat([self.batch(-1 - 4 * i, 0, 1).frames for i in range(4)])  # whole frames
        latents = self.vae.encode(to_pixels(some.to(self.vae.device))).latent_dist.mean
        self.vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 5))
        self.vae.save_pretrained(folder / "vae")


class ImageEncoderStage(Stage[PairBatch]):
    """Trains a small CLIP vision tower: two frames of a character lie close, those of others apart.

    (CLIP's own objective with a second picture in place of the text.) The others are those of the micro-batch: in this
    stage alone it matters how a step is cut. The background is replaced by plain random colours, or the encoder would
    look at nothing else.
    """

    STREAM, record = 4, PairBatch

    def __init__(self, recipe: Recipe, progress: Progress = SILENT) -> None:
        super().__init__(recipe)
        if recipe.init_folder is not None and not (recipe.init_folder / "vae").is_dir():
            raise InputError(f"{recipe.init}: has no vae/; train recipes/puppet_autoencoder.yaml first")
        self.encoder = recipe.networks.build(
            "image_encoder", lambda **settings: CLIPVisionModelWithProjection(CLIPVisionConfig(**settings))
        )
        if recipe.gradient_checkpointing:
            self.encoder.gradient_checkpointing_enable({"use_reentrant": False})
        self.make_clips(progress)

    @property
    def weighted(self) -> bool:
        """There is nothing to count: pictures are compared as wholes."""
        return False

    def skip(self, rng: np.random.Generator) -> None:
        self._draw(rng, self.recipe.data.frames_per_clip)

    def row(self, clip: ClipArrays, rng: np.random.Generator, step: int) -> dict[str, NDArray]:
        drawn = self._draw(rng, len(clip["frames"]))
        pictures = [np.where(clip["masks"][f][..., None], clip["frames"][f], colour) for f, colour in drawn]
        return {"frames": np.stack(pictures)}

    def _draw(self, rng: np.random.Generator, available: int) -> list[tuple[int, NDArray[np.uint8]]]:
        """Two frames of a clip, and a colour for the background of each."""
        chosen = rng.choice(available, 2, replace=False)
        return [(int(frame), rng.integers(0, 256, 3, np.uint8)) for frame in chosen]

    def forward(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        embeds = image_tokens(self.encoder, to_pixels(batch.frames).flatten(0, 1))[:, 0]
        first, second = F.normalize(embeds.float(), dim=-1).unflatten(0, (-1, 2)).unbind(1)
        logits = first @ second.T / self.recipe.objective.temperature
        same = torch.arange(len(logits), device=logits.device)
        loss = (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2
        return {"loss": loss, "found": (logits.argmax(1) == same).float().mean()}

    def save(self, folder: Path) -> None:
        self.encoder.save_pretrained(folder / "image_encoder")
        if self.recipe.init_folder is not None:
            shutil.copytree(self.recipe.init_folder / "vae", folder / "vae", dirs_exist_ok=True)
