"""Temporal layers switched off and on again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import tiny
from animate_anyone.models.denoising_unet import DenoisingUNet, NoMotion


@torch.no_grad()
def run(unet: DenoisingUNet, latents: Tensor) -> Tensor:
    return unet(latents, 500, torch.zeros(1, 1, tiny.UNET["cross_attention_dim"]))


def test_frames_by_themselves_within_and_together_after() -> None:
    unet = tiny.denoising_unet()
    layers = unet.motion_modules()
    assert layers
    torch.manual_seed(0)
    latents = torch.randn(1, 4, 3, 8, 8)
    alone = latents[:, :, :1]
    before = run(unet, latents)
    assert not torch.allclose(run(unet, alone), before[:, :, :1], atol=1e-4)
    with unet.without_motion():
        assert not unet.motion_modules()
        assert sum(isinstance(module, NoMotion) for module in unet.modules()) == len(layers)
        assert torch.allclose(run(unet, alone), run(unet, latents)[:, :, :1], atol=1e-5)
    assert unet.motion_modules() == layers
    assert torch.equal(run(unet, latents), before)


def test_back_after_an_error_too() -> None:
    unet = tiny.denoising_unet()
    layers = unet.motion_modules()
    with pytest.raises(KeyboardInterrupt), unet.without_motion():
        raise KeyboardInterrupt
    assert unet.motion_modules() == layers


def test_a_network_of_single_frames_has_none() -> None:
    unet = tiny.denoising_unet(use_motion_module=False)
    assert unet.motion_modules() == {}
    with unet.without_motion():
        run(unet, torch.zeros(1, 4, 1, 8, 8))
