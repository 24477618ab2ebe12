"""The frames before a clip among the keys and values of temporal attention."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.models.embeddings import SinusoidalPositionalEmbedding
from torch import Tensor, nn

import tiny
from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.reference_attention import ReferenceFeatures
from animate_anyone.models.temporal_layer import TemporalLayer
from animate_anyone.models.temporal_reference import (
    LayerReference,
    TemporalReference,
    pair_temporal_reference,
    positions_before,
    temporal_layers_with_reference,
    with_temporal_reference,
)

BEFORE, FRAMES = 2, 5


@pytest.fixture(scope="module")
def plain() -> DenoisingUNet:
    return tiny.denoising_unet(reference_blocks="mid_up")


@torch.no_grad()
def woken(unet: DenoisingUNet) -> DenoisingUNet:
    torch.manual_seed(3)
    for layer in unet.modules():
        if isinstance(layer, LayerReference):
            for linear in layer.to_out:
                nn.init.normal_(linear.weight, std=0.2)  # type: ignore[arg-type]
    return unet


@torch.no_grad()
def features(samples: int = 2, frames: int = BEFORE) -> ReferenceFeatures:
    torch.manual_seed(4)
    return tiny.reference_net()(torch.randn(samples * frames, 4, 8, 8), torch.randn(samples * frames, 1, 12))


def call(unet: DenoisingUNet, before: TemporalReference | None = None, samples: int = 2) -> Tensor:
    torch.manual_seed(5)
    latents, token = torch.randn(samples, 4, FRAMES, 8, 8), torch.randn(samples, 1, 12)
    return unet(latents, 7, token, torch.randn(samples, 16, FRAMES, 8, 8), temporal_reference=before)


def test_at_first_nothing_changes(plain: DenoisingUNet) -> None:
    """Bit for bit, given frames before or none; a network without is as it was, by its tensors' names too."""
    unet = with_temporal_reference(plain, BEFORE)
    assert unet.config["temporal_reference_frames"] == BEFORE and plain.config["temporal_reference_frames"] == 0
    assert not any("temporal_reference" in name for name in plain.state_dict())
    with torch.no_grad():
        expected = call(plain)
        assert torch.equal(call(unet), expected)
        assert torch.equal(call(unet, pair_temporal_reference(unet, features(), BEFORE)), expected)
    woken(unet)
    with torch.no_grad():
        assert torch.equal(call(unet), expected)  # without frames before its new weights count for nothing
        assert not torch.allclose(call(unet, pair_temporal_reference(unet, features(), BEFORE)), expected, atol=1e-3)


@torch.no_grad()
def test_with_its_own_output_projection_a_layer_attends_to_all_frames_together(plain: DenoisingUNet) -> None:
    """EMO's temporal attention: Z = W. Computed here by hand, of one attention."""
    unet = with_temporal_reference(plain, BEFORE)
    layer = unet.get_submodule("mid_block.motion_modules.0")
    assert isinstance(layer, TemporalLayer)
    block = layer.transformer_blocks[0]
    torch.manual_seed(6)
    layer.temporal_reference.to_out[0].weight.copy_(block.attn1.to_out[0].weight)  # type: ignore[union-attr]
    own, before = torch.randn(16, FRAMES, 32), torch.randn(1, BEFORE, 16, 32)
    (given,) = layer.temporal_reference.of_blocks(layer, 1, 16, before, None)
    out = block.attn1(own, before=given)  # type: ignore[operator]
    tokens = layer.proj_in(before[0].transpose(0, 1))  # (places, m, D): features come in as own activations do
    sinusoids = torch.tensor(
        [[f(p / 10000 ** (2 * i / 32)) for i in range(16) for f in (math.sin, math.cos)] for p in (-2, -1)]
    )
    tokens = block.norm1(tokens) + sinusoids  # type: ignore[operator]
    expected = block.attn1(own, encoder_hidden_states=torch.cat([tokens, own], 1))  # type: ignore[operator]
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


def test_positions_before_are_those_of_negative_numbers() -> None:
    positions = SinusoidalPositionalEmbedding(8, 16).pe
    before = positions_before(positions, 3)  # type: ignore[arg-type]
    assert before.shape == (1, 3, 8)
    angle = torch.tensor([-3.0, -2.0, -1.0])
    torch.testing.assert_close(before[0, :, 0], angle.sin())
    torch.testing.assert_close(before[0, :, 1], angle.cos())


@torch.no_grad()
def test_samples_are_given_their_own_or_none(plain: DenoisingUNet) -> None:
    """One reference may stand for both halves under guidance; frames before of one sample do not reach another."""
    unet = woken(with_temporal_reference(plain, BEFORE))
    both = pair_temporal_reference(unet, features(), BEFORE)
    first = call(unet, replace(both, present=torch.tensor([True, False])))
    assert torch.equal(first[1], call(unet)[1])
    torch.testing.assert_close(first[0], call(unet, both)[0])
    other = replace(both, layers={name: torch.cat([x[:1], -x[1:]]) for name, x in both.layers.items()})
    torch.testing.assert_close(call(unet, other)[0], call(unet, both)[0])
    one = pair_temporal_reference(unet, features(1), BEFORE)
    twice = replace(one, layers={name: x.repeat(2, 1, 1, 1) for name, x in one.layers.items()})
    assert torch.equal(call(unet, one), call(unet, twice))


@torch.no_grad()
def test_order_of_frames_before_counts(plain: DenoisingUNet) -> None:
    unet = woken(with_temporal_reference(plain, BEFORE))
    both = pair_temporal_reference(unet, features(), BEFORE)
    turned = replace(both, layers={name: x.flip(1) for name, x in both.layers.items()})
    assert not torch.allclose(call(unet, both), call(unet, turned), atol=1e-4)


@torch.no_grad()
def test_what_is_given_to_a_call_is_gone_after_it(plain: DenoisingUNet) -> None:
    unet = woken(with_temporal_reference(plain, BEFORE))
    layers, without = unet.motion_modules(), call(unet)
    wrong = pair_temporal_reference(unet, {k: v[:, :4] for k, v in features().items()}, BEFORE)
    with pytest.raises(InputError, match="features of frames before are 2 samples of 4 places"):
        call(unet, wrong)
    call(unet, pair_temporal_reference(unet, features(), BEFORE))
    after = unet.motion_modules()
    assert after.keys() == layers.keys() and all(after[name] is layer for name, layer in layers.items())
    assert torch.equal(call(unet), without)


def test_layers_are_those_of_spatial_attention(plain: DenoisingUNet) -> None:
    names = temporal_layers_with_reference(plain, "mid_up")
    assert names["mid_block.motion_modules.0"] == "mid_block.attentions.0.transformer_blocks.0"
    assert names["up_blocks.1.motion_modules.1"] == "up_blocks.1.attentions.1.transformer_blocks.0"
    assert not any(name.startswith("down_blocks") for name in names)
    assert "down_blocks.0.motion_modules.0" in temporal_layers_with_reference(plain, "all")


@torch.no_grad()
def test_saved_and_loaded(plain: DenoisingUNet, tmp_path: Path) -> None:
    unet = woken(with_temporal_reference(plain, BEFORE))
    unet.save_pretrained(tmp_path)
    again = DenoisingUNet.from_pretrained(tmp_path).eval()
    before = pair_temporal_reference(again, features(), BEFORE)
    assert torch.equal(call(again, before), call(unet, before))


@torch.no_grad()
def test_mismatches_are_refused(plain: DenoisingUNet) -> None:
    unet, found = with_temporal_reference(plain, BEFORE), features()
    some = "up_blocks.0.attentions.1.transformer_blocks.0"
    for message, ask in (
        ("takes none", lambda: pair_temporal_reference(plain, found, BEFORE)),
        ("3 frames before a clip were given; .* takes 1 to 2", lambda: pair_temporal_reference(unet, found, 3)),
        (
            f"no features for {some}",
            lambda: pair_temporal_reference(unet, {k: v for k, v in found.items() if k != some}, 2),
        ),
        ("7 channels; it has 32", lambda: pair_temporal_reference(unet, {**found, some: found[some][..., :7]}, 2)),
        ("takes 2 frames before a clip already", lambda: with_temporal_reference(unet, 1)),
        ("give 0, or 1 to 15", lambda: with_temporal_reference(plain, 16)),
        ("no temporal layers", lambda: with_temporal_reference(tiny.denoising_unet(use_motion_module=False), 1)),
        ("other temporal layers", lambda: call(unet, TemporalReference({"mid_block.motion_modules.0": found[some]}))),
        ("other temporal layers", lambda: call(plain, pair_temporal_reference(unet, found, 2))),
    ):
        with pytest.raises(InputError, match=message) as told:
            ask()
        assert "\n" not in str(told.value)
