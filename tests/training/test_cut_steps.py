"""A step comes out the same however it is cut: into micro-batches, or onto processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_recipes import alike, log, small, tensors
from test_loop import fit
from test_stage_environment import IN_A_ROW
from test_stage_environment import rendered_once as rendered_once
from test_stage_environment import small as small_environment

from animate_anyone.training.config import Recipe
from animate_anyone.training.objective import number_dropped, part_of_step, step_generator
from animate_anyone.training.stages import build_stage, run
from run_processes import run_module

# What makes cuts differ if anything does: weights, noise, dropped conditions, carried references.
CHANGES: dict[str, Any] = {
    "batch": 4,
    "data__clips": 8,
    "data__size": 32,
    "objective__person_weight": 5.0,
    "objective__condition_dropout": 0.4,
    "networks__pipeline": {"reference_latents": True, "carried_reference": True, "reference_pose": True},
    "ema": 0.0,
}


def close(one: Path, other: Path) -> None:
    for a, b in zip(log(one), log(other), strict=True):
        for name in ("step", "loss", "grad_norm", "lr"):
            assert a[name] == pytest.approx(b[name], rel=2e-4, abs=2e-5), name
    assert alike(tensors(one / "checkpoint"), tensors(other / "checkpoint"))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a VAE and an image encoder."""
    folder = tmp_path_factory.mktemp("start")
    run(small("autoencoder", folder / "vae", steps=1, batch=1, data__size=32, data__clips=1, objective__crop=None))
    first = folder / "vae/model"
    run(small("image_encoder", folder / "encoder", first, steps=1, data__size=32, data__clips=1))
    return folder / "encoder/model"


def image(output: Path, start: Path, **changes: Any) -> Recipe:
    return small("image", output, start, optimizer__lr=1e-3, **{**CHANGES, **changes})


@pytest.fixture(scope="module")
def whole(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    run(image(output, start))
    return output


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches(start: Path, whole: Path, tmp_path: Path, accumulate: int) -> None:
    run(image(tmp_path, start, accumulate=accumulate))
    close(tmp_path, whole)


@pytest.fixture(scope="module")
def two(start: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Where two processes ran, and what each of them tells, see two_processes.py."""
    output = tmp_path_factory.mktemp("two")
    run_module("two_processes", output, output, start)
    return output, [json.loads((output / f"told_{rank}.json").read_text()) for rank in range(2)]


def test_two_processes(whole: Path, two: tuple[Path, list[dict[str, Any]]]) -> None:
    """As one process with a batch of both; stopped after one step and resumed; one log, one checkpoint, one cache."""
    output, _ = two
    assert [line["step"] for line in log(output / "image")] == [1, 2]
    assert {file.name for file in (output / "image").iterdir()} == {"log.jsonl", "checkpoint", "model"}
    close(output / "image", whole)
    assert {file.name for file in (output / "clips").iterdir()} == {"index.json", "shard_00000"}


def test_gradients_are_summed_up_once_per_step(two: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    """Not for every micro-batch."""
    alone = fit(tmp_path).weight.tolist()
    for told in two[1]:
        assert told["reductions"] == 6
        assert told["weight"] == pytest.approx(alone, abs=1e-5)


def test_the_clock_of_the_first_process_counts(two: tuple[Path, list[dict[str, Any]]]) -> None:
    output, (first, second) = two
    assert 1 < first["done"] == second["done"] < 100
    assert json.loads((output / "limit/checkpoint/state.json").read_text())["step"] == first["done"]
    assert f"- steps: {first['done']} in this call" in (output / "limit/report.md").read_text()


def test_processes_that_see_different_checkpoints_are_refused(two: tuple[Path, list[dict[str, Any]]]) -> None:
    """They would wait for each other without end."""
    output, told = two
    for rank, (folder, one) in enumerate(zip(("limit", "nothing"), told, strict=True)):
        line = f"{output / folder}: process 0 from step {told[0]['done']}, process 1 from step 0; give an output"
        assert one["apart"].startswith(line), rank


@pytest.mark.parametrize("stage", ["autoencoder", "image_encoder"])
@pytest.mark.parametrize("step", [0, 3])
def test_batches_of_the_first_stages(start: Path, stage: str, step: int) -> None:
    """Crops, and in every fourth step whole frames; backgrounds of random colours."""

    def cut(parts: int) -> Any:
        return small(stage, Path("unused"), start, batch=8, accumulate=parts, data__clips=4, data__size=64)

    made = build_stage(cut(1))
    whole = made.batch(step, 0, 1)
    for parts in (2,) if step == 3 else (2, 4):
        made.recipe = cut(parts)
        batches = [made.batch(step, part, parts) for part in range(parts)]
        for name, value in whole.tensors().items():
            assert torch.equal(torch.cat([batch.tensors()[name] for batch in batches]), value), name


def test_a_step_of_the_autoencoder(tmp_path: Path) -> None:
    for accumulate in (1, 4):
        changes = {"batch": 4, "accumulate": accumulate, "steps": 1, "data__clips": 4, "objective__person_weight": 3.0}
        run(small("autoencoder", tmp_path / str(accumulate), **changes))
    close(tmp_path / "4", tmp_path / "1")


ENVIRONMENT: dict[str, Any] = {
    "batch": 4,
    "data__clips": 8,
    "environment__scaled_share": 0.5,
    "objective__carry_dropout": 0.3,
    "objective__condition_dropout": 0.4,
    "objective__person_weight": 5.0,
    "networks__pipeline": {"reference_latents": True, "carried_reference": True, "reference_pose": True},
    "ema": 0.0,
    "optimizer__lr": 1e-3,
}


def environment(output: Path, start: Path, **changes: Any) -> Recipe:
    return small_environment(output, start, **{**ENVIRONMENT, **changes})


@pytest.mark.parametrize("in_a_row", [False, True])
def test_batches_of_scenes(start: Path, in_a_row: bool) -> None:
    """Each clip has the mask, scale, background and collage that it has in a whole step."""
    changes = IN_A_ROW if in_a_row else {}
    stage = build_stage(environment(Path("unused"), start, **changes))
    whole = stage.batch(3, 0, 1)
    for parts in (2, 4):
        stage.recipe = environment(Path("unused"), start, accumulate=parts, **changes)  # type: ignore[assignment]
        cut = [stage.batch(3, part, parts) for part in range(parts)]
        for name, value in whole.tensors().items():
            assert torch.equal(torch.cat([batch.tensors()[name] for batch in cut]), value), name


def test_a_step_of_scenes(start: Path, tmp_path: Path) -> None:
    for accumulate in (1, 4):
        run(environment(tmp_path / str(accumulate), start, accumulate=accumulate))
    close(tmp_path / "4", tmp_path / "1")


def test_parts_of_a_step_are_its_rows() -> None:
    def draw(parts: int) -> tuple[torch.Tensor, list[int]]:
        rows, dropped = [], []
        for part in range(parts):
            generator = step_generator(3, 5, part, parts)
            dropped.append(number_dropped(8 // parts, 0.5, generator))
            rows.append(part_of_step(lambda n, g: torch.randn(n, 2, generator=g), 8 // parts, generator))
        return torch.cat(rows), dropped

    whole, (dropped,) = draw(1)
    assert 2 < dropped < 8
    for parts in (2, 4, 8):
        rows, each = draw(parts)
        assert torch.equal(rows, whole)
        assert sum(each) == dropped and each == sorted(each, reverse=True)
    # Where there is no step, the micro-batch is it.
    generator = torch.Generator().manual_seed(step_generator(3, 5).initial_seed())
    assert number_dropped(8, 0.5, generator) == dropped
    assert torch.equal(part_of_step(lambda n, g: torch.randn(n, 2, generator=g), 8, generator), whole)


def test_seeds_are_those_of_earlier_versions() -> None:
    seeds = [step_generator(*numbers).initial_seed() for numbers in ((0, 0), (0, 1), (7, 123456), (2**31, 9))]
    assert seeds == [41012001185518, 85650147141193, 139315019021592, 12507856909106]
