"""Named trade-offs: less is computed, and frames differ a little. All are off unless asked for.

What each gains and what it costs, measured: docs/sampling.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from animate_anyone.errors import InputError

GUIDED = 0.5
"""Share of the steps, from the first on, in which both halves under guidance are computed."""
FEWER, FEWEST = 2.5, 5
"""By how much the solver's steps are fewer, and how many it makes at least; of a model that samples in less it leaves
nothing out."""
NOISIEST, CLEANEST = 10.0, 10
"""The solver's steps are between this deviation of noise (the signal's is 1) and this timestep."""
DEEP_EVERY = 2
"""At every so many steps deep features are computed; between they are kept."""


@dataclass(frozen=True)
class Speed:
    """What is left out.

    Attributes:
        guidance: the unconditional half, in the last half of the steps: what guidance adds stays as it was.
        solver: most steps: DPM-Solver++ of second order (arXiv 2211.01095) needs 8 where DDIM needs 20.
        features: what the deep blocks of the denoising UNet give, in every other step.
        reference: of ReferenceNet's tokens on the finest grid, three of four: the mean of each 2x2 stands for them.
    """

    guidance: bool = False
    solver: bool = False
    features: bool = False
    reference: bool = False

    @classmethod
    def of(cls, words: str) -> Speed:
        """The trade-offs of a text such as ``guidance,solver``; ``all``, or ``exact`` for none.

        Raises:
            InputError: a word that is none of them.
        """
        names = [field.name for field in fields(cls)]
        asked = [word.strip() for word in words.split(",")]
        if asked == ["exact"]:
            return cls()
        if asked == ["all"]:
            asked = names
        for word in asked:
            if word not in names:
                raise InputError(f"speed {word!r} is not known; give exact, all, or some of {','.join(names)}")
        return cls(**dict.fromkeys(asked, True))

    def steps(self, steps: int) -> int:
        """How many steps are made in place of so many of DDIM."""
        return min(steps, max(FEWEST, math.ceil(steps / FEWER))) if self.solver else steps

    def scheduler(self, scheduler: DDIMScheduler, steps: int, device: torch.device) -> Any:
        """What to denoise with on the model's noise schedule, its timesteps set: :meth:`steps` of them."""
        if not self.solver or steps < FEWEST:
            scheduler.set_timesteps(steps, device=device)
            return scheduler
        solver = DPMSolverMultistepScheduler.from_config(
            scheduler.config, algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero"
        )
        solver.set_timesteps(timesteps=solver_timesteps(scheduler, steps), device=device)
        return solver

    def guided_steps(self, steps: int) -> int | None:
        """In how many of so many steps both halves are computed, the first ones; ``None``: in all."""
        return math.ceil(steps * GUIDED) if self.guidance else None

    @property
    def deep_every(self) -> int:
        """At every how many steps the whole network is computed."""
        return DEEP_EVERY if self.features else 1

    def seen(self, features: Mapping[str, Tensor], grid: tuple[int, int]) -> dict[str, Tensor]:
        """ReferenceNet's features, ``(R, tokens, channels)`` by layer, as they are to be attended to.

        Args:
            grid: height and width of the latents.
        """
        if not self.reference:
            return dict(features)
        most, (rows, columns) = max(x.shape[1] for x in features.values()), grid
        while rows * columns > most:  # the finest level with attention may be a coarser one
            rows, columns = math.ceil(rows / 2), math.ceil(columns / 2)
        return {name: _pooled(x, (rows, columns)) if x.shape[1] == most else x for name, x in features.items()}


EXACT = Speed()


def solver_timesteps(scheduler: DDIMScheduler, steps: int) -> list[int]:
    """The schedule's last timestep, then such as are spaced by Karras et al. (2022), equation 5 with rho = 7.

    Those lie between :data:`NOISIEST` and :data:`CLEANEST`, where the result is decided: above there is nothing to see
    but noise, which a model of zero terminal signal would be asked about for most of its steps.
    """
    kept = scheduler.alphas_cumprod.double().numpy()
    deviation = np.sqrt((1 - kept[:-1]) / kept[:-1])  # of noise, where the signal's is 1; it grows with the timestep
    first, last = min(NOISIEST, deviation[-1]) ** (1 / 7), deviation[CLEANEST] ** (1 / 7)
    wanted = np.linspace(first, last, steps - 1) ** 7
    below = {int(np.abs(np.log(deviation / one)).argmin()) for one in wanted}
    return [len(kept) - 1, *sorted(below, reverse=True)]


def _pooled(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    picture = tokens.transpose(1, 2).unflatten(2, grid)  # (R, channels, height, width)
    return F.avg_pool2d(picture, 2, ceil_mode=True, count_include_pad=False).flatten(2).transpose(1, 2).contiguous()
