"""Two processes train as one does, with all weights on each (DDP) or a share of them (FSDP2)."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from line_runs import SETTINGS
from paper_runs import NAMES, adapted, paper
from safetensors import safe_open
from small_recipes import alike, log, same, tensors
from test_init_motion import start_folder
from test_loop import fit
from test_paper_size import SMALL, recipe
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.training.stages import run
from run_processes import run_module


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start_folder(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def first(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stage one leaves."""
    output = tmp_path_factory.mktemp("first")
    return run(recipe("aa1_stage1", init=str(start), output=str(output), batch=1, accumulate=1, **SMALL))


@pytest.fixture(scope="module")
def one(start: Path, first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of the three recipes."""
    output = tmp_path_factory.mktemp("one")
    for name in NAMES:
        run(paper(name, output / name, start, first))
    return output


@pytest.fixture(scope="module")
def two(start: Path, first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes make, see paper_runs.py."""
    output = tmp_path_factory.mktemp("two")
    run_module("paper_runs", output, output, start, first)
    return output


def close(output: Path, wanted: Path) -> None:
    """Losses, norms of gradients and the resulting models are alike but for rounding."""
    for a, b in zip(log(output), log(wanted), strict=True):
        for name in ("step", "loss", "grad_norm", "lr"):
            assert a[name] == pytest.approx(b[name], rel=2e-4, abs=2e-5), name
    assert alike(tensors(output / "model"), tensors(wanted / "model"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_two_processes_are_one(one: Path, two: Path, sharding: str, name: str) -> None:
    close(two / sharding / name, one / name)
    assert {f.name for f in (two / sharding / name).iterdir()} == {"log.jsonl", "checkpoint", "model"}
    load_pipeline(two / sharding / name / "model", "cpu", "float32")


def shares(folder: Path) -> dict[str, list[Tensor]]:
    """What each process wrote, by name."""
    found: dict[str, list[Tensor]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                found.setdefault(name, []).append(opened.get_tensor(name))
    return found


def test_each_process_writes_its_share(two: Path) -> None:
    checkpoint = two / "fsdp/aa1_stage2/checkpoint"
    assert {file.name for file in checkpoint.iterdir()} == {"state.json", "shards"}
    whole = tensors(two / "none/aa1_stage2/checkpoint")
    weights = {
        n.removeprefix("weights."): t for n, t in shares(checkpoint / "shards").items() if n.startswith("weights.")
    }
    assert weights and all(".motion_modules." in name for name in weights)
    for parts in weights.values():
        assert len(parts) == 2 and parts[0].shape[0] <= -(-(parts[0].shape[0] + parts[1].shape[0]) // 2)
    joined = {name: torch.cat(parts) for name, parts in weights.items()}
    assert alike(joined, {name: whole[f"weights.safetensors:{name}"] for name in joined})


def test_a_sharded_run_that_is_resumed_is_the_same_run(two: Path) -> None:
    assert same(tensors(two / "resumed/model"), tensors(two / "fsdp/aa1_stage2/model"))


def test_from_shares_of_two_processes_to_one(one: Path, two: Path, start: Path, first: Path) -> None:
    """The recipe says what it said to two; the one takes the clips of both."""
    load_pipeline(two / "fsdp_one/model", "cpu", "float32")
    run(paper("aa1_stage2", two / "fsdp_one", start, first, batch=2, sharding="fsdp"), resume=True)
    close(two / "fsdp_one", one / "aa1_stage2")
    state = json.loads((two / "fsdp_one/checkpoint/state.json").read_text())
    assert (state["processes"], state["recipe"]["batch"], state["recipe"]["accumulate"]) == (1, 4, 2)
    assert (two / "fsdp_one/checkpoint/weights.safetensors").is_file()


def test_adapters_on_sharded_weights(two: Path, start: Path, first: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="PEFT is not installed; pip install 'animate-anyone[lora]'")
    run(paper("aa1_stage1", tmp_path, start, first, **adapted(first)))
    close(two / "lora", tmp_path)
    load_pipeline(two / "lora/model", "cpu", "float32")


def test_shares_that_are_not_all_there_are_refused(two: Path, start: Path, first: Path) -> None:
    file = min((two / "fsdp/aa1_stage2/checkpoint/shards").glob("*.safetensors"))
    file.rename(file.with_suffix(".gone"))
    again = paper("aa1_stage2", two / "fsdp/aa1_stage2", start, first, steps=4)
    with pytest.raises(InputError, match="not a whole checkpoint"):
        run(again, resume=True)
    file.with_suffix(".gone").rename(file)


def test_moments_of_8_bits_are_not_sharded() -> None:
    with pytest.raises(InputError, match=r"'adamw8bit', which cannot be sharded; give optimizer.kind=adamw or"):
        recipe("aa2", sharding="fsdp", **{"optimizer.kind": "adamw8bit"})


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Where four processes ran, and what each tells, see line_runs.py."""
    output = tmp_path_factory.mktemp("four")
    run_module("line_runs", output, output)
    return output, [json.loads((output / f"told_{rank}.json").read_text()) for rank in range(4)]


Four = tuple[Path, list[dict[str, Any]]]


@pytest.mark.parametrize("name", ["none", "hsdp", "hsdp_accumulated", "fsdp_none", "none_hsdp", "hsdp_fsdp"])
def test_two_machines_are_one_process(four: Four, tmp_path: Path, name: str) -> None:
    """A run may be resumed with another sharding than that with which it began."""
    fit(tmp_path, **SETTINGS | {"batch": 8})
    output, told = four
    for a, b in zip(log(output / name), log(tmp_path), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4) and a["grad_norm"] == pytest.approx(
            b["grad_norm"], rel=1e-3
        )
    wanted = tensors(tmp_path / "model")
    for key, value in tensors(output / name / "model").items():
        torch.testing.assert_close(value, wanted[key], rtol=0, atol=1e-6)
    assert {tuple(one["mesh"]) for one in told} == {(2, 2)}


@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_a_signal_to_one_process_stops_all(four: Four, sharding: str) -> None:
    """After the same step, with one checkpoint."""
    output, told = four
    assert [one[sharding] for one in told] == [signal.SIGTERM] * 4
    folder = output / f"stopped_{sharding}/checkpoint"
    assert json.loads((folder / "state.json").read_text())["step"] == 4
    assert len(list(folder.glob("shards/*.safetensors"))) == (0 if sharding == "none" else 4)


def test_a_loss_that_is_not_finite_stops_all(four: Four) -> None:
    """Whose batch it is writes it."""
    output, told = four
    assert all(one["broken"].startswith("step 3: the loss is not finite; the batch is in ") for one in told)
    assert {file.name for file in (output / "broken/not_finite").iterdir()} == {
        "step_3_part_1.json",
        "step_3_part_1.safetensors",
    }
    assert "step_3_part_1.safetensors" in told[1]["broken"]
    assert json.loads((output / "broken/checkpoint/state.json").read_text())["step"] == 3
