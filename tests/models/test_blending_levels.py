"""Spatial blending at levels without attention too, for small networks whose finest level has none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet, join_environment
from animate_anyone.models.object_guider import ObjectFeatures, ObjectGuider
from animate_anyone.models.spatial_blending import SpatialBlending
from animate_anyone.sampling.loading import load_network

FRAMES, WIDTHS = 3, (16, 24)
FINEST: dict[str, Any] = {  # no attention at the finest level, as `puppet-environment` has it
    "block_out_channels": WIDTHS,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": 2,
}
BLENDINGS = [f"up_blocks.1.spatial_blending.{number}.conv" for number in range(2)]


def network(**options: Any) -> DenoisingUNet:
    net = DenoisingUNet.from_unet2d(tiny.unet2d(**FINEST), **tiny.MOTION)
    tiny.wake(net)
    net = net.with_environment(**{"blending_levels": "all", **options}).eval()
    tiny.wake(net)
    return net


def inputs() -> tuple[Tensor, int, Tensor, Tensor]:
    """Latents with the environment and the mask, timestep, image tokens, pose features."""
    torch.manual_seed(5)
    latents, environment = torch.randn(2, 1, 4, FRAMES, 8, 8)
    mask = (torch.rand(1, 1, FRAMES, 8, 8) > 0.5).float()
    return join_environment(latents, environment, mask), 500, torch.randn(1, 1, 12), torch.randn(1, 16, FRAMES, 8, 8)


def features() -> ObjectFeatures:
    torch.manual_seed(7)
    return ObjectGuider(4, WIDTHS)(torch.randn(1, 4, FRAMES, 8, 8))


def blendings(net: nn.Module) -> Iterator[SpatialBlending]:
    return (module for module in net.modules() if isinstance(module, SpatialBlending))


@torch.no_grad()
def test_the_finest_level_takes_the_place_of_what_runs_through_it() -> None:
    """alpha = 1 after the last residual block: the temporal layer behind it is given the object's features."""
    net, objects = network(), features()
    net.up_blocks[1].spatial_blending[1].conv.bias.fill_(100.0)
    given: list[Tensor] = []
    net.up_blocks[1].motion_modules[1].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    net(*inputs(), None, objects)
    assert torch.equal(given[0], objects.levels[0].transpose(1, 2).flatten(0, 1))


@torch.no_grad()
def test_only_frames_with_an_object_are_blended() -> None:
    net, objects = network(), features()
    before, names = net(*inputs()), list(net.state_dict())
    assert (net(*inputs(), None, objects) - before).abs().max() > 1e-2
    assert torch.equal(net(*inputs(), None, objects.absent()), before)
    assert [name for name in names if "spatial_blending" in name and "up_blocks.1" in name] == [
        f"{name}.{part}" for name in BLENDINGS for part in ("weight", "bias")
    ]
    assert list(net.state_dict()) == names  # nothing is left of what stood around the residual blocks
    few = ObjectFeatures(objects.levels, torch.tensor([[True, False, False]]))
    with net.without_motion():  # which tells frames of each other
        same = (net(*inputs(), None, few) == net(*inputs())).flatten(3).all(3)[0].all(0)
    assert same.tolist() == [False, True, True]


@pytest.mark.parametrize("place", ["hidden", "attention"])
def test_gradients_reach_it(place: str) -> None:
    """Also where residual blocks are computed again on the way back."""
    found = []
    for checkpointing in (False, True):
        net, guider = network(blending_place=place).train(), ObjectGuider(4, WIDTHS)
        torch.manual_seed(3)
        for parameter in guider.parameters():
            nn.init.normal_(parameter, std=0.2)
        if checkpointing:
            net.enable_gradient_checkpointing()
        net(*inputs(), None, guider(inputs()[0][:, :4])).square().mean().backward()
        parts = (*net.named_parameters(), *guider.named_parameters())
        found.append({name: p.grad for name, p in parts if p.grad is not None and p.grad.any()})
    assert {f"{name}.weight" for name in BLENDINGS} <= found[0].keys()
    assert {"convs.0.weight", "convs.1.weight"} <= found[0].keys()
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-7)


@torch.no_grad()
def test_saved_and_loaded(tmp_path: Path) -> None:
    net, objects = network(), features()
    for blending in blendings(net):
        nn.init.normal_(blending.conv.weight, std=0.3)
    net.save_pretrained(tmp_path / "denoising_unet")
    loaded = load_network(DenoisingUNet, tmp_path / "denoising_unet")
    assert loaded.config["blending_levels"] == "all"
    torch.testing.assert_close(loaded(*inputs(), None, objects), net(*inputs(), None, objects), rtol=0, atol=1e-5)
    assert loaded.with_objects("paper", "hidden", "all").state_dict().keys() == net.state_dict().keys()
    fewer = net.state_dict().keys() - loaded.with_objects("paper").state_dict().keys()
    assert fewer == {f"{name}.{part}" for name in BLENDINGS for part in ("weight", "bias")}


def test_what_does_not_fit_is_refused() -> None:
    net, objects = network(), features()
    levels = (objects.levels[0][..., :4, :4], objects.levels[1])
    with pytest.raises(InputError, match=r"up_blocks.1.resnets.0 are 3 rows of 4x4 cells, 16 channels; .* 64 cells"):
        net(*inputs(), None, ObjectFeatures(levels, objects.present))
    with pytest.raises(ValueError, match="blending_levels is 'finest'; it is 'attention' or 'all'"):
        DenoisingUNet.from_unet2d(tiny.unet2d(), **tiny.MOTION, blending_levels="finest")
