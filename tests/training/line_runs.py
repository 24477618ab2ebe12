"""What four processes, as of two machines, do for test_distributed.py with the smallest stage there is.

    python line_runs.py OUTPUT

``OUTPUT/told_0.json`` to ``told_3.json`` say what each process saw.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parents[1]))

from test_loop import fit, optimizer, recipe
from test_never_lost import Broken, Signalled, StoppedError, stop

from animate_anyone.errors import InputError
from animate_anyone.training.distributed import device_mesh
from animate_anyone.training.loop import train
from run_processes import start_all

SETTINGS: dict[str, Any] = {"batch": 2, "ema": 0.9, "optimizer": optimizer(max_grad_norm=0.5, weight_decay=0.1)}


def work(rank: int, output: Path) -> None:
    """All that one of the four does."""
    os.environ["LOCAL_WORLD_SIZE"] = "2"
    told: dict[str, Any] = {}
    fit(output / "none", **SETTINGS)
    fit(output / "hsdp", sharding="hsdp", **SETTINGS)
    fit(output / "hsdp_accumulated", sharding="hsdp", accumulate=2, **SETTINGS)
    for before, after in (("fsdp", "none"), ("none", "hsdp"), ("hsdp", "fsdp")):
        fit(output / f"{before}_{after}", sharding=before, steps=3, **SETTINGS)
        fit(output / f"{before}_{after}", sharding=after, resume=True, **SETTINGS)
    import torch

    told["mesh"] = list(device_mesh("hsdp", torch.device("cpu")).shape)

    signal.signal(signal.SIGTERM, stop)
    for sharding in ("none", "fsdp"):
        made = recipe(output / f"stopped_{sharding}", sharding=sharding, **SETTINGS)
        stage = Signalled(made)
        stage.part = 2  # of the third process alone
        try:
            train(made, stage)
        except StoppedError as error:
            told[sharding] = error.args[0]

    made = recipe(output / "broken", **SETTINGS)
    broken = Broken(made)
    broken.parts = 4
    try:
        train(made, broken)
    except InputError as error:
        told["broken"] = str(error)
    (output / f"told_{rank}.json").write_text(json.dumps(told))


def main(output: Path) -> int:
    """All four, until they end; the exit status."""
    return start_all(4, work, output)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
