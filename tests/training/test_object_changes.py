"""Objects given to the object guider as what they change of the first guess; how fast parts learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_stage_environment import CARRIED, loss, small, stage_of
from torch import Tensor

import tiny
from animate_anyone.errors import InputError
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.training.stage_environment import EnvironmentStage
from animate_anyone.training.stages import run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
CHANGES: dict[str, Any] = {**CARRIED, "environment__object_latents": "changes"}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    made = tiny.pipeline()
    made.vae.register_to_config(scaling_factor=0.7)
    for part in ("vae", "image_encoder"):
        getattr(made, part).save_pretrained(folder / part)
    return folder


def given(stage: EnvironmentStage, batch: Any) -> Tensor:
    """What the object guider is given: ``(b * k, c, 1, h, w)``."""
    seen: list[Tensor] = []
    assert stage.object_guider is not None
    handle = stage.object_guider.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    loss(stage, batch)
    handle.remove()
    return seen[0]


@torch.no_grad()
def test_the_guider_sees_what_objects_change(parts: Path) -> None:
    stage = stage_of(parts, environment__guess_objects=0.0, **CHANGES)
    batch = next(b for step in range(9) if (b := stage.batch(step, 0, 1)).object_cells.any())
    held, cells = batch.object_masks.bool(), batch.object_cells.bool()
    assert torch.equal(batch.objects[held], batch.frames[held])
    region = batch.region_cells.repeat_interleave(8, -1).repeat_interleave(8, -2)
    assert torch.equal(batch.objects[~held & ~region], batch.environment[~held & ~region])
    assert stage.object_guider is not None and stage.object_guider.config["only_objects"]
    want = (stage.encode(batch.objects) - stage.encode(batch.carried)) * cells[:, :, None]
    torch.testing.assert_close(given(stage, batch)[:, :, 0], want.flatten(0, 1), rtol=0, atol=1e-5)
    assert want.abs().max() > 1e-2
    # A guess that has them, without the character: nothing is left to be changed.
    holding = stage_of(parts, objective__carry_dropout=0.999999, **CHANGES)
    batch = holding.batch(0, 0, 1)
    assert batch.object_cells.any() and given(holding, batch).abs().max() < 1e-4
    alone = stage_of(parts, **CARRIED)
    assert alone.object_guider is not None and not alone.object_guider.config["only_objects"]


def test_it_travels_with_the_model(parts: Path, tmp_path: Path) -> None:
    model = run(small(tmp_path / "first", parts, steps=1, **CHANGES))
    pipeline = load_pipeline(model)
    assert pipeline.config["object_latents"] == "changes" and pipeline.object_guider.config["only_objects"]
    stage_of(model, **CHANGES)
    with pytest.raises(InputError, match=r"object_latents is 'alone'; in .* it is 'changes'; give that"):
        stage_of(model, **CARRIED)
    with pytest.raises(InputError, match=r"changes are those of a first guess; give networks.pipeline.carried_ref"):
        stage_of(parts, environment__object_latents="changes")
    anew = stage_of(model, environment__new_objects=True, **CARRIED)
    assert anew.object_guider is not None and not anew.object_guider.config["only_objects"]


def test_objects_count_by_their_share_of_a_cell(parts: Path) -> None:
    stage = stage_of(parts, objective__person_weight=1.0, environment__object_weight=8.0)
    batch = stage.batch(0, 0, 1)
    masks = torch.zeros_like(batch.object_masks, dtype=torch.bool)
    masks[0, 0, :8, :8], masks[0, 0, 8:12, :8] = True, True
    weights = stage.weights(batch.__class__(**{**vars(batch), "object_masks": masks}))
    assert weights[0, 0, 0, :, 0].tolist() == [9, 5, 1, 1] and (weights[..., 1:] == 1).all()
    assert stage.weighted and not stage_of(parts, objective__person_weight=1.0).weighted
    with pytest.raises(InputError, match=r"environment.object_weight is -1"):
        stage_of(parts, environment__object_weight=-1)


def test_parts_that_learn_at_another_rate(parts: Path, tmp_path: Path) -> None:
    """AdamW's steps are about as large as the learning rate, whatever the gradient is."""
    start = stage_of(parts)
    before = {name: value.detach().clone() for name, value in start.named_parameters() if value.requires_grad}
    shares = {"object_guider": 10.0, "spatial_blending": 0.5}
    settings = {"optimizer__lr": 1e-3, "optimizer__shares": shares, "optimizer__weight_decay": 0.0, "ema": 0.0}
    model = run(small(tmp_path / "run", parts, steps=4, optimizer__schedule="constant", **settings))
    pipeline = load_pipeline(model, "cpu", "float32")
    moved: dict[str, float] = {}
    for part in ("denoising_unet", "object_guider"):
        for name, value in getattr(pipeline, part).state_dict().items():
            kind = next((key for key in shares if key in f"{part}.{name}"), "rest")
            step = float((value - before[f"{part}.{name}"]).abs().max())
            moved[kind] = max(moved.get(kind, 0.0), step)
    for kind, rate in (("rest", 1e-3), ("object_guider", 1e-2), ("spatial_blending", 5e-4)):
        assert 0.9 * rate < moved[kind] < 5 * rate, kind
    with pytest.raises(InputError, match=r"optimizer.shares: nothing that is trained has 'nobody' in its name"):
        run(small(tmp_path / "wrong", parts, steps=1, optimizer__shares={"nobody": 2.0}))
    for share in (0.0, -1.0):
        with pytest.raises(InputError, match=r"optimizer.shares"):
            small(tmp_path / "wrong", parts, optimizer__shares={"object_guider": share})
