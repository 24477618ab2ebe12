"""What a recipe says of consistency distillation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from animate_anyone.errors import InputError


@dataclass(frozen=True)
class Distil:
    """Consistency distillation, see ``stage_distil``.

    Attributes:
        steps: denoising steps that the student learns to sample in; the noise schedule is cut into so many segments.
        teacher_steps: DDIM steps over the whole schedule whose result it learns; a multiple of ``steps``.
        guidance: the teacher's weight of classifier-free guidance; ``None``: its model's own; 1: none. The student
            samples without.
        target_ema: decay, a step, of the moving average of the student that gives its targets; 0: the student itself.
    """

    steps: int = 4
    teacher_steps: int = 20
    guidance: float | None = None
    target_ema: float = 0.95

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"recipe: distil.steps is {self.steps}; it must be at least 1")
        if self.teacher_steps < self.steps or self.teacher_steps % self.steps:
            raise InputError(
                f"recipe: distil.teacher_steps is {self.teacher_steps}; it must be a multiple of distil.steps, "
                f"{self.steps}"
            )
        if self.guidance is not None and not math.isfinite(self.guidance):
            raise InputError(f"recipe: distil.guidance is {self.guidance}; give a finite number, 1 for none")
        if not 0 <= self.target_ema < 1:
            raise InputError(f"recipe: distil.target_ema is {self.target_ema}; it must lie in [0, 1)")

    def check_beside(self, min_snr_gamma: float | None, pipeline: Mapping[str, Any], adapters: bool) -> None:
        """Hold these beside other settings of the recipe; raises :class:`InputError` where two do not go together.

        Args:
            min_snr_gamma: of the objective. pipeline: options of the resulting model. adapters: are trained alone.
        """
        if min_snr_gamma is not None:
            raise InputError(
                f"recipe: objective.min_snr_gamma is {min_snr_gamma}; stage distil has no such weights; give "
                "objective.min_snr_gamma=null"
            )
        for name, instead in (("num_inference_steps", "distil.steps"), ("guidance_scale", "distil.guidance")):
            if name in pipeline:
                raise InputError(f"recipe: networks.pipeline.{name}: stage distil sets it itself; give {instead}")
        if adapters and self.target_ema:
            raise InputError(
                f"recipe: distil.target_ema is {self.target_ema}, and adapters have no moving average; give "
                "distil.target_ema=0 with lora"
            )
