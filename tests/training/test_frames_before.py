"""Temporal layers learn to go on from the frames before a clip: what they are given of them, and that they use it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from test_stage_environment import small, stage_of
from test_stage_environment import start as start
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.training import clips
from animate_anyone.training.clips import render_scene
from animate_anyone.training.objective import step_generator
from animate_anyone.training.stage_environment import EnvironmentBatch, EnvironmentStage
from animate_anyone.training.stages import build_stage
from animate_anyone.training.step_memory import step_memory

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
BEFORE = 2
SHOWN: dict[str, Any] = {
    "data__frames_per_clip": 4,
    "data__consecutive": True,
    "environment__temporal_reference": {"frames": BEFORE, "dropout": 0.0, "noise": 0.0},
    "environment__scaled_share": 0.0,
    "objective__condition_dropout": 0.0,
}


@pytest.fixture(scope="module", autouse=True)
def rendered_once() -> Any:
    """The same few scenes serve all tests of this file."""
    patch = pytest.MonkeyPatch()
    patch.setattr(clips, "render_scene", lru_cache(render_scene))
    yield
    patch.undo()


def with_settings(**changes: Any) -> dict[str, Any]:
    """:data:`SHOWN` with other settings of the frames before."""
    return {**SHOWN, "environment__temporal_reference": {**SHOWN["environment__temporal_reference"], **changes}}


def loss(stage: EnvironmentStage, batch: EnvironmentBatch) -> Tensor:
    return stage(batch, step_generator(0, 0))["loss"]


@torch.no_grad()
def wake(stage: EnvironmentStage) -> EnvironmentStage:
    torch.manual_seed(5)
    for parameter in stage.denoising_unet.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return stage


def inverted(batch: EnvironmentBatch) -> EnvironmentBatch:
    assert batch.before is not None
    return replace(batch, before=255 - batch.before)


def test_clip_is_what_follows_the_frames_before(start: dict[str, Path]) -> None:
    """The batch's frames before are the clip's own, whole, at the same size and scale; targets come after them."""
    stage = stage_of(start["with_motion"], **SHOWN)
    whole = stage_of(start["with_motion"], **with_settings(frames=0))
    # The first rows alone: what is drawn for whether they are given moves the random numbers of those behind.
    batch, without = (one.batch(0, 0, 1).each(lambda value: value[:1]) for one in (stage, whole))
    assert without.before is None
    assert stage.targets == 2 and whole.targets == 4
    for before, name in (("before", "frames"), ("poses_before", "poses"), ("depth_before", "depth")):
        both = torch.cat([getattr(batch, before), getattr(batch, name)], 1)
        assert torch.equal(both, getattr(without, name)), name
    assert torch.equal(batch.environment, without.environment[:, BEFORE:])
    assert torch.equal(batch.reference, without.reference)
    assert stage.wanted.targets == stage.wanted.num_frames == 4


def test_share_is_dropped_and_rows_do_not_depend_on_the_cut(start: dict[str, Path]) -> None:
    stage = stage_of(start["with_motion"], **with_settings(dropout=0.5), batch=4)
    batch = stage.batch(0, 0, 1)
    halves = [
        stage_of(start["with_motion"], **with_settings(dropout=0.5), batch=4, accumulate=2).batch(0, n, 2)
        for n in (0, 1)
    ]
    for name, value in batch.tensors().items():
        assert torch.equal(value, torch.cat([half.tensors()[name] for half in halves])), name
    given = [bool(x) for n in range(8) for x in stage.batch(n, 0, 1).given_before]  # type: ignore[union-attr]
    assert 8 <= sum(given) <= 24


def test_starts_as_it_was(start: dict[str, Path]) -> None:
    """A model that learns to see frames before loses nothing: the loss is the same whatever they are."""
    stage = stage_of(start["with_motion"], **SHOWN)
    assert stage.denoising_unet.config["temporal_reference_frames"] == BEFORE
    before = DenoisingUNet.from_pretrained(start["with_motion"] / "denoising_unet").state_dict()
    after = stage.denoising_unet.state_dict()
    new = {name for name in after.keys() - before.keys() if ".temporal_reference." in name}
    assert new and all(".motion_modules." in name for name in new)
    batch = stage.batch(0, 0, 1)
    assert torch.equal(loss(stage, batch), loss(stage, inverted(batch)))


def test_loss_depends_on_the_frames_before(start: dict[str, Path]) -> None:
    """Unless they are dropped; and what is dropped still has gradients, of zero."""
    stage = wake(stage_of(start["with_motion"], **SHOWN))
    batch = stage.batch(0, 0, 1)
    assert loss(stage, batch) != loss(stage, inverted(batch))
    noisy = wake(stage_of(start["with_motion"], **with_settings(noise=0.5)))
    assert loss(noisy, batch) != loss(stage, batch)
    assert batch.given_before is not None and batch.given_before.all()
    dropped = replace(batch, given_before=torch.zeros_like(batch.given_before))
    assert torch.equal(loss(stage, dropped), loss(stage, inverted(dropped)))
    loss(stage, dropped).backward()
    layers = [p for name, p in stage.named_parameters() if ".temporal_reference." in name]
    assert layers and all(p.grad is not None and not p.grad.any() for p in layers)


def test_an_overfitted_model_uses_them(start: dict[str, Path]) -> None:
    """Two clips alike in all but the frames before and what follows: those alone say which it is."""
    stage = stage_of(start["with_motion"], **SHOWN, objective__timestep_power=30.0)  # nearly all is noise
    stage.requires_grad_(False)
    learned = [p for name, p in stage.named_parameters() if name.startswith("denoising_unet")]
    for parameter in learned:
        parameter.requires_grad_(True)
    batch = stage.batch(0, 0, 1).each(lambda value: value[:1].repeat(2, *[1] * (value.ndim - 1)))
    for frames in (batch.frames, batch.before):
        assert frames is not None
        frames[0], frames[1] = 0, 255
    apart = stage.encode(batch.frames)
    strength = float((apart[0] - apart[1]).square().mean().sqrt())
    stage.vae.register_to_config(scaling_factor=2 * stage.vae.config["scaling_factor"] / strength)  # as latents are
    optimizer = torch.optim.Adam(learned, 3e-3)
    for step in range(60):
        optimizer.zero_grad()
        stage(batch, step_generator(0, step))["loss"].backward()
        optimizer.step()
    assert batch.before is not None
    other = replace(batch, before=batch.before.flip(0))
    with torch.no_grad():
        right, wrong = (
            sum(float(stage(one, step_generator(1, n))["loss"]) for n in range(4)) for one in (batch, other)
        )
    print(f"loss {right:.4f}, with the other clip's frames before {wrong:.4f}")
    assert wrong > 1.3 * right


def test_saved_model_goes_on_from_frames(start: dict[str, Path], tmp_path: Path) -> None:
    """A recipe that goes on with it must say the same."""
    stage_of(start["with_motion"], **SHOWN).save(tmp_path / "model")
    pipeline = load_pipeline(tmp_path / "model", "cpu")
    assert isinstance(pipeline, AnimateAnyone2Pipeline)
    assert pipeline.plan(5, 1, window=2, continuation=BEFORE) == [[0, 1], [2, 3], [4]]
    again = build_stage(small(tmp_path / "again", tmp_path / "model", **SHOWN))
    assert again.denoising_unet.config["temporal_reference_frames"] == BEFORE
    with pytest.raises(InputError, match=r"temporal_reference.frames is 1; in .* it is 2; give that"):
        stage_of(tmp_path / "model", **with_settings(frames=1))
    with pytest.raises(InputError, match=r"temporal_reference.frames is 0; in .* it is 2; give that"):
        stage_of(tmp_path / "model", **with_settings(frames=0))


def test_memory_counts_them(start: dict[str, Path]) -> None:
    needs = [
        step_memory(small(Path("unused"), start["with_motion"], **settings), torch.device("cpu"))
        for settings in ({**with_settings(frames=0), "data__frames_per_clip": 2}, SHOWN)
    ]
    assert needs[1].kept > needs[0].kept
    assert needs[1].parts["denoising_unet"].trained > needs[0].parts["denoising_unet"].trained


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (with_settings(frames=-1), "temporal_reference.frames is -1; it must be at least 0"),
        (with_settings(frames=4), "frames is 4, of data.frames_per_clip 4, and some must be left to predict"),
        (with_settings(dropout=1.0), r"temporal_reference.dropout is 1.0; it must lie in \[0, 1\)"),
        (with_settings(noise=-0.1), "temporal_reference.noise is -0.1; it must be at least 0"),
        ({**SHOWN, "data__consecutive": False}, "which trains temporal layers; give data.consecutive=true"),
        ({**with_settings(frames=16), "data__frames_per_clip": 20}, "temporal_reference.frames: .*give 0, or 1 to 15"),
        ({**SHOWN, "data__frames_per_clip": 19}, "data.frames_per_clip is 19; the temporal layers take 18"),
        ({**SHOWN, "lora": {"rank": 2}}, "lora"),
    ],
)
def test_mistakes_of_recipes(start: dict[str, Path], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as told:
        stage_of(start["with_motion"], **changes)
    assert "\n" not in str(told.value)
