"""Batches as records: a field means the same in every stage."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from test_training_on_gpu import STAGES, recipe_of
from test_training_on_gpu import start as start
from torch import Tensor

from animate_anyone.training.batch import Batch
from animate_anyone.training.stages import build_stage

LATENT_CELLS, PICTURES = ("region_cells", "object_cells"), ("frames", "reference", "reference_pose", "poses", "carried")


def test_a_field_has_one_type_in_all_stages(start: Path, tmp_path: Path) -> None:
    types: dict[str, set[torch.dtype]] = {}
    for name in STAGES:
        stage = build_stage(recipe_of(name, start, tmp_path))
        batch = stage.batch(0, 0, 1)
        assert type(batch) is stage.record
        for field, value in batch.tensors().items():
            types.setdefault(field, set()).add(value.dtype)
        if "environment" in name:  # frames are the targets, in every stage; masks are of their pixels, cells of latents
            assert batch.object_masks.shape == batch.masks.shape == batch.frames.shape[:-1]
            assert batch.region_cells.shape == batch.object_cells.shape
            assert batch.region_cells.shape[-1] * stage.factor == batch.masks.shape[-1]
        elif "image" in name and name != "image_encoder":
            assert batch.frames.shape == (len(batch.reference), stage.targets, *batch.reference.shape[1:])
    assert {"masks", "depth", "carried", *LATENT_CELLS, *PICTURES} <= types.keys()
    assert all(types[name] == {torch.uint8} for name in ("environment", "objects", *PICTURES))
    assert all(types[name] == {torch.bool} for name in ("masks", "object_masks", *LATENT_CELLS))
    assert types["depth"] == {torch.float32}


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs(Batch):
    """``x``, and ``y`` where there is one: ``(b, 2)``."""

    x: Tensor
    y: Tensor | None = None


def test_what_is_not_there_stays_so() -> None:
    batch = Pairs.stacked([{"x": np.array([1, 2])}, {"x": np.array([3, 4])}])
    assert batch.x.tolist() == [[1, 2], [3, 4]]
    assert batch.tensors().keys() == {"x"}
    doubled = batch.each(lambda value: 2 * value)
    assert type(doubled) is Pairs and doubled.y is None and doubled.mean_weight is None
    assert torch.equal(doubled.x, 2 * batch.x)
    assert batch.to(torch.device("meta")).x.is_meta
    with pytest.raises(FrozenInstanceError):
        batch.x = doubled.x  # type: ignore[misc]
