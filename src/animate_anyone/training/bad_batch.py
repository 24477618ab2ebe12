"""The batches of a step whose loss or gradient is not finite, kept to be looked at."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from animate_anyone.system.whole_files import whole_file
from animate_anyone.training.config import Recipe
from animate_anyone.training.stage import Stage

FOLDER = "not_finite"
"""In a run's output."""


@dataclass(frozen=True)
class BadStep:
    """A step that cannot be taken.

    Attributes:
        step: its number; so many were taken before it.
        losses: of the micro-batches of this process, by part.
        parts: of how many the step is made, on all processes together.
        norm: the gradient's norm over all of them.
        elsewhere: whether another process has a loss that is not finite.
    """

    step: int
    losses: dict[int, float]
    parts: int
    norm: float
    elsewhere: bool

    def save(self, stage: Stage[Any], recipe: Recipe) -> Path:
        """Write the micro-batches whose loss is not finite, or all where each is: it is the gradient that is not.

        Each is a safetensors file of the batch's tensors and beside it, as JSON, what it takes to compute it again.

        Returns:
            The last file, or the folder where nothing of this process is bad.
        """
        where = Path(recipe.output) / FOLDER
        where.mkdir(parents=True, exist_ok=True)
        bad = [part for part, loss in self.losses.items() if not math.isfinite(loss)]
        last = where
        for part in bad or (() if self.elsewhere else self.losses):
            last = where / f"step_{self.step}_part_{part}.safetensors"
            batch = stage.batch(self.step, part, self.parts)
            with whole_file(last) as file:
                save_file({name: tensor.cpu().contiguous() for name, tensor in batch.tensors().items()}, file)
            facts: dict[str, Any] = {"step": self.step, "part": part, "parts": self.parts, "seed": recipe.seed}
            facts |= {"loss": str(self.losses[part]), "grad_norm": str(self.norm), "recipe": recipe.to_dict()}
            with whole_file(last.with_suffix(".json")) as file:
                file.write_text(json.dumps(facts, indent=1))
        return last

    def told(self, file: Path, recipe: Recipe) -> str:
        """One line: what happened, where the batch is, what to try. ``file``: what :meth:`save` returned."""
        is_loss = self.elsewhere or not all(map(math.isfinite, self.losses.values()))
        line = f"step {self.step}: the {'loss' if is_loss else 'gradient'} is not finite; the batch is in {file}; "
        if self.step:
            line += f"{recipe.output} holds what was trained before this step: start from its model with "
        return line + "a lower optimizer.lr or precision=float32, or without the clips of this batch"
