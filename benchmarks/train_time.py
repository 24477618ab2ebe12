"""The time that `train --check` foretells held against real steps on the CPU.

python benchmarks/train_time.py        a few minutes

One thread, in seconds of the processor, so that other work on the machine counts for little.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from machine import add_output, describe, table, write
from train_memory import recipe_of, start_folder

from animate_anyone.training import step_time
from animate_anyone.training.config import Recipe
from animate_anyone.training.loop import _Run
from animate_anyone.training.stage_kinds import STAGES
from animate_anyone.training.step_memory import WithoutClips, blank_batch, step_memory

CPU = torch.device("cpu")
# Stage, side of the frames, clips a step, micro-batches, frames in a row, checkpointing.
CASES: list[tuple[str, int, int, int, int, bool]] = [
    ("image", 256, 2, 1, 1, False),
    ("image", 256, 2, 1, 1, True),
    ("motion", 192, 1, 1, 8, False),
    ("motion", 192, 1, 1, 8, True),
]
STEPS = 2


def measure(recipe: Recipe) -> float:
    """Seconds of a step of the training loop, the mean of :data:`STEPS` after a first."""
    kind = STAGES[recipe.stage]

    class Blank(WithoutClips, kind):  # type: ignore[valid-type, misc]
        renderers = 0

        def batch(self, step: int, part: int, parts: int) -> Any:
            return blank_batch(self, CPU, nullcontext())

    run = _Run(replace(recipe, steps=1 + STEPS), Blank(recipe), None, None)
    run.begin(False)
    with run.batches() as batches:
        run.step(0, batches)
        began = time.process_time()
        for step in range(1, 1 + STEPS):
            run.step(step, batches)
    return (time.process_time() - began) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_output(parser, "train_time.md")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    step_time.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[assignment]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        init = start_folder(Path(folder) / "start")
        for case in CASES:
            for precision in ("float32", "bfloat16"):
                recipe: Recipe = replace(recipe_of(case, init), precision=precision)  # type: ignore[arg-type]
                needs = step_memory(recipe, CPU)
                rate = step_time.measure_rate(needs.levels, needs.samples, precision, CPU)
                told, found = needs.flops.total / rate, measure(recipe)
                stage, side, batch, _, frames, spared = case
                name = f"{stage}, {side}x{side}, {batch} clips, {frames} frames{', checkpointing' if spared else ''}"
                figures = (f"{rate / 1e9:.1f}", f"{told:.2f}", f"{found:.2f}", f"{found / told:.2f}")
                rows.append([f"{name}, {precision}", f"{needs.flops.total / 1e12:.3f}", *figures])
                print(rows[-1], file=sys.stderr, flush=True)
    write(
        asked.output,
        "Training time: measured beside foretold",
        "`TFLOP`: of a step; `GFLOP/s`: of blocks of the same widths; `foretold`: their quotient, seconds; "
        "`measured`: a step. Seconds of the processor, one thread, as other work ran beside it. `--check` gives the "
        f"foretold time over and times {step_time.SLACK:g}.",
        table(["case", "TFLOP", "GFLOP/s", "foretold", "measured", "ratio"], rows),
        f"Machine: {describe()}.",
    )


if __name__ == "__main__":
    main()
