"""What a training run keeps when it is stopped, cut, out of room or out of numbers."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from small_recipes import log, same, tensors
from test_loop import Line, Points, fit, optimizer, recipe
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.system.signals import SIGNALS
from animate_anyone.training import held_signals
from animate_anyone.training.checkpoint import as_it_began, checkpoints, last_checkpoint
from animate_anyone.training.held_signals import HeldSignals
from animate_anyone.training.loop import train
from animate_anyone.training.prefetching import Batches


class StoppedError(Exception):
    """What a signal comes to in these tests."""


def stop(number: int, frame: object) -> None:
    """The handler of a signal."""
    raise StoppedError(number)


@pytest.fixture
def stopping() -> Iterator[None]:
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Signalled(Line):
    """A line, and a signal in step ``at``, at the beginning of micro-batch ``part``."""

    number, at, part = signal.SIGTERM, 3, 0

    def forward(self, batch: Points, generator: torch.Generator) -> dict[str, Tensor]:
        if (generator.initial_seed(), generator.part) == (self.seed_of_step, self.part):  # type: ignore[attr-defined]
            os.kill(os.getpid(), self.number)
        return super().forward(batch, generator)

    @property
    def seed_of_step(self) -> int:
        from animate_anyone.training.objective import step_generator

        return step_generator(self.recipe.seed, self.at).initial_seed()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(("accumulate", "done"), [(1, 4), (2, 3)])
def test_a_signal_saves_a_checkpoint_first(
    tmp_path: Path, stopping: None, number: int, accumulate: int, done: int
) -> None:
    """Of the step in which it comes or, before the step's last micro-batch, of the one before; nothing is lost."""
    changes: dict[str, Any] = {"accumulate": accumulate, "ema": 0.9, "optimizer": optimizer()}
    fit(tmp_path / "straight", noise=1.0, **changes)
    made = recipe(tmp_path / "cut", **changes)
    stage = Signalled(made, 1.0)
    stage.number = signal.Signals(number)
    with pytest.raises(StoppedError, match=str(number)):
        train(made, stage)
    assert json.loads((tmp_path / "cut/checkpoint/state.json").read_text())["step"] == done
    assert fit(tmp_path / "cut", noise=1.0, resume=True, **changes).asked[0] == (done, 0, accumulate)
    assert same(tensors(tmp_path / "cut"), tensors(tmp_path / "straight"))
    assert [(line["step"], line["loss"]) for line in log(tmp_path / "cut")] == [
        (line["step"], line["loss"]) for line in log(tmp_path / "straight")
    ]


def test_a_signal_that_ends_who_makes_batches_too(
    tmp_path: Path, stopping: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(batches: Batches) -> Points:
        if made.asked and made.asked[-1][0] >= 3:
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("a worker was killed")
        return next(batches._made)  # type: ignore[return-value]

    monkeypatch.setattr(Batches, "__next__", broken)
    made = Line(recipe(tmp_path, optimizer=optimizer()))
    with pytest.raises(StoppedError):
        train(made.recipe, made)
    assert last_checkpoint(tmp_path) is not None


def test_signals_have_their_effect_again(stopping: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that follow at once are the same, as torchrun passes on what came already; one much later counts."""
    with pytest.raises(StoppedError), HeldSignals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(StoppedError):
        os.kill(os.getpid(), signal.SIGINT)
    monkeypatch.setattr(held_signals, "PATIENCE", -1.0)
    reached = False
    with pytest.raises(StoppedError), HeldSignals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        reached = True
    assert not reached


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with HeldSignals() as held:
            os.kill(os.getpid(), signal.SIGHUP)
            assert held.asked is None
    finally:
        signal.signal(signal.SIGHUP, before)


def told(output: Path) -> dict[str, Any]:
    """What the last checkpoint says of itself."""
    last = last_checkpoint(output)
    assert last is not None
    return dict(json.loads((last / "state.json").read_text()))


def of_two_processes(output: Path) -> None:
    """Make the checkpoint that of a run of two."""
    file = output / "checkpoint/state.json"
    state = told(output)
    state["processes"] = 2
    state["recipe"]["batch"] //= 2
    file.write_text(json.dumps(state))


@pytest.mark.parametrize(
    ("batch", "accumulate", "processes", "cut"),
    [(4, 1, 1, (8, 2)), (4, 2, 1, (8, 4)), (4, 1, 2, (4, 1)), (4, 1, 4, (2, 1)), (4, 4, 8, (1, 1)), (8, 2, 1, (8, 2))],
)
def test_another_number_of_processes_cuts_the_same_steps(
    tmp_path: Path, batch: int, accumulate: int, processes: int, cut: tuple[int, int]
) -> None:
    fit(tmp_path, steps=2)
    of_two_processes(tmp_path)
    given = recipe(tmp_path, batch=batch, accumulate=accumulate)
    goes_on = as_it_began(given, tmp_path / "checkpoint", processes)
    assert (goes_on.batch, goes_on.accumulate) == cut


def test_what_cannot_be_shared_out_is_refused(tmp_path: Path) -> None:
    fit(tmp_path, steps=2)
    of_two_processes(tmp_path)
    with pytest.raises(
        InputError, match=r"steps are of 8 clips, which 3 processes cannot share out equally; start a num"
    ):
        as_it_began(recipe(tmp_path, batch=4), tmp_path / "checkpoint", 3)
    with pytest.raises(InputError, match=r"another batch than the recipe has: 8 clips a step; give batch=8 or another"):
        fit(tmp_path, batch=6, resume=True)


def test_from_two_processes_to_one_the_weights_are_the_same(tmp_path: Path) -> None:
    """Two micro-batches on one process are those of two processes."""
    fit(tmp_path / "straight", noise=1.0, accumulate=2)
    fit(tmp_path / "cut", noise=1.0, accumulate=2, steps=3)
    of_two_processes(tmp_path / "cut")
    given = recipe(tmp_path / "cut", batch=4, optimizer=optimizer())
    goes_on = as_it_began(given, tmp_path / "cut/checkpoint", 1)
    stage = Line(goes_on, 1.0)
    train(goes_on, stage, resume=True)
    assert stage.asked[0] == (3, 0, 2)
    straight = tensors(tmp_path / "straight/checkpoint")
    assert same(tensors(tmp_path / "cut/checkpoint"), straight)
    assert told(tmp_path / "cut")["recipe"]["batch"] == 8


def test_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-9.partial").mkdir()  # left by a process that was killed
    fit(tmp_path, keep_checkpoints=3, checkpoint_every=1)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["checkpoint-6", "checkpoint-5", "checkpoint-4"]
    assert not list(tmp_path.glob("*.partial"))
    fit(tmp_path, steps=7, resume=True)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["checkpoint"]


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.pt", "state.json"])
def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    fit(tmp_path / "straight", noise=1.0)
    fit(tmp_path / "cut", noise=1.0, steps=5, keep_checkpoints=2, checkpoint_every=2)
    assert [folder.name for folder in checkpoints(tmp_path / "cut")] == ["checkpoint-5", "checkpoint-4"]
    (tmp_path / "cut/checkpoint-5" / name).write_bytes(b"")
    assert fit(tmp_path / "cut", noise=1.0, resume=True).asked[0] == (4, 0, 1)
    assert same(tensors(tmp_path / "cut/model"), tensors(tmp_path / "straight/model"))
    assert name == "state.json" or "checkpoint-5: not a whole checkpoint" in caplog.text


class Usage(NamedTuple):
    """As the system has it."""

    total: int
    used: int
    free: int


def free(monkeypatch: pytest.MonkeyPatch, *sizes: int) -> None:
    """So many bytes are free, one time after the other, the last for ever."""
    left = list(sizes)

    def usage(folder: str) -> Usage:
        return Usage(0, 0, left.pop(0) if len(left) > 1 else left[0])

    monkeypatch.setattr(shutil, "disk_usage", usage)


def test_a_full_disk_is_told_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trained weights: a checkpoint of 24 bytes; four in all: a model of 16."""
    free(monkeypatch, 39)
    made = Line(recipe(tmp_path, optimizer=optimizer()))
    with pytest.raises(InputError, match=r"need .* are free; make room, or give another output=FOLDER or fewer keep"):
        train(made.recipe, made)
    assert made.asked == [] and last_checkpoint(tmp_path) is None
    free(monkeypatch, 40)
    fit(tmp_path)
    other = replace(
        made.recipe, steps=8, checkpoint_every=1, keep_checkpoints=3
    )  # two more checkpoints, one of them new
    free(monkeypatch, 71)
    with pytest.raises(InputError, match="make room"):
        train(other, Line(other), resume=True)
    free(monkeypatch, 72)
    train(other, Line(other), resume=True)


def test_without_room_training_goes_on_and_saves_when_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free(monkeypatch, 1000, 39, 39, 40, 0)  # before training; steps 2 and 3; step 4; never asked at the end
    saved: list[int] = []
    made = recipe(tmp_path, optimizer=optimizer(), checkpoint_every=2, steps=5)
    train(made, Line(made), after_checkpoint=saved.append)
    assert saved == [4, 5]
    assert caplog.text.count("no room for a checkpoint") == 2


class Broken(Line):
    """Its loss, or its gradient alone, is not finite in the second part of step 3."""

    gradient, parts = False, 2

    def forward(self, batch: Points, generator: torch.Generator) -> dict[str, Tensor]:
        losses = super().forward(batch, generator)
        wanted = self.asked_points(3, 1)
        if len(batch.x) == len(wanted) and torch.equal(batch.x, wanted):
            factor = torch.sqrt(self.weight.sum() * 0.0) if self.gradient else torch.tensor(float("nan"))
            losses["loss"] = losses["loss"] + factor
        return losses

    def asked_points(self, step: int, part: int) -> Tensor:
        return Line.batch(self, step, part, self.parts).x


@pytest.mark.parametrize("gradient", [False, True])
def test_what_is_not_finite_stops_the_run_with_the_batch_saved(tmp_path: Path, gradient: bool) -> None:
    made = recipe(tmp_path / "cut", accumulate=2, optimizer=optimizer())
    stage = Broken(made)
    stage.gradient = gradient
    file = tmp_path / "cut/not_finite/step_3_part_1.safetensors"
    what = "gradient" if gradient else "loss"
    with pytest.raises(
        InputError, match=rf"step 3: the {what} is not finite; the batch is in {file}; .*lower optimizer"
    ):
        train(made, stage)
    assert torch.equal(load_file(file)["x"], stage.asked_points(3, 1))
    facts = json.loads(file.with_suffix(".json").read_text())
    assert {name: facts[name] for name in ("step", "part", "parts", "seed")} == {
        "step": 3,
        "part": 1,
        "parts": 2,
        "seed": 0,
    }
    assert facts["recipe"]["batch"] == 8
    assert len(list(file.parent.glob("*.safetensors"))) == (2 if gradient else 1)  # which gradient it is, nobody knows
    before = fit(tmp_path / "whole", accumulate=2, steps=3).weight
    assert torch.equal(load_file(tmp_path / "cut/checkpoint/weights.safetensors")["weight"], before.detach())
    assert torch.equal(load_file(tmp_path / "cut/model/line.safetensors")["weight"], before.detach())
