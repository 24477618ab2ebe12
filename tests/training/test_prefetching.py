"""Who makes batches, and that it changes nothing in them."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
import torch
from small_recipes import small
from test_training_on_gpu import recipe_of
from test_training_on_gpu import start as start
from torch import Tensor, nn

from animate_anyone.training import prefetching
from animate_anyone.training.batch import Batch
from animate_anyone.training.prefetching import Batches, BatchMakers, choose_makers, without_weights
from animate_anyone.training.stage import Stage
from animate_anyone.training.stages import build_stage

GPU = torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "renderers", "shared", "wanted"),
    [
        (torch.device("cpu"), 4, True, BatchMakers()),
        (GPU, 0, True, BatchMakers(processes=7)),
        (GPU, 0, False, BatchMakers(threads=2)),
        (GPU, 12, True, BatchMakers(processes=12, renders=True)),
        (GPU, 12, False, BatchMakers(threads=3)),
    ],
)
def test_who_makes_batches(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, renderers: int, shared: bool, wanted: BatchMakers
) -> None:
    monkeypatch.setattr(prefetching, "share_of_cores", lambda: 8)
    monkeypatch.setattr(prefetching, "_shared_memory", lambda: 2 << 30 if shared else 1 << 20)
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn", "fork"])
    assert choose_makers(device, renderers, 8) == wanted


@pytest.mark.parametrize("name", ["autoencoder", "image_carried", "environment_in_a_row"])
def test_a_stage_without_weights_makes_the_same_batches(start: Path, tmp_path: Path, name: str) -> None:
    stage = build_stage(recipe_of(name, start, tmp_path))
    stage.forward = lambda *given: None  # type: ignore[method-assign]  # as a wrapper of accelerate's does
    sent = ForkingPickler.dumps(without_weights(stage))
    assert len(sent) < 300_000
    copy: Stage[Any] = pickle.loads(sent)
    assert all(value.is_meta for value in copy.parameters())
    assert not any(value.is_meta for value in stage.parameters())
    for step in (0, 3) if name == "autoencoder" else (0,):
        one, other = (s.batch(step, 0, 1).tensors() for s in (stage, copy))
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_forked_processes_make_the_batches_of_threads(start: Path, tmp_path: Path) -> None:
    """Of clips from a cache; the networks beside them have computed before."""
    changes: dict[str, Any] = {"data__size": 32, "data__clips": 2, "data__cache": str(tmp_path / "clips")}
    stage = build_stage(small("image", tmp_path, start / "parts", **changes))
    order = [(step, 0, 1) for step in range(3)]
    with (
        Batches(stage, order, BatchMakers(processes=2)) as forked,
        Batches(stage, order, BatchMakers(threads=2)) as threads,
    ):
        for one, other in ((a.tensors(), b.tensors()) for a, b in zip(forked, threads, strict=True)):
            assert one.keys() == other.keys() and "latents" in one
            assert all(torch.equal(value, other[name]) for name, value in one.items())


@dataclass(frozen=True, kw_only=True)
class Numbered(Batch):
    place: Tensor


class Numbers(nn.Module):
    """Batches that are their places."""

    def batch(self, step: int, part: int, parts: int) -> Numbered:
        return Numbered(place=torch.tensor([step, part, parts]))


@pytest.mark.parametrize(
    "who", [BatchMakers(), BatchMakers(threads=3), BatchMakers(processes=2), BatchMakers(processes=1, renders=True)]
)
def test_batches_come_in_order(who: BatchMakers) -> None:
    order: list[Any] = [(step, part, 2) for step in range(4) for part in range(2)]
    with Batches(Numbers(), order, who) as batches:
        assert [tuple(batch.place.tolist()) for batch in batches] == order
        assert batches.slowest > 0
