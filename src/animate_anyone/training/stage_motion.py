"""Stage two (Animate Anyone, section 3.3): clips in a row, the temporal layers alone are trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.training.stage_image import ImageStage


class MotionStage(ImageStage):
    """Temporal layers, everything else as the image stage left it."""

    def _build(self, init: Path) -> None:
        if not (init / "denoising_unet").exists():
            raise InputError(f"{init}: has no denoising_unet/; train the image stage first")
        super()._build(init)
        if not self.denoising_unet.config["use_motion_module"]:
            self.denoising_unet = self.denoising_unet.with_motion()
        longest = self.denoising_unet.config["motion_max_seq_length"]
        if self.targets > longest:
            raise InputError(f"recipe: data.frames_per_clip is {self.targets}; the temporal layers take {longest}")

    def set_trainable(self) -> None:
        """The motion modules and nothing else."""
        self.requires_grad_(False)
        for parameter in self.denoising_unet.motion_parameters():
            parameter.requires_grad_(True)

    @property
    def targets(self) -> int:
        """All frames of the clip."""
        return self.recipe.data.frames_per_clip

    def choose_frames(self, rng: np.random.Generator, available: int) -> NDArray[np.int64]:
        """Any frame as the reference, then all of them in order."""
        return np.concatenate([rng.integers(available, size=1), np.arange(available)])

    @property
    def shares_noise(self) -> bool:
        """As the model samples: one noise for all frames or each its own."""
        return bool(self.options.get("shared_noise"))

    def timesteps(self, b: int, k: int, generator: torch.Generator) -> Tensor:
        """One for all frames of a clip: ``(b, k)``, equal along k."""
        return self.draw_timesteps((b, 1), generator).expand(b, k)

    def predict(self, noisy: Tensor, timesteps: Tensor, token: Tensor, pose: Tensor, keys_values: object) -> Tensor:
        """The denoising UNet on whole clips: ``(b, k, c, h, w)`` in and out."""
        out = self.denoising_unet(
            noisy.transpose(1, 2),
            timesteps[:, 0],
            token,
            pose,
            keys_values,  # type: ignore[arg-type]
        )
        return out.transpose(1, 2)
