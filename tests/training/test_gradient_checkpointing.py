"""``gradient_checkpointing``: the same losses and gradients from fewer kept activations, in every stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_recipes import alike, log, same, small, tensors
from small_recipes import start as start
from test_stage_environment import IN_A_ROW
from test_stage_environment import small as small_environment
from torch import Tensor

from animate_anyone.models.temporal_layer import TemporalLayer
from animate_anyone.training.config import Recipe
from animate_anyone.training.objective import step_generator
from animate_anyone.training.stage import Stage
from animate_anyone.training.stages import build_stage, run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
CASES = [
    "autoencoder",
    "image_encoder",
    "image",
    "image with control",
    "motion",
    "distil",
    "scenes",
    "attention",
    "in a row",
    "with frames before",
]


def recipe(name: str, start: Path, **changes: Any) -> Recipe:
    settings: dict[str, Any] = {"data__size": 32, "objective__condition_dropout": 0.4, **changes}
    out = Path("unused")
    if name in ("autoencoder", "image_encoder"):
        init = start if name == "image_encoder" else None
        return small(name, out, init, **{**settings, "objective__condition_dropout": 0.0})
    if name in ("motion", "distil"):
        return small(name, out, start / "model", **settings)
    if name.startswith("image"):
        path = {"reference_path": "both"} if "control" in name else {"reference_pose": True}
        return small("image", out, start, **settings, networks__pipeline=path)
    place = "attention" if name == "attention" else "hidden"
    rows: dict[str, Any] = IN_A_ROW if name == "in a row" else {}
    if name == "with frames before":
        rows = {**IN_A_ROW, "environment__temporal_reference": {"frames": 1, "dropout": 0.0}}
    return small_environment(out, start, **settings, environment__blending_place=place, **rows)


def step(recipe: Recipe) -> tuple[Stage[Any], Tensor, int, int]:
    """A stage after one backward pass, its loss, the bytes that the forward pass kept, and how often blocks ran."""
    stage = build_stage(recipe)
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in stage.parameters():  # what starts at zero would hide what is behind it
            if parameter.requires_grad and not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
    kept: dict[int, int] = {}
    ran = []
    for name, module in stage.named_modules():
        if name.endswith(("attn1", "motion_modules.0")):
            module.register_forward_hook(lambda *_: ran.append(1))
    weights = {parameter.untyped_storage().data_ptr() for parameter in stage.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = stage.batch(0, 0, 1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = stage(batch, step_generator(3, 0))["loss"]
    before = len(ran)
    loss.backward()
    return stage, loss.detach(), sum(kept.values()), len(ran) - before


@pytest.mark.parametrize("name", CASES)
def test_the_same_from_less(start: Path, name: str) -> None:
    plain, loss, kept, again = step(recipe(name, start))
    spared, other, fewer, recomputed = step(recipe(name, start, gradient_checkpointing=True))
    torch.testing.assert_close(other, loss, rtol=1e-6, atol=0)
    theirs = dict(spared.named_parameters())
    assert theirs.keys() == dict(plain.named_parameters()).keys()
    for key, parameter in plain.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all()
            torch.testing.assert_close(theirs[key].grad, parameter.grad, rtol=1e-5, atol=1e-6, msg=key)
    assert again == 0
    if name not in ("autoencoder", "image_encoder"):  # which have no such blocks
        assert recomputed > 0
    assert fewer < 0.75 * kept, (fewer, kept)


def test_temporal_layers_keep_their_inputs_alone(start: Path) -> None:
    stage = build_stage(recipe("motion", start, gradient_checkpointing=True))
    layers = list(stage.denoising_unet.motion_modules().values())
    assert layers and all(isinstance(layer, TemporalLayer) and layer.gradient_checkpointing for layer in layers)
    layer, kept = layers[0], []
    hidden = torch.randn(3, layer.norm.num_channels, 4, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(hidden, num_frames=3)
    assert all(tensor.untyped_storage().data_ptr() == hidden.untyped_storage().data_ptr() for tensor in kept)


def test_it_may_change_in_the_middle_of_a_run(start: Path, tmp_path: Path) -> None:
    """Weights are those of a run that had it from the start, and files hold the same names."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings: dict[str, Any] = {"data__size": 32}
    run(small("motion", whole, start / "model", **settings))
    run(small("motion", cut, start / "model", **settings, steps=1))
    run(small("motion", cut, start / "model", **settings, gradient_checkpointing=True), resume=True)
    assert alike(tensors(cut / "model"), tensors(whole / "model"))
    assert same(tensors(whole / "model" / "vae"), tensors(cut / "model" / "vae"))
    assert log(whole)[-1]["loss"] == pytest.approx(log(cut)[-1]["loss"], rel=1e-5)
