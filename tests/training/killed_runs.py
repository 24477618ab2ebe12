"""A run of processes that end by SIGKILL in the midst of a step, for test_killed.py.

    python killed_runs.py PROCESSES OUTPUT START STEP PART

It goes on where it was. In step ``STEP`` each process is killed as it begins its micro-batch ``PART``; in step -1,
which never comes, none is.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parents[1]))

import torch
from paper_runs import paper
from torch import Tensor

from animate_anyone.training.objective import step_generator
from animate_anyone.training.stage_image import ImageBatch, ImageStage
from animate_anyone.training.stages import run
from run_processes import start_all

STEPS = 8
KILLED = -signal.SIGKILL


def settings(output: Path, start: Path, processes: int) -> Any:
    """The run: steps of four clips in two parts, a checkpoint after every other.

    Two parts have one sum whoever adds them; of more, processes add some first, which rounds otherwise.
    """
    changes = {"steps": STEPS, "checkpoint_every": 2, "batch": 4 // processes, "accumulate": 2 // processes}
    return paper("aa1_stage1", output, start, start, **changes)


def work(rank: int, processes: int, output: Path, start: Path, step: int, part: int) -> None:
    """All that one process does."""
    made = settings(output, start, processes)
    forward, seen = ImageStage.forward, [0]

    def killed(stage: ImageStage, batch: ImageBatch, generator: torch.Generator) -> dict[str, Tensor]:
        if generator.initial_seed() == step_generator(made.seed, step).initial_seed():
            if seen[0] == part:
                os.kill(os.getpid(), signal.SIGKILL)
            seen[0] += 1
        return forward(stage, batch, generator)

    if step >= 0:
        ImageStage.forward = killed  # type: ignore[method-assign]
    run(made, resume=True)


def main(processes: str, output: Path, start: Path, step: str, part: str) -> int:
    """All of them, until they end; 0 where they ended as they should."""
    given = Path(output), Path(start), int(step), int(part)
    status = start_all(int(processes), work, int(processes), *given)
    return int(status != (0 if int(step) < 0 else signal.SIGKILL))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))  # type: ignore[arg-type]
