"""The training loop with the smallest stage there is: a line through points."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_recipes import log, same, tensors
from torch import Tensor, nn

from animate_anyone.errors import InputError
from animate_anyone.training.batch import Batch
from animate_anyone.training.checkpoint import last_checkpoint, whole_folder
from animate_anyone.training.config import Data, Objective, Optimizer, Recipe
from animate_anyone.training.loop import train
from animate_anyone.training.optimizer import learning_rate
from animate_anyone.training.stage import Stage

POINTS = 8


@dataclass(frozen=True, kw_only=True)
class Points(Batch):
    """``x``: ``(b, ...)``."""

    x: Tensor


class Line(Stage[Points]):
    """y = weight * x; the frozen offset stands for networks that do not train."""

    def __init__(self, recipe: Recipe, noise: float = 0.0) -> None:
        super().__init__(recipe)
        self.noise = noise
        self.weight = nn.Parameter(torch.tensor([0.5, -1.0]))
        self.offset = nn.Parameter(torch.tensor([3.0, 3.0]), requires_grad=False)
        self.asked: list[tuple[int, int, int]] = []

    def batch(self, step: int, part: int, parts: int) -> Points:
        self.asked.append((step, part, parts))
        points = torch.randn(POINTS, 2, generator=torch.Generator().manual_seed(step))
        return Points(x=points.chunk(parts)[part])

    def forward(self, batch: Points, generator: torch.Generator) -> dict[str, Tensor]:
        noise = self.noise * torch.randn(batch.x.shape, generator=generator)
        error = (batch.x + noise) * self.weight + self.offset - 4 * batch.x
        return {"loss": error.square().mean(), "offset": error.mean()}

    def save(self, folder: Path) -> None:
        save_file({"weight": self.weight.detach().clone()}, folder / "line.safetensors")


def recipe(output: Path, **changes: Any) -> Recipe:
    options: dict[str, Any] = {"steps": 6, "batch": 8, "precision": "float32", "ema": 0.0, "log_every": 1}
    return Recipe(stage="autoencoder", output=str(output), **{**options, **changes})


def optimizer(**changes: Any) -> Optimizer:
    return Optimizer(**{"lr": 0.1, "weight_decay": 0.0, "max_grad_norm": 1e9, **changes})


def fit(output: Path, *, noise: float = 0.0, resume: bool = False, **changes: Any) -> Line:
    made = recipe(output, **{"optimizer": optimizer(), **changes})
    stage = Line(made, noise)
    train(made, stage, resume=resume)
    return stage


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_steps_are_whole_steps(tmp_path: Path, accumulate: int) -> None:
    whole, parts = fit(tmp_path / "1"), fit(tmp_path / "2", accumulate=accumulate)
    torch.testing.assert_close(parts.weight, whole.weight, rtol=1e-6, atol=1e-6)
    for one, other in zip(log(tmp_path / "1"), log(tmp_path / "2"), strict=True):
        for name in ("loss", "offset", "grad_norm"):
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-4)
    assert parts.asked == [(step, part, accumulate) for step in range(6) for part in range(accumulate)]


def test_it_is_adamw(tmp_path: Path) -> None:
    settings = optimizer(weight_decay=0.1, max_grad_norm=0.5, warmup_steps=2, schedule="cosine")
    trained = fit(tmp_path, optimizer=settings)
    by_hand = Line(recipe(tmp_path))
    adam = torch.optim.AdamW([by_hand.weight], lr=0.1, betas=(0.9, 0.99), weight_decay=0.1)
    for step in range(6):
        by_hand(by_hand.batch(step, 0, 1), torch.Generator())["loss"].backward()
        nn.utils.clip_grad_norm_([by_hand.weight], 0.5)
        adam.param_groups[0]["lr"] = learning_rate(trained.recipe, step)
        adam.step()
        adam.zero_grad()
    torch.testing.assert_close(trained.weight, by_hand.weight)
    assert torch.equal(trained.offset, torch.tensor([3.0, 3.0]))


def test_noise_follows_from_seed_step_and_part(tmp_path: Path) -> None:
    one, same_seed = fit(tmp_path / "1", noise=1.0), fit(tmp_path / "2", noise=1.0)
    assert torch.equal(one.weight, same_seed.weight)
    assert not torch.equal(one.weight, fit(tmp_path / "3", noise=1.0, seed=1).weight)


def test_learning_rate(tmp_path: Path) -> None:
    warm = recipe(tmp_path, steps=10, optimizer=optimizer(warmup_steps=4))
    assert [learning_rate(warm, step) for step in range(6)] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])
    cosine = recipe(tmp_path, steps=10, optimizer=optimizer(warmup_steps=2, schedule="cosine"))
    rates = [learning_rate(cosine, step) for step in range(11)]
    assert rates[:3] == pytest.approx([0.05, 0.1, 0.1])
    assert rates[6] == pytest.approx(0.055)  # half way
    assert rates[10] == pytest.approx(0.01)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    fit(tmp_path, steps=10, optimizer=cosine.optimizer)
    assert [line["lr"] for line in log(tmp_path)] == rates[:10]


def test_model_is_the_moving_average_and_training_goes_on_with_the_weights(tmp_path: Path) -> None:
    plain, averaged = fit(tmp_path / "1", checkpoint_every=3), fit(tmp_path / "2", checkpoint_every=3, ema=0.9)
    assert torch.equal(plain.weight, averaged.weight)
    last = load_file(tmp_path / "1/model/line.safetensors")["weight"]
    mean = load_file(tmp_path / "2/model/line.safetensors")["weight"]
    assert torch.equal(last, plain.weight.detach())
    start = torch.tensor([0.5, -1.0])
    assert ((mean > start) & (mean < last)).all()
    assert torch.equal(load_file(tmp_path / "2/checkpoint/weights.safetensors")["weight"], last)
    assert torch.equal(load_file(tmp_path / "2/checkpoint/ema.safetensors")["0"], mean)


class Stop(BaseException):
    """An interrupt."""


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_stopped_and_resumed_is_the_same_run(tmp_path: Path, ema: float, accumulate: int) -> None:
    changes: dict[str, Any] = {"checkpoint_every": 2, "ema": ema, "accumulate": accumulate, "optimizer": optimizer()}
    fit(tmp_path / "straight", noise=1.0, **changes)

    def stop(step: int) -> None:
        if step == 4:
            raise Stop

    made = recipe(tmp_path / "cut", **changes)
    with pytest.raises(Stop):
        train(made, Line(made, 1.0), after_checkpoint=stop)
    resumed = fit(tmp_path / "cut", noise=1.0, resume=True, **changes)
    assert resumed.asked[0] == (4, 0, accumulate)
    assert same(tensors(tmp_path / "cut"), tensors(tmp_path / "straight"))


def test_resume_without_a_checkpoint_starts_anew(tmp_path: Path) -> None:
    assert torch.equal(fit(tmp_path / "1", resume=True).weight, fit(tmp_path / "2").weight)
    finished = fit(tmp_path / "1", resume=True)
    assert finished.asked == []


def test_log_is_the_mean_since_the_line_before(tmp_path: Path) -> None:
    fit(tmp_path / "1")
    fit(tmp_path / "2", log_every=4)
    each = [line["loss"] for line in log(tmp_path / "1")]
    coarse = log(tmp_path / "2")
    assert [line["step"] for line in coarse] == [4, 6]
    assert [line["loss"] for line in coarse] == pytest.approx([sum(each[:4]) / 4, sum(each[4:]) / 2], rel=1e-4)


def test_model_tells_how_it_came_to_be(tmp_path: Path) -> None:
    fit(tmp_path / "1")
    fit(tmp_path / "2", init=str(tmp_path / "1/model"), steps=3)
    history = json.loads((tmp_path / "2/model/training.json").read_text())
    assert [entry["steps_done"] for entry in history] == [6, 3]
    assert [entry["recipe"]["output"] for entry in history] == [str(tmp_path / "1"), str(tmp_path / "2")]


def test_a_cut_while_saving_leaves_the_model_before(tmp_path: Path) -> None:
    fit(tmp_path)
    before = tensors(tmp_path / "model")

    class Cut(Line):
        def save(self, folder: Path) -> None:
            (folder / "half").touch()
            raise Stop

    made = recipe(tmp_path, optimizer=optimizer(), steps=7)
    with pytest.raises(Stop):
        train(made, Cut(made))
    assert same(before, tensors(tmp_path / "model"))
    assert {f.name for f in tmp_path.iterdir()} == {"log.jsonl", "checkpoint", "model"}


def test_whole_folder(tmp_path: Path) -> None:
    folder = tmp_path / "result"
    for content in ("one", "two"):
        with whole_folder(folder) as partial:
            (partial / content).touch()
            assert not (folder / content).exists()
        assert [f.name for f in folder.iterdir()] == [content]
    assert [f.name for f in tmp_path.iterdir()] == ["result"]
    # A cut between the two renames:
    assert last_checkpoint(tmp_path) is None
    (tmp_path / "checkpoint.old").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint.old"
    (tmp_path / "checkpoint").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint"


@pytest.mark.parametrize("change", ["batch", "seed", "ema", "optimizer", "objective"])
def test_checkpoint_of_another_recipe_is_refused(tmp_path: Path, change: str) -> None:
    fit(tmp_path, ema=0.9)
    other = {"batch": 16, "seed": 1, "ema": 0.8, "optimizer": optimizer(lr=0.2), "objective": Objective(temperature=1)}
    with pytest.raises(InputError, match=f"was trained with another {change} than the recipe has"):
        fit(tmp_path, **{"ema": 0.9, change: other[change]}, resume=True)


def test_what_may_change_may_change(tmp_path: Path) -> None:
    fit(tmp_path)
    elsewhere = {"data": Data(cache="elsewhere", workers=7), "save_dtype": "float16", "max_shard_size": "1MB"}
    more = {"steps": 8, "accumulate": 2, "log_every": 3, "checkpoint_every": 1}
    assert fit(tmp_path, **more, **elsewhere, resume=True).asked[0] == (6, 0, 2)
    with pytest.raises(InputError, match="was trained with another data"):
        fit(tmp_path, data=Data(size=64), resume=True)


@pytest.mark.parametrize("name", ["weights.safetensors", "ema.safetensors", "optimizer.pt", "state.json"])
@pytest.mark.parametrize("kept", [None, 0.5, 0.0])
def test_damaged_checkpoint_is_refused(tmp_path: Path, name: str, kept: float | None) -> None:
    fit(tmp_path, ema=0.9)
    file = tmp_path / "checkpoint" / name
    content = file.read_bytes()
    file.unlink()
    if kept is not None:
        file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=r"checkpoint: not a whole checkpoint .*remove it to start anew") as caught:
        fit(tmp_path, ema=0.9, resume=True)
    assert "\n" not in str(caught.value)


def test_clips_per_second_are_those_of_steps_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes 2 s and saving 100 s, at steps that are no steps of the log."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    class Timed(Line):
        def forward(self, batch: Points, generator: torch.Generator) -> dict[str, Tensor]:
            now[0] += 2
            return super().forward(batch, generator)

        def save(self, folder: Path) -> None:
            now[0] += 100
            super().save(folder)

    made = recipe(tmp_path, optimizer=optimizer(), checkpoint_every=3, log_every=4, steps=8)
    train(made, Timed(made))
    assert [line["clips_per_second"] for line in log(tmp_path)] == [4.0, 4.0]


@pytest.mark.parametrize("units", [False, True])
def test_precision_is_what_the_device_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, units: bool) -> None:
    """And the model tells which it was; a run goes on where the other is better."""
    monkeypatch.setattr("animate_anyone.training.loop.has_bfloat16_units", lambda device: units)
    kinds = []

    class Telling(Line):
        def forward(self, batch: Points, generator: torch.Generator) -> dict[str, Tensor]:
            kinds.append((batch.x @ self.weight).dtype)
            return super().forward(batch, generator)

    made = recipe(tmp_path, precision="auto", steps=1, optimizer=optimizer())
    train(made, Telling(made))
    assert kinds == [torch.bfloat16 if units else torch.float32]
    written = json.loads((tmp_path / "model/training.json").read_text())[0]["recipe"]["precision"]
    assert written == ("bfloat16" if units else "float32")
    monkeypatch.setattr("animate_anyone.training.loop.has_bfloat16_units", lambda device: not units)
    fit(tmp_path, precision="auto", steps=2, resume=True)
    with pytest.raises(InputError, match="was trained with another precision"):
        fit(tmp_path, precision="bfloat16" if units else "float32", steps=3, resume=True)


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_checkpoints_of_earlier_versions_go_on(tmp_path: Path, precision: str) -> None:
    """Their recipes know neither `auto` nor what came to be named later."""
    fit(tmp_path / "old", steps=4, noise=1.0)
    state = tmp_path / "old/checkpoint/state.json"
    told = json.loads(state.read_text())
    told["recipe"]["data"].pop("keep_latents")
    state.write_text(json.dumps(told))
    assert fit(tmp_path / "old", noise=1.0, precision=precision, resume=True).asked[0] == (4, 0, 1)
