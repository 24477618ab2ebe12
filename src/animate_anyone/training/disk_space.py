"""Whether what a training run will write has room where it is written."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from animate_anyone.errors import InputError
from animate_anyone.sampling.memory import readable
from animate_anyone.training.checkpoint import checkpoints
from animate_anyone.training.config import Recipe
from animate_anyone.training.optimizer import MOMENTS
from animate_anyone.training.stage import Stage


@dataclass(frozen=True)
class Written:
    """What a run writes, in bytes.

    Attributes:
        checkpoint: a checkpoint: trained weights, their moving average, the optimiser's moments, ``Stage.moving``.
        model: the resulting model.
    """

    checkpoint: int
    model: int

    @classmethod
    def of(cls, recipe: Recipe, stage: Stage[Any]) -> Written:
        """From the shapes of a stage's networks."""
        trained = sum(p.numel() for p in stage.parameters() if p.requires_grad)
        unsaved = [stage.get_submodule(name) for name in stage.UNSAVED if getattr(stage, name) is not None]
        every, left_out = (
            sum(t.numel() for part in parts for t in (*part.parameters(), *part.buffers()))
            for parts in ([stage], unsaved)
        )
        moving = sum(t.numel() * t.element_size() for t in stage.moving().values())
        bytes_each = 4 + MOMENTS[recipe.optimizer.kind] + (4 if recipe.ema else 0)
        return cls(
            round(bytes_each * trained) + moving, (every - left_out) * (2 if recipe.save_dtype == "float16" else 4)
        )

    def check(self, recipe: Recipe, done: int) -> None:
        """See before training that all of a run's files have room.

        What replaces a file is written beside it first.

        Raises:
            InputError: they have not.
        """
        output = Path(recipe.output)
        saves = -(-(recipe.steps - done) // recipe.checkpoint_every)
        there = len(checkpoints(output))
        need = self.checkpoint * max(0, min(recipe.keep_checkpoints, there + saves) - there)
        need += 0 if (output / "model").exists() else self.model
        need += max(self.checkpoint, self.model) if saves > 1 or there else 0
        free = free_bytes(output)
        if need > free:
            raise InputError(
                f"output {output}: checkpoints ({readable(self.checkpoint)} each) and the model "
                f"({readable(self.model)}) need {readable(need)}, {readable(free)} are free; make room, or give "
                "another output=FOLDER or fewer keep_checkpoints"
            )

    def shortage(self, output: Path) -> str | None:
        """What to say where the next checkpoint and model have no room now; ``None`` where they have."""
        both = (output / "checkpoint").exists() and (output / "model").exists()
        need = max(self.checkpoint, self.model) if both else self.checkpoint + self.model
        free = free_bytes(output)
        if need <= free:
            return None
        return f"output {output}: no room for a checkpoint: {readable(need)} are needed, {readable(free)} are free"


def free_bytes(folder: Path) -> int:
    """What is free for this user where a folder is, or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(os.fspath(folder)).free
