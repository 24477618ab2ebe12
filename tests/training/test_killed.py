"""Killed at five random steps and resumed each time: the weights of a run that went through, to the bit."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from killed_runs import STEPS, settings
from small_recipes import log, same, tensors
from test_init_motion import start_folder

from animate_anyone.training.stages import run
from run_processes import run_module

KILLS = 5


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start_folder(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def straight(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, never killed."""
    output = tmp_path_factory.mktemp("straight")
    run(settings(output, start, 1))
    return output


def moments(seed: int, parts: int) -> list[tuple[int, int]]:
    """Steps and parts of them, at random, in their order."""
    rng = random.Random(seed)
    return [(step, rng.randrange(parts)) for step in sorted(rng.sample(range(1, STEPS), KILLS))]


def test_one_process(straight: Path, start: Path, tmp_path: Path) -> None:
    output = tmp_path / "killed"
    for step, part in moments(0, 2):
        run_module("killed_runs", tmp_path, 1, output, start, step, part)
        saved = output / "checkpoint/state.json"
        assert (json.loads(saved.read_text())["step"] if step > 1 else 0) == step - step % 2
    run_module("killed_runs", tmp_path, 1, output, start, -1, 0)
    assert same(tensors(output / "checkpoint"), tensors(straight / "checkpoint"))
    assert same(tensors(output / "model"), tensors(straight / "model"))
    measured = {name: log(output)[-1][name] for name in ("clips_per_second", "memory_gb")}
    assert log(output)[-1] == log(straight)[-1] | measured


def test_two_processes_then_one(straight: Path, start: Path, tmp_path: Path) -> None:
    """The first three kills are of two processes; then one goes on with the clips of both, and is killed too."""
    output = tmp_path / "killed"
    for number, (step, part) in enumerate(moments(1, 1)):
        run_module("killed_runs", tmp_path, 2 if number < 3 else 1, output, start, step, part)
    run_module("killed_runs", tmp_path, 1, output, start, -1, 0)
    assert same(tensors(output / "checkpoint"), tensors(straight / "checkpoint"))
    assert same(tensors(output / "model"), tensors(straight / "model"))
