"""Training for so many minutes, on a clock that the tests turn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file
from small_recipes import log, same, tensors
from test_loop import Points
from torch import Tensor, nn

import tiny
from animate_anyone.errors import InputError
from animate_anyone.progress import SILENT
from animate_anyone.training import timed_cache
from animate_anyone.training.clips import SHARD
from animate_anyone.training.config import Data, Optimizer, Recipe
from animate_anyone.training.loop import train
from animate_anyone.training.optimizer import learning_rate
from animate_anyone.training.stage import Stage
from animate_anyone.training.time_limit import TimeLimit, closing_line
from animate_anyone.training.timed_cache import clips_in_time
from conftest import REPOSITORY

STEP, SAVE = 2.0, 7.0  # seconds


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Slow(Stage[Points]):
    """One weight; steps and saves take their time."""

    def __init__(self, clock: Clock, save: float = SAVE) -> None:
        super().__init__(recipe(Path("unused")))
        self.clock, self.seconds, self.saves = clock, save, 0
        self.weight = nn.Parameter(torch.tensor([0.5]))

    def batch(self, step: int, part: int, parts: int) -> Points:
        return Points(x=torch.randn(4, generator=torch.Generator().manual_seed(step)))

    def forward(self, batch: Points, generator: torch.Generator) -> dict[str, Tensor]:
        self.clock.now += STEP
        return {"loss": (self.weight * batch.x - 1).square().mean()}

    def save(self, folder: Path) -> None:
        self.clock.now += self.seconds
        self.saves += 1
        save_file({"weight": self.weight.detach().clone()}, folder / "slow.safetensors")


def recipe(output: Path, **changes: Any) -> Recipe:
    options: dict[str, Any] = {"steps": 1000, "precision": "float32", "ema": 0.0, "checkpoint_every": 10_000}
    options["optimizer"] = Optimizer(lr=0.1, schedule="cosine")
    return Recipe(stage="autoencoder", output=str(output), **options | changes)


def test_it_ends_in_time_with_all_saved_and_goes_on(tmp_path: Path) -> None:
    clock, made = Clock(), recipe(tmp_path)
    limit, stage = TimeLimit(2, clock), Slow(clock)
    train(made, stage, limit=limit)
    assert limit.elapsed <= 120
    assert limit.elapsed > 120 - 1.5 * SAVE - 2 * STEP - 5  # and does not stop long before
    assert limit.done > 20 and not limit.at_end
    state = json.loads((tmp_path / "checkpoint/state.json").read_text())
    assert state["step"] == limit.done
    assert same(tensors(tmp_path / "model"), {"slow.safetensors:weight": stage.weight.detach()})
    report = (tmp_path / "report.md").read_text()
    assert f"- steps: {limit.done} in this call, {limit.done} in all; 1000 are planned" in report
    assert "- number type: float32" in report

    second, further = TimeLimit(1, clock), Slow(clock)
    train(made, further, resume=True, limit=second)
    assert second.first == limit.done < second.done
    assert second.elapsed <= 60
    assert not torch.equal(further.weight, stage.weight)


def test_a_run_in_leases_has_the_batches_of_one(tmp_path: Path) -> None:
    """Stopped by the clock and resumed: with a learning rate that the clock has no part in, the same weights."""
    constant = {"optimizer": Optimizer(lr=0.1), "steps": 50}
    clock = Clock()
    train(made := recipe(tmp_path / "leases", **constant), Slow(clock), limit=TimeLimit(1, clock))
    train(made, Slow(clock), resume=True, limit=TimeLimit(10, clock))
    whole = Slow(Clock())
    train(recipe(tmp_path / "whole", **constant), whole)
    assert same(tensors(tmp_path / "leases/model"), tensors(tmp_path / "whole/model"))


def test_saves_as_it_goes_but_not_for_long(tmp_path: Path) -> None:
    """The first after one step, then at intervals; a save that takes long comes seldom."""
    quick, slow = Clock(), Clock()
    stages = [Slow(quick, 0.1), Slow(slow, 40)]
    for clock, stage, name in zip((quick, slow), stages, "ab", strict=True):
        train(recipe(tmp_path / name), stage, limit=TimeLimit(10, clock))
        assert clock() - 100 <= 600
    assert stages[0].saves == 7
    assert stages[1].saves == 2


def test_the_learning_rate_comes_down_with_the_clock(tmp_path: Path) -> None:
    clock = Clock()
    train(recipe(tmp_path, log_every=1), Slow(clock), limit=TimeLimit(5, clock))
    rates = [line["lr"] for line in log(tmp_path)]
    assert rates[0] == pytest.approx(0.1)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.0105


def test_learning_rate_with_a_limit(tmp_path: Path) -> None:
    made = recipe(tmp_path, steps=100, optimizer=Optimizer(lr=1.0, schedule="cosine", warmup_steps=20))
    assert learning_rate(made, 99, first=0, used=0.0) == learning_rate(made, 99)  # the steps come to their end first
    assert learning_rate(made, 30, first=30, used=0.0) == learning_rate(made, 30)  # from where the recipe stands
    assert learning_rate(made, 31, first=30, used=1.0) == pytest.approx(0.1)
    assert learning_rate(made, 1, first=0, used=0.05) == pytest.approx(0.5, rel=0.02)  # warm-up: a tenth of the time
    assert learning_rate(made, 1, first=0, used=0.0) == pytest.approx(2 / 20)
    constant = recipe(tmp_path, optimizer=Optimizer(lr=1.0))
    assert learning_rate(constant, 5, first=0, used=0.9) == 1.0


def test_recipe_that_ends_before_its_time(tmp_path: Path) -> None:
    clock = Clock()
    limit = TimeLimit(10, clock)
    train(recipe(tmp_path, steps=3), Slow(clock), limit=limit)
    assert limit.at_end and limit.done == 3
    assert closing_line(tmp_path, 3, limit, ["x"]) == f"{tmp_path}: the model after 3 steps"


def test_no_time_at_all(tmp_path: Path) -> None:
    clock = Clock()
    limit = TimeLimit(1, clock)
    clock.now += 61
    train(recipe(tmp_path), stage := Slow(clock), limit=limit)
    assert stage.saves == limit.done == 0
    assert "before the first step; give more --minutes: x r.yaml --resume --minutes 1" in closing_line(
        tmp_path, 3, limit, ["x", "r.yaml"]
    )


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_minutes_that_are_none(minutes: float) -> None:
    with pytest.raises(InputError, match=r"--minutes is .*; it must be a number above 0"):
        TimeLimit(minutes)


CLIP = 0.5  # seconds to render one


def slow_clips(clock: Clock) -> type[Any]:
    """Clips of nothing that take their time; the cache is that of the studio's clips."""

    class Clips:
        def render(self, data: Data, number: int, device: str) -> dict[str, NDArray]:
            clock.now += CLIP
            return {"frames": np.full((1, 2, 2, 3), number, np.uint8)}

        def __init__(self, data: Data, seed: int, progress: Any = SILENT, *, scenes: bool) -> None:
            if data.cache is None:
                return
            for shard in range(-(-data.clips // SHARD)):
                folder = Path(str(data.cache)) / f"shard_{shard:05d}"
                if not folder.exists():
                    clock.now += CLIP * SHARD
                    folder.mkdir(parents=True)

    return Clips


@pytest.mark.parametrize(("minutes", "shards"), [(1, 0), (3, 1), (5, 2), (100, 5)])
def test_a_third_of_the_time_goes_into_the_cache(
    tmp_path: Path, minutes: float, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(timed_cache, "StudioClips", slow_clips(clock))
    made = recipe(tmp_path, data=Data(clips=5 * SHARD - 3, cache=str(tmp_path / "cache"), workers=1))
    limit = TimeLimit(minutes, clock)
    with limit.measured("rendering"):
        data = clips_in_time(made, limit, SILENT)
    assert limit.parts["rendering"] <= minutes * 20 + CLIP
    assert data.cache == (made.data.cache if shards else None)
    if shards:
        assert data.clips == min(made.data.clips, shards * SHARD)
    again = clips_in_time(made, TimeLimit(0.01, clock), SILENT)
    assert again.clips == data.clips and again.cache == data.cache


# As if these were not installed, for whoever imports them and for whoever asks.
BLOCKED = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *more):
        refused = ("av", "typer", "click", "rich", "mediapipe", "cv2", "rtmlib", "onnxruntime")
        return None if name.partition(".")[0] in refused else self.finder.find_spec(name, *more)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
import json, runpy
for line in sys.stdin:  # one command after the other, in one process: importing takes longest
    sys.argv = ["training", *json.loads(line)]
    try:
        runpy.run_module("animate_anyone.training", run_name="__main__", alter_sys=False)
    except SystemExit as end:
        print("exit status", end.code, flush=True)
        status = end.code
sys.exit(status)
"""


def type_in(process: subprocess.Popen[str], *arguments: str) -> None:
    """Begin the next command."""
    assert process.stdin is not None
    process.stdin.write(json.dumps(arguments) + "\n")
    process.stdin.flush()


def test_needs_no_package_beside_the_model_libraries(tmp_path: Path) -> None:
    """As a program of its own, in time, with files that are small; then further, until somebody stops it."""
    settings = {
        "stage": "autoencoder",
        "output": str(tmp_path / "run"),
        "steps": 2,
        "batch": 1,
        "networks": {"vae": tiny.VAE},
        "data": {"size": 32, "frames_per_clip": 1, "clips": 2, "supersample": 1},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    recipe_file, output = str(tmp_path / "recipe.yaml"), tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-c", BLOCKED], **streams, text=True, env=environment)  # type: ignore[call-overload]
    type_in(process, recipe_file, "--minutes", "10", "batch=1")
    told = [process.stdout.readline() for _ in range(2)]
    assert told == [f"{output / 'model'}: the model after 2 steps\n", "exit status 0\n"], process.communicate()
    assert (output / "report.md").is_file() and (output / "model/vae/config.json").is_file()
    before = tensors(output / "checkpoint")
    lines = len(log(output))
    type_in(process, recipe_file, "steps=1000000", "log_every=1", "checkpoint_every=1", "--resume")
    while process.poll() is None and (output / "log.jsonl").read_text().count("\n") < lines + 2:
        time.sleep(0.05)
    process.terminate()
    said, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert errors.splitlines()[-1] == "stopped; nothing half-written is left"
    assert said == f"exit status {128 + signal.SIGTERM:d}\n"
    assert {file.name for file in output.iterdir()} == {"log.jsonl", "report.md", "checkpoint", "model"}
    assert not same(before, tensors(output / "checkpoint"))


def test_mistakes_of_the_program(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from animate_anyone.training.__main__ import main

    for arguments in (["nothing.yaml"], [], ["a.yaml", "--minutes", "soon"], ["a.yaml", "--minutes", "0"], ["-x"]):
        assert main(arguments) == 2
        told = capsys.readouterr()
        assert told.err.startswith("error: ") and told.err.count("\n") == 1 and not told.out
