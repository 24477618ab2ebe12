"""The timesteps of consistency distillation, and the jump of DDIM between any two of them.

Letters: the teacher takes N steps over T timesteps, the student K; a is the square root of ``alphas_cumprod`` and
b = sqrt(1 - a^2), so that noised latents are x = a z + b e.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from animate_anyone.errors import InputError

CLEAN = -1
"""The timestep of latents without noise."""


@dataclass(frozen=True)
class Grid:
    """A noise schedule cut into the teacher's steps, and those into the student's segments.

    Attributes:
        scheduler: the schedule; it predicts velocity or noise, its timesteps are ``trailing``.
        teacher_steps, steps: N and K; T is a multiple of N, and N of K.
    """

    scheduler: DDIMScheduler
    teacher_steps: int
    steps: int

    def __post_init__(self) -> None:
        """Raises :class:`InputError` where sampling would not go along these timesteps."""
        config, total = self.scheduler.config, self.total
        wanted = {"timestep_spacing": "trailing", "clip_sample": False, "thresholding": False}
        for name, value in wanted.items():
            if config[name] != value:
                raise InputError(
                    f"recipe: stage distil needs a noise schedule with {name} {value!r}, and the model's has "
                    f"{config[name]!r}; give one that its networks were trained with in networks.scheduler"
                )
        if total % self.teacher_steps:
            raise InputError(
                f"recipe: distil.teacher_steps is {self.teacher_steps}; it must divide the {total} timesteps of the "
                "model's noise schedule"
            )
        kind, ends_in_noise = config["prediction_type"], bool(config["rescale_betas_zero_snr"])
        if kind not in ("v_prediction", "epsilon") or (kind == "epsilon" and ends_in_noise):
            other = "'v_prediction'" if ends_in_noise else "'epsilon' or 'v_prediction'"
            raise InputError(f"recipe: stage distil needs prediction_type {other} of this noise schedule, not {kind!r}")

    @property
    def total(self) -> int:
        """T."""
        return int(self.scheduler.config["num_train_timesteps"])

    def at(self, timesteps: Tensor) -> Tensor:
        """The teacher's timestep of the step that goes over each of these, in [T/N - 1, T)."""
        width = self.total // self.teacher_steps
        return (timesteps // width + 1) * width - 1

    def before(self, timesteps: Tensor) -> Tensor:
        """Where the teacher's step from each of its timesteps ends; :data:`CLEAN` after the last."""
        return timesteps - self.total // self.teacher_steps

    def end(self, timesteps: Tensor) -> Tensor:
        """Where the segment of each of the teacher's timesteps ends: a timestep of the student, or :data:`CLEAN`."""
        width = self.total // self.steps
        return timesteps.div(width, rounding_mode="floor") * width - 1

    def jump(self, prediction: Tensor, noisy: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """A DDIM step: what a network's ``prediction`` at ``start`` makes of ``noisy`` at ``end``.

        With the estimates z of the clean latents and e of the noise that follow from the prediction, a' z + b' e, a'
        and b' at ``end`` (Song et al., Denoising diffusion implicit models, eq. 12 without noise). From a timestep to
        itself it is ``noisy``.

        Args:
            prediction, noisy: ``(b, k, c, h, w)``.
            start, end: ``(b, k)`` in [:data:`CLEAN`, T).
        """
        a, b = self._amounts(start)
        x, predicted = noisy.float(), prediction.float()
        if self.scheduler.config["prediction_type"] == "v_prediction":
            clean, noise = a * x - b * predicted, b * x + a * predicted
        else:
            clean, noise = (x - b * predicted) / a, predicted
        a, b = self._amounts(end)
        return a * clean + b * noise

    def _amounts(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """a and b, ``(b, k, 1, 1, 1)``."""
        signal = torch.cat([self.scheduler.final_alpha_cumprod.reshape(1), self.scheduler.alphas_cumprod])
        at = signal.to(timesteps.device)[timesteps + 1][:, :, None, None, None]
        return at.sqrt(), (1 - at).sqrt()
