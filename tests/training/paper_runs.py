"""What the two processes of test_distributed.py do: the recipes of paper size, with small networks.

    python paper_runs.py OUTPUT START FIRST

``START`` holds Stable Diffusion's parts, ``FIRST`` a model of stage one.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parents[1]))

from test_paper_size import SMALL, recipe

from animate_anyone.training.config import Recipe
from animate_anyone.training.stages import run
from run_processes import start_all

NAMES = ("aa1_stage1", "aa1_stage2", "aa2", "aa1_distil")
COMMON: dict[str, Any] = SMALL | {"steps": 3, "ema": 0.5, "accumulate": 1, "save_dtype": "float32"}
COMMON |= {"data.clips": 8, "data.size": 32, "data.frames_per_clip": 4}
COMMON |= {"optimizer.lr": 1e-3, "optimizer.max_grad_norm": 0.1, "objective.condition_dropout": 0.4}
OF_RECIPE: dict[str, dict[str, Any]] = {
    "aa1_stage1": {"accumulate": 2},
    "aa1_stage2": {"gradient_checkpointing": True},
    "aa2": {"environment.modulation": {"num_attention_heads": 2}, "objective.person_weight": 3.0},
    "aa1_distil": {"data.consecutive": False, "objective.person_weight": 3.0},  # of stage one's model
}


def paper(name: str, output: Path, start: Path, first: Path, **changes: Any) -> Recipe:
    """A recipe of paper size, small; steps of four clips."""
    init = first if name in ("aa1_stage2", "aa1_distil") else start
    settings = {**COMMON, "batch": 4, "init": str(init), **OF_RECIPE[name], **changes}
    return recipe(name, output=str(output), **settings)


def adapted(first: Path) -> dict[str, Any]:
    """Settings with which stage one trains adapters on a model."""
    return {"init": str(first), "lora": {"rank": 2}}


def work(rank: int, output: Path, start: Path, first: Path) -> None:
    """All that one of the two does."""
    for sharding in ("none", "fsdp"):
        for name in NAMES:
            run(paper(name, output / sharding / name, start, first, batch=2, sharding=sharding))
    for steps in (2, 3):  # stopped and resumed
        changed = {"batch": 2, "steps": steps, "sharding": "fsdp"}
        run(paper("aa1_stage2", output / "resumed", start, first, **changed), resume=steps == 3)
    if find_spec("peft"):
        run(paper("aa1_stage1", output / "lora", start, first, batch=2, sharding="fsdp", **adapted(first)))
    changed = {"batch": 2, "steps": 2, "sharding": "fsdp", "save_dtype": "float16"}
    run(paper("aa1_stage2", output / "fsdp_one", start, first, **changed))


def main(output: Path, start: Path, first: Path) -> int:
    """Both, until they end; the exit status."""
    return start_all(2, work, output, start, first)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
