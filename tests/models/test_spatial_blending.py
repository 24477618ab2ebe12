"""Spatial blending by itself: the equation, its two starts, and rows without an object."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from animate_anyone.models.spatial_blending import SpatialBlending, Start


def features() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(3, 6, 5, 7), torch.randn(3, 6, 5, 7)


@torch.no_grad()
def woken() -> SpatialBlending:
    made = SpatialBlending(6)
    torch.manual_seed(1)
    nn.init.normal_(made.conv.weight, std=0.3)
    return made


@torch.no_grad()
def test_half_and_half_at_the_papers_start() -> None:
    noise, objects = features()
    blending = SpatialBlending(6, "paper")
    assert not any(parameter.any() for parameter in blending.parameters())
    assert torch.equal(blending(noise, objects), 0.5 * objects + 0.5 * noise)


@torch.no_grad()
def test_within_a_thousandth_at_the_identity_start() -> None:
    noise, objects = features()
    blending = SpatialBlending(6, "identity")
    assert not blending.conv.weight.any()
    alpha = (blending(noise, objects) - noise) / (objects - noise)
    assert 0 < alpha.median() < 1e-3
    assert (blending(noise, objects) - noise).abs().max() < 1e-3 * (objects - noise).abs().max()


@torch.no_grad()
def test_is_the_papers_equation() -> None:
    noise, objects = features()
    blending = woken()
    alpha = torch.sigmoid(F.conv2d(torch.cat([noise, objects], 1), blending.conv.weight, blending.conv.bias, padding=1))
    assert alpha.shape == (3, 1, 5, 7)
    assert alpha.std() > 0.1
    torch.testing.assert_close(blending(noise, objects), alpha * objects + (1 - alpha) * noise, rtol=0, atol=1e-6)


@torch.no_grad()
def test_all_or_nothing_is_one_of_the_two_exactly() -> None:
    noise, objects = features()
    blending = SpatialBlending(6)
    for bias, want in ((200.0, objects), (-200.0, noise)):
        nn.init.constant_(blending.conv.bias, bias)
        assert torch.equal(blending(noise, objects), want)


@torch.no_grad()
def test_rows_without_an_object_stay_bit_for_bit() -> None:
    noise, objects = features()
    blending = woken()
    out = blending(noise, objects, torch.tensor([True, False, True]))
    assert torch.equal(out[1], noise[1])
    assert torch.equal(out[[0, 2]], blending(noise, objects)[[0, 2]])
    assert not torch.equal(out[0], noise[0])


@pytest.mark.parametrize("start", ["paper", "identity"])
def test_gradients_reach_weights_and_both_features_at_once(start: Start) -> None:
    noise, objects = (x.requires_grad_() for x in features())
    blending = SpatialBlending(6, start)
    blending(noise, objects).square().sum().backward()
    for gradient in (noise.grad, objects.grad, blending.conv.weight.grad, blending.conv.bias.grad):
        assert gradient is not None
        assert gradient.abs().max() > 0
