"""What is recorded of a run: losses by timestep, work done, curves; and that it changes nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_recipes import log, same, small, tensors
from small_recipes import start as start
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from animate_anyone.errors import InputError
from animate_anyone.training.config import Monitor, Recipe
from animate_anyone.training.objective import step_generator
from animate_anyone.training.stages import build_stage, run
from animate_anyone.training.step_flops import CountFlops
from animate_anyone.training.step_memory import step_memory
from animate_anyone.training.timestep_bands import band_losses, band_means

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
CPU = torch.device("cpu")


def watched(recipe: Recipe, **changes: Any) -> Recipe:
    return replace(recipe, monitor=Monitor(**changes))


def test_bands_are_those_of_the_timesteps() -> None:
    timesteps = torch.tensor([[0, 249], [250, 999], [30, 600]])
    error = torch.arange(3 * 2 * 5.0).reshape(3, 2, 5)
    each = error.mean(2)
    means = band_means({n: float(v) for n, v in band_losses(error, timesteps, 1000).items()})
    assert means == pytest.approx(
        {
            "loss_t0_249": float((each[0, 0] + each[0, 1] + each[2, 0]) / 3),
            "loss_t250_499": float(each[1, 0]),
            "loss_t500_749": float(each[2, 1]),
            "loss_t750_999": float(each[1, 1]),
        }
    )
    few = band_means({"loss": 2.0} | {n: float(v) for n, v in band_losses(error[:1], timesteps[:1], 1000).items()})
    assert few == pytest.approx({"loss": 2.0, "loss_t0_249": 4.5})
    uneven = band_losses(error, timesteps % 10, 10)
    assert [name for name in uneven if name.startswith("loss")] == [f"loss_t{b}" for b in ("0_2", "3_4", "5_7", "8_9")]


def test_bands_wait_for_nothing() -> None:
    """On tensors without values whatever asks for one is an error."""
    with FakeTensorMode():
        figures = band_losses(torch.ones(2, 3, 4, 8, 8), torch.zeros(2, 3, dtype=torch.long), 1000)
    assert len(figures) == 8 and all(value.shape == () for value in figures.values())


def test_losses_by_timestep_are_the_loss(start: Path) -> None:
    stage = build_stage(small("image", Path("unused"), start, data__size=32))
    figures = stage(stage.batch(0, 0, 1), step_generator(0, 0))
    sums = [value for name, value in figures.items() if name.startswith("loss_t")]
    torch.testing.assert_close(torch.stack(sums).sum(), figures["loss"].detach())


@pytest.mark.parametrize("spared", [False, True])
@pytest.mark.parametrize("stage", ["image", "motion"])
def test_operations_are_those_that_are_run(start: Path, stage: str, spared: bool) -> None:
    """PyTorch's own counter sees as many in a real step, but for what it does not know: attention on CPUs."""
    init = start / "model" if stage == "motion" else start
    recipe = small(stage, Path("unused"), init, data__size=32, gradient_checkpointing=spared)
    recipe = replace(recipe, objective=replace(recipe.objective, condition_dropout=0.0))
    told = step_memory(recipe, CPU).flops
    built = build_stage(recipe)
    batch = built.batch(0, 0, 1)
    theirs = FlopCounterMode(display=False)
    with theirs:
        built(batch, step_generator(0, 0))["loss"].backward()
    assert told.convolutions + told.products == theirs.get_total_flops()
    assert told.attention > 0 and told.total == told.convolutions + told.products + told.attention
    if spared:
        plain = step_memory(replace(recipe, gradient_checkpointing=False), CPU).flops
        assert plain.total < told.total < 2 * plain.total


def test_attention_counts_on_cpus() -> None:
    q = torch.randn(2, 3, 16, 8, requires_grad=True)
    with CountFlops() as counted:
        out = torch.nn.functional.scaled_dot_product_attention(q, q, q)
        assert counted.flops.attention == 2 * 3 * (2 * 16 * 16 * 8) * 2
        out.sum().backward()
    assert counted.flops.attention == 3.5 * 2 * 3 * (2 * 16 * 16 * 8) * 2


def test_every_run_logs_bands_and_memory(start: Path, tmp_path: Path) -> None:
    run(small("image", tmp_path / "out", start, data__size=32))
    for line in log(tmp_path / "out"):
        assert line["memory_gb"] > 0 and any(name.startswith("loss_t") for name in line)
        assert "tflops" not in line and not any(name.startswith("samples_t") for name in line)
    assert not (tmp_path / "out" / "tensorboard").exists()


def test_tensorboard_needs_its_package(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "tensorboard" or "utils.tensorboard" in n]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(InputError) as caught:
        run(watched(small("image", tmp_path / "out", start, data__size=32), tensorboard=True))
    assert str(caught.value) == 'tensorboard is not installed; type: pip install "animate-anyone[tensorboard]"'
    assert not (tmp_path / "out").exists()


def points(output: Path) -> dict[str, list[tuple[int, float]]]:
    """A run's curves as TensorBoard shows them: steps and values by name."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    curves = events.EventAccumulator(str(output / "tensorboard"))
    curves.Reload()
    return {tag: [(e.step, e.value) for e in curves.Scalars(tag)] for tag in curves.Tags()["scalars"]}


def test_curves_and_the_same_weights(start: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    plain = small("image", tmp_path / "1", start, data__size=32)
    run(plain)
    run(watched(replace(plain, output=str(tmp_path / "2")), tensorboard=True))
    assert same(tensors(tmp_path / "1" / "model"), tensors(tmp_path / "2" / "model"))
    curves, lines = points(tmp_path / "2"), log(tmp_path / "2")
    assert [step for step, _ in curves["loss/loss"]] == [1, 2]
    assert [value for _, value in curves["loss/loss"]] == pytest.approx([line["loss"] for line in lines])
    names = {"run/lr", "run/grad_norm", "run/clips_per_second", "run/tflops", "run/memory_gb"}
    assert names <= curves.keys() and any(name.startswith("loss/loss_t") for name in curves)
    flops = step_memory(plain, CPU).flops.total
    assert lines[0]["tflops"] == pytest.approx(flops * lines[0]["clips_per_second"] / plain.batch / 1e12, rel=1e-2)


def test_a_resumed_run_goes_on_with_its_curves(start: Path, tmp_path: Path) -> None:
    """Points of steps that were lost with the process are gone."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    recipe = watched(small("image", tmp_path, start, data__size=32, steps=4, checkpoint_every=2), tensorboard=True)
    run(replace(recipe, steps=2))
    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter
    stray = writer(tmp_path / "tensorboard")
    stray.add_scalar("loss/loss", 99.0, 3)
    stray.close()
    run(recipe, resume=True)
    curve = points(tmp_path)["loss/loss"]
    assert [step for step, _ in curve] == [1, 2, 3, 4] and all(value < 99 for _, value in curve)


def test_a_checkpoint_goes_on_watched(start: Path, tmp_path: Path) -> None:
    recipe = small("image", tmp_path, start, data__size=32)
    run(replace(recipe, steps=1))
    run(watched(recipe), resume=True)
    assert [line["step"] for line in log(tmp_path)] == [1, 2]
