"""``--check``: what it says, that it is right, and that it touches nothing."""

from __future__ import annotations

import json
import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_recipes import FILES, OF_STAGE, SMALL, small
from small_recipes import start as start
from test_stage_environment import IN_A_ROW
from test_stage_environment import small as small_environment

import tiny
from animate_anyone.errors import InputError
from animate_anyone.training.__main__ import main
from animate_anyone.training.chain import check_file
from animate_anyone.training.check import check_lines
from animate_anyone.training.config import Recipe
from animate_anyone.training.objective import step_generator
from animate_anyone.training.stages import build_stage, run
from animate_anyone.training.step_memory import blank_batch, stage_without_values, step_memory
from animate_anyone.training.step_time import SLACK, measure_rate, step_seconds
from conftest import REPOSITORY

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
CPU = torch.device("cpu")
STAGES = ["autoencoder", "image_encoder", "image", "motion", "distil", "scenes", "in a row"]


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Nothing is timed: this machine does 1e9 operations a second. What was asked for."""
    asked: list[Any] = []

    def rate(*work: Any) -> float:
        asked.append(work)
        return 1e9

    monkeypatch.setattr("animate_anyone.training.check.measure_rate", rate)
    return asked


def recipe(name: str, start: Path, out: Path = Path("unused"), **changes: Any) -> Recipe:
    settings: dict[str, Any] = {"data__size": 32, **changes}
    if name == "autoencoder":
        return small(name, out, **{"objective__crop": None, **settings})
    if name in ("image_encoder", "image"):
        return small(name, out, start, **settings)
    if name in ("motion", "distil"):
        return small(name, out, start / "model", **settings)
    return small_environment(out, start, **settings, **(IN_A_ROW if name == "in a row" else {}))


def files(folder: Path) -> dict[str, float]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("name", STAGES)
def test_batches_have_the_shapes_of_real_ones(start: Path, name: str) -> None:
    asked = recipe(name, start)
    real = build_stage(asked).batch(3, 0, 1).tensors()
    with stage_without_values(asked, CPU) as stage:
        blank = blank_batch(stage, CPU, nullcontext()).tensors()
    assert {n: (t.shape, t.dtype) for n, t in blank.items()} == {n: (t.shape, t.dtype) for n, t in real.items()}


@pytest.mark.parametrize(
    ("name", "spared"),
    [("autoencoder", False), ("image", False), ("motion", True), ("distil", True), ("in a row", False)],
)
def test_what_a_forward_pass_keeps(start: Path, name: str, spared: bool) -> None:
    """As many bytes as PyTorch says that it saves, and the same weights."""
    asked = recipe(name, start, gradient_checkpointing=spared, objective__condition_dropout=0.0)
    needs = step_memory(asked, CPU)
    stage = build_stage(asked)
    weights = sum(p.numel() for p in stage.parameters())
    trained = sum(p.numel() for p in stage.parameters() if p.requires_grad)
    assert sum(part.weights for part in needs.parts.values()) == weights
    assert sum(part.trained for part in needs.parts.values()) == trained
    assert (needs.gradients, needs.moments, needs.average) == (4 * trained, 8 * trained, 4 * trained)
    known = {t.untyped_storage().data_ptr() for t in (*stage.parameters(), *stage.buffers())}
    kept: dict[int, int] = {}
    held = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)  # or its place is taken by the next
        return tensor

    batch = blank_batch(stage, CPU, nullcontext())
    for tensor in batch.tensors().values():
        keep(tensor)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = stage(batch, step_generator(asked.seed, 0))["loss"]
    loss.backward()
    assert needs.kept == pytest.approx(sum(kept.values()), rel=0.15)
    assert needs.peak > needs.weights + needs.moments + needs.average + needs.step


def test_bfloat16_and_8_bits_need_less_and_checkpointing_too(start: Path) -> None:
    plain = step_memory(recipe("motion", start), CPU)
    half = step_memory(recipe("motion", start, precision="bfloat16"), CPU)
    eight = step_memory(recipe("motion", start, optimizer__kind="adamw8bit"), CPU)
    spared = step_memory(recipe("motion", start, gradient_checkpointing=True), CPU)
    assert half.kept < 0.9 * plain.kept  # weights are kept in bfloat16 beside those in float32
    assert 0.25 * plain.moments < eight.moments < 0.26 * plain.moments
    assert spared.kept < 0.5 * plain.kept
    assert not plain.buckets


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_networks_saved_in_half_precision_are_trained_in_float32(
    start: Path, tmp_path: Path, precision: str, pickled: bool
) -> None:
    """So they are foretold; transformers would build parts of the image encoder in the type that its settings name."""
    tiny.pipeline().to(dtype=torch.float16).save_pretrained(tmp_path / "model")
    if pickled:
        (weights,) = (tmp_path / "model" / "image_encoder").glob("*.safetensors")
        torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
        weights.unlink()
    half = step_memory(small("motion", tmp_path / "out", tmp_path / "model", data__size=32, precision=precision), CPU)
    assert half == step_memory(recipe("motion", start, precision=precision), CPU)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_shares_need(start: Path, accumulate: int) -> None:
    """Four processes hold a quarter each; gradients that are not exchanged in each micro-batch stay whole till then."""
    alone, shared = (
        step_memory(recipe("image", start, batch=2, accumulate=accumulate, sharding=sharding), CPU, 4)
        for sharding in ("none", "fsdp")
    )
    count = sum(part.trained for part in alone.parts.values())
    held = sum(part.weights for part in alone.parts.values() if part.trained)
    assert alone.weights - shared.weights == 4 * held - 4 * held // 4
    assert (shared.moments, shared.average, shared.gradients) == (2 * count, count, count)
    assert (alone.gathered, shared.buckets) == (0, 0) and alone.buckets == 4 * count
    assert 0 < shared.gathered < 4 * held
    assert shared.update == 4 * count // 4
    assert (shared.step < alone.step - count) == (accumulate == 1)
    one = step_memory(recipe("image", start, batch=2, accumulate=accumulate, sharding="fsdp"), CPU, 1)
    assert one == step_memory(recipe("image", start, batch=2, accumulate=accumulate), CPU, 1)


def test_it_touches_nothing(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path), files(start)
    torch.manual_seed(3)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    asked = recipe("motion", start, tmp_path / "out", data__cache=str(tmp_path / "cache"), data__clips=100)
    lines = check_lines(asked)
    assert (files(tmp_path), files(start)) == before
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]
    text = "\n".join(lines)
    assert f"cache {tmp_path / 'cache'}: 0 of 2 shards of 64 clips are there; 2 are to be rendered first" in text
    assert "steps: 2, of 2 clips each, 4 frames a clip; 0.04 times through the data" in text
    assert "peak: " in text and "without gradient_checkpointing" in text
    stage = build_stage(recipe("motion", start))
    trained = sum(p.numel() for p in stage.denoising_unet.motion_parameters())
    assert any(line.split()[:2] == ["denoising_unet", f"{trained:,}"] for line in lines)


def test_expected_time(start: Path, tmp_path: Path, untimed: list[Any]) -> None:
    """Operations of all micro-batches over the machine's, with the slack on both sides; of the steps that are left."""
    changes: dict[str, Any] = {"steps": 50_000, "batch": 8, "accumulate": 4}
    asked = recipe("image", start, tmp_path / "out", **changes)
    step, how = check_lines(asked)[-2:]
    flops = step_memory(asked, CPU).flops.total * 4
    least, most = flops / 1e9 / SLACK, flops / 1e9 * SLACK
    whole = f"50000 steps: {50_000 * least / 3600:.2g} to {50_000 * most / 3600:.2g} h, without data and saving"
    assert step == (
        f"a step: {flops / 1e12:.3g} TFLOP on each process (convolutions, matrix products, attention), "
        f"{least:.2g} to {most:.2g} s; {whole}"
    )
    assert how.startswith("at 0.001 TFLOP/s, of blocks of these networks timed here")
    (work,) = untimed
    assert [(level.width, level.side) for level in work[0]] == [(16, 4), (32, 2)]
    assert work[1:] == (2 * 2, "float32", CPU)  # 2 clips of a micro-batch, 2 targets each
    assert "not foretold for stage autoencoder" in check_lines(recipe("autoencoder", start))[-1]


def test_expected_time_of_a_run_that_began(start: Path, tmp_path: Path) -> None:
    asked = recipe("image", start, tmp_path / "out", steps=1)
    run(asked)
    assert "; 0 steps: 0 to 0 s" in check_lines(asked)[-2]
    assert "; 6 steps: " in check_lines(recipe("image", start, tmp_path / "out", steps=7))[-2]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_rate_of_a_machine(start: Path, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    """Of blocks that need a second each by a clock that only those calls move; random numbers are left alone."""
    now = [0.0]

    def clock() -> float:
        now[0] += 0.5
        return now[0]

    monkeypatch.setattr("animate_anyone.training.step_time.time.perf_counter", clock)
    monkeypatch.setattr("animate_anyone.training.step_time._probe", lambda *where: 1e7)
    levels = step_memory(recipe("image", start), CPU).levels
    torch.manual_seed(3)
    state = torch.get_rng_state()
    rate = measure_rate(levels, 4, precision, CPU)
    assert torch.equal(torch.get_rng_state(), state)
    assert measure_rate(levels, 4, precision, CPU) == rate and rate > 1e6
    assert step_seconds(SLACK * rate, rate) == pytest.approx((1.0, SLACK**2))


def test_what_is_wrong_is_said_as_in_training(start: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no vae/; train the recipe before this one"):
        check_lines(small("image", tmp_path / "out", tmp_path))
    with pytest.raises(InputError, match="temporal layers take 16"):
        check_lines(recipe("motion", start, data__frames_per_clip=20))
    assert not (tmp_path / "out").exists()


def test_a_run_that_began(start: Path, tmp_path: Path) -> None:
    asked = recipe("image_encoder", start, tmp_path / "out", steps=1)
    run(asked)
    before = files(tmp_path)
    assert "; 1 are done already: --resume goes on" in check_lines(asked)[1]
    assert files(tmp_path) == before


def test_both_programs_and_chains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [f"{n}={json.dumps(v)}" for n, v in (SMALL | OF_STAGE["autoencoder"]).items()]
    assert main([str(FILES["autoencoder"]), *settings, "--check"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("stage autoencoder, float32, adamw, on ") and printed.count("\nmemory: ") == 1
    from typer.testing import CliRunner

    from animate_anyone.cli.app import app

    result = CliRunner().invoke(app, ["train", str(FILES["autoencoder"]), *settings, "--check"])
    assert result.exit_code == 0 and result.output.splitlines()[0] == printed.splitlines()[0]
    everywhere = [f"{n}={json.dumps(v)}" for n, v in SMALL.items() if n != "init"]
    everywhere += [f"autoencoder.{n}={json.dumps(v)}" for n, v in OF_STAGE["autoencoder"].items()]
    text = check_file(REPOSITORY / "recipes" / "puppet_gpu.yaml", [*everywhere, f"output={tmp_path / 'out'}"])
    blocks = text.split("\n\n")
    assert len(blocks) == 4 and "\nmemory: " in blocks[0]
    assert blocks[3].startswith("motion: stage motion; output ")
    assert all(f"known when {tmp_path / 'out'}/" in block for block in blocks[1:])
    assert not list(tmp_path.iterdir())
