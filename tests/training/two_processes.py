"""What the two processes of a run do for test_cut_steps.py, all in one start, for that is what takes long.

    python two_processes.py OUTPUT START

``START`` holds a VAE and an image encoder. ``OUTPUT/told_0.json`` and ``told_1.json`` say what each process saw.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parents[1]))

import torch
from test_cut_steps import CHANGES, image
from test_loop import Line, fit, recipe
from torch.distributed import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn import parallel

from animate_anyone.errors import InputError
from animate_anyone.training import loop
from animate_anyone.training.loop import train
from animate_anyone.training.stages import run
from animate_anyone.training.time_limit import TimeLimit
from run_processes import start_all

reductions = [0]


class Counted(parallel.DistributedDataParallel):
    """It counts how often gradients are summed up over the processes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_comm_hook(None, _count)


def _count(state: None, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    reductions[0] += bucket.is_last()
    return allreduce_hook(None, bucket)  # type: ignore[arg-type]  # None: the group of all


class Clock:
    """So many seconds pass whenever it is looked at."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now = seconds, 0.0

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now


def late(function: Callable[..., None]) -> Callable[..., None]:
    """The function, half a second after it is called."""

    def called(*args: Any) -> None:
        time.sleep(0.5)
        function(*args)

    return called


def work(rank: int, output: Path, start: Path) -> None:
    """All that one of the two does."""
    told: dict[str, Any] = {}

    # Stopped after one step and resumed, cut otherwise; the clips come from a cache that both fill. Latents, which it
    # would keep in half precision, are encoded in the step, as in the run that this one is compared with.
    # The first is late with what it writes: the other must not go on before.
    if rank == 0:
        loop.save_checkpoint = late(loop.save_checkpoint)
    cut = {"batch": CHANGES["batch"] // 2, "data__cache": str(output / "clips"), "data__keep_latents": False}
    run(image(output / "image", start, **cut, accumulate=2, steps=1))
    run(image(output / "image", start, **cut), resume=True)

    parallel.DistributedDataParallel = Counted
    told["weight"] = fit(output / "line", batch=4, accumulate=2).weight.tolist()
    told["reductions"] = reductions[0]

    # Time is up by the clock of the first alone; that of the other is far behind.
    made = recipe(output / "limit", steps=1000, batch=4, accumulate=2)
    limit = TimeLimit(2, Clock(1.0 if rank == 0 else 1e-3), began=0)
    train(made, Line(made), limit=limit)
    told["done"] = limit.done

    # Only the first sees what was saved.
    made = recipe(output / ("limit" if rank == 0 else "nothing"), steps=1000, batch=4, accumulate=2)
    try:
        train(made, Line(made), resume=True)
    except InputError as error:
        told["apart"] = str(error)
    (output / f"told_{rank}.json").write_text(json.dumps(told))


def main(output: Path, start: Path) -> int:
    """Both, until they end; the exit status."""
    return start_all(2, work, output, start)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
