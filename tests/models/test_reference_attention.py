"""Reference attention against the paper's words, computed the long way with the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName
from diffusers.models.attention_processor import Attention
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tiny
from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.reference_attention import (
    ReferenceAttentionProcessor,
    ReferenceKeysValues,
    project_reference,
    spatial_attention_layers,
)
from animate_anyone.models.reference_net import ReferenceNet

FRAMES = 3


def attend(attn: Attention, tokens: Tensor) -> Tensor:
    """Full self-attention over ``(rows, tokens, channels)``, by the textbook."""
    heads, width = attn.heads, tokens.shape[-1] // attn.heads
    q, k, v = (
        layer(tokens).unflatten(-1, (heads, width)).transpose(1, 2) for layer in (attn.to_q, attn.to_k, attn.to_v)
    )
    weights = (q @ k.transpose(-1, -2) / width**0.5).softmax(-1)
    return attn.to_out[0]((weights @ v).transpose(1, 2).flatten(-2))


def papers_attention(attn: Attention, own: Tensor, reference: Tensor, num_unconditional: int) -> Tensor:
    """Section 3.2: repeat the reference over time, join along the width, attend, keep the own half.

    ``own`` is ``(samples * FRAMES, tokens, channels)``, ``reference`` ``(samples with one, tokens, channels)``.
    """
    plain = num_unconditional * FRAMES
    joined = torch.cat([own[plain:], reference.repeat_interleave(FRAMES, 0)], 1)
    kept = attend(attn, joined)[:, : own.shape[1]]
    return torch.cat([attend(attn, own[:plain]), kept])


class PapersProcessor:
    """The paper's words in place of ours, in a whole network; keys and values anew at every call."""

    def __init__(self, name: str, features: dict[str, Tensor], num_unconditional: int) -> None:
        self.name, self.features, self.num_unconditional = name, features, num_unconditional

    def __call__(self, attn: Attention, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return papers_attention(attn, hidden_states, self.features[self.name], self.num_unconditional)


def inputs(samples: int, frames: int = FRAMES) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, image tokens and pose features."""
    torch.manual_seed(5)
    return torch.randn(samples, 4, frames, 8, 8), torch.randn(samples, 1, 12), torch.randn(samples, 16, frames, 8, 8)


def look(net: ReferenceNet, samples: int) -> dict[str, Tensor]:
    """ReferenceNet's features of so many pictures."""
    torch.manual_seed(6)
    return dict(net(torch.randn(samples, 4, 8, 8), torch.randn(samples, 1, 12)))


@pytest.mark.parametrize(("unconditional", "conditional"), [(0, 2), (1, 1), (2, 1)])
@torch.no_grad()
def test_one_layer_is_the_papers(unconditional: int, conditional: int) -> None:
    name, attn = next(iter(spatial_attention_layers(tiny.denoising_unet()).items()))
    torch.manual_seed(1)
    own = torch.randn((unconditional + conditional) * FRAMES, 10, 16)
    features = {name: torch.randn(conditional, 7, 16)}
    keys_values = project_reference(features, {name: attn}, unconditional)
    ours = ReferenceAttentionProcessor(name)(attn, own, reference=keys_values)
    torch.testing.assert_close(ours, papers_attention(attn, own, features[name], unconditional), rtol=0, atol=1e-6)
    assert (ours - attend(attn, own))[unconditional * FRAMES :].abs().max() > 1e-2


@torch.no_grad()
def test_unconditional_rows_are_plain_self_attention() -> None:
    name, attn = next(iter(spatial_attention_layers(tiny.denoising_unet()).items()))
    own = torch.randn(2 * FRAMES, 10, 16)
    processor = ReferenceAttentionProcessor(name)
    some = processor(attn, own, reference=project_reference({name: torch.randn(1, 7, 16)}, {name: attn}, 1))
    torch.testing.assert_close(some[:FRAMES], attend(attn, own[:FRAMES]), rtol=0, atol=1e-6)
    other = processor(attn, own, reference=project_reference({name: torch.randn(1, 7, 16)}, {name: attn}, 1))
    assert torch.equal(some[:FRAMES], other[:FRAMES])
    assert not torch.equal(some[FRAMES:], other[FRAMES:])


@torch.no_grad()
def test_each_sample_sees_its_own_reference() -> None:
    name, attn = next(iter(spatial_attention_layers(tiny.denoising_unet()).items()))
    own = torch.randn(2 * FRAMES, 10, 16)
    first, second, third = torch.randn(3, 7, 16)

    def attended(*references: Tensor) -> Tensor:
        keys_values = project_reference({name: torch.stack(references)}, {name: attn})
        return ReferenceAttentionProcessor(name)(attn, own, reference=keys_values)

    one, two = attended(first, second), attended(first, third)
    assert torch.equal(one[:FRAMES], two[:FRAMES])
    assert not torch.equal(one[FRAMES:], two[FRAMES:])


@pytest.mark.parametrize("motion", [True, False])
@torch.no_grad()
def test_whole_network_is_the_papers(motion: bool) -> None:
    net, features = tiny.denoising_unet(use_motion_module=motion), look(tiny.reference_net(), 1)
    latents, tokens, pose = inputs(2)
    keys_values = net.project_reference(features, num_unconditional=1)
    ours = [net(latents, t, tokens, pose, keys_values) for t in (500, 20)]
    for name, attn in spatial_attention_layers(net).items():
        attn.set_processor(PapersProcessor(name, features, 1))
    theirs = [net(latents, t, tokens, pose) for t in (500, 20)]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert (ours[0][0] - ours[0][1]).abs().max() > 1e-2


@torch.no_grad()
def test_windows_share_the_references_keys_and_values() -> None:
    """As under guidance with two windows: rows [unconditional x 2, conditional x 2], one reference."""
    net, features = tiny.denoising_unet(), look(tiny.reference_net(), 1)
    latents, tokens, pose = inputs(2)
    keys_values = net.project_reference(features, num_unconditional=1)
    together = net(
        torch.cat([latents, latents.flip(3)])[[0, 2, 1, 3]],
        500,
        tokens.repeat_interleave(2, 0),
        torch.cat([pose, pose.flip(3)])[[0, 2, 1, 3]],
        keys_values,
    )
    apart = [net(x, 500, tokens, p, keys_values) for x, p in ((latents, pose), (latents.flip(3), pose.flip(3)))]
    torch.testing.assert_close(together, torch.stack(apart, 1).flatten(0, 1), rtol=0, atol=1e-5)


@torch.no_grad()
def test_no_reference_is_plain_self_attention_everywhere() -> None:
    net = tiny.denoising_unet()
    latents, tokens, pose = inputs(1)
    plain = net(latents, 500, tokens, pose)
    everybody_unconditional = ReferenceKeysValues(
        {n: (k[:0], v[:0]) for n, (k, v) in net.project_reference(look(tiny.reference_net(), 1)).layers.items()}, 1
    )
    assert torch.equal(plain, net(latents, 500, tokens, pose, None))
    torch.testing.assert_close(plain, net(latents, 500, tokens, pose, everybody_unconditional), rtol=0, atol=1e-6)


def test_reference_of_other_widths_is_refused() -> None:
    narrow = ReferenceNet.from_unet2d(tiny.unet2d(block_out_channels=[8, 16]))
    with pytest.raises(InputError, match=r"reference features of down_blocks\.0\..*transformer_blocks\.0 have 8 .* 16"):
        tiny.denoising_unet().project_reference(look(narrow, 1))


def test_reference_without_a_layer_is_refused() -> None:
    shallow = ReferenceNet.from_unet2d(tiny.unet2d(down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"]))
    with pytest.raises(InputError, match=r"no features for down_blocks\.0\.attentions\.0\.transformer_blocks\.0"):
        tiny.denoising_unet().project_reference(look(shallow, 1))


def test_rows_that_cannot_be_shared_out_are_refused() -> None:
    net = tiny.denoising_unet()
    latents, tokens, pose = inputs(1, frames=5)
    with pytest.raises(ValueError, match="5 rows cannot be shared among 3 samples"):
        net(latents, 500, tokens, pose, net.project_reference(look(tiny.reference_net(), 2), num_unconditional=1))


@torch.no_grad()
def test_mid_up_reads_only_the_middle_and_the_way_up() -> None:
    net, features = tiny.denoising_unet(reference_blocks="mid_up"), look(tiny.reference_net(), 1)
    keys_values = net.project_reference(features)
    assert {n.split(".")[0] for n in keys_values.layers} == {"mid_block", "up_blocks"}
    assert {n.split(".")[0] for n in tiny.denoising_unet().project_reference(features).layers} == {
        "down_blocks",
        "mid_block",
        "up_blocks",
    }
    latents, tokens, pose = inputs(1)
    before = net(latents, 500, tokens, pose, keys_values)
    changed = {n: f + 1 if n.startswith("down_blocks") else f for n, f in features.items()}
    assert torch.equal(before, net(latents, 500, tokens, pose, net.project_reference(changed)))
    changed = {n: f + torch.randn_like(f) if n.startswith("up_blocks") else f for n, f in features.items()}
    assert not torch.equal(before, net(latents, 500, tokens, pose, net.project_reference(changed)))


def test_unknown_choice_of_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="'all' or 'mid_up'"):
        DenoisingUNet.from_unet2d(tiny.unet2d(), **tiny.MOTION, reference_blocks="some")


def test_gradients_reach_keys_values_and_reference() -> None:
    net, features = tiny.denoising_unet(), look(tiny.reference_net(), 1)
    features = {n: f.detach().requires_grad_() for n, f in features.items()}
    latents, tokens, pose = inputs(1)
    keys_values = net.project_reference(features)
    out = net(latents, 500, tokens, pose, keys_values)
    pairs = [t for pair in keys_values.layers.values() for t in pair]
    for gradient in torch.autograd.grad(out.square().sum(), [*pairs, *features.values()], retain_graph=True):
        assert gradient.abs().max() > 0
    # to_k and to_v learn from the reference's tokens as from their own.
    layer = net.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1")
    for weight in (layer.to_k.weight, layer.to_v.weight):
        (whole,) = torch.autograd.grad(out.square().sum(), weight, retain_graph=True)
        cut = ReferenceKeysValues({n: (k.detach(), v.detach()) for n, (k, v) in keys_values.layers.items()})
        (own,) = torch.autograd.grad(net(latents, 500, tokens, pose, cut).square().sum(), weight)
        assert (whole - own).abs().max() > 1e-6


@pytest.mark.parametrize(("samples", "unconditional"), [(1, 0), (1, 1), (2, 1)])
def test_two_attentions_joined_by_their_sums_are_one_over_all_tokens(samples: int, unconditional: int) -> None:
    """At inference on a CPU the reference is not copied for each frame; with gradients and other backends it is."""
    net = tiny.denoising_unet()
    latents, tokens, pose = inputs(samples + unconditional)
    reference = net.project_reference(look(tiny.reference_net(), samples), num_unconditional=unconditional)
    want = net(latents, 500, tokens, pose, reference)
    with torch.no_grad():
        torch.testing.assert_close(net(latents, 500, tokens, pose, reference), want, rtol=0, atol=2e-6)
        for processor in net.attn_processors.values():
            if isinstance(processor, ReferenceAttentionProcessor):
                processor._attention_backend = AttentionBackendName.NATIVE
        torch.testing.assert_close(net(latents, 500, tokens, pose, reference), want, rtol=0, atol=2e-6)


@torch.no_grad()
def test_the_reference_is_not_copied_for_each_frame() -> None:
    """No tensor of an attention is as large as all frames' own tokens and the reference's together."""
    layer, rows, tokens, channels = Attention(16, heads=2, dim_head=8), 5, 64, 16
    own, seen = torch.randn(rows, tokens, channels), torch.randn(1, 3 * tokens, channels)
    reference = ReferenceKeysValues({"x": (layer.to_k(seen), layer.to_v(seen))})
    sizes: list[int] = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            sizes.extend(x.untyped_storage().nbytes() // 4 for x in tree_leaves(out) if isinstance(x, Tensor))
            return out

    with Sizes():
        out = ReferenceAttentionProcessor("x")(layer, own, reference=reference)
    torch.testing.assert_close(out, papers_attention_of(layer, own, seen), rtol=0, atol=2e-6)
    assert max(sizes) < rows * 3 * tokens * channels


def papers_attention_of(attn: Attention, own: Tensor, reference: Tensor) -> Tensor:
    """:func:`papers_attention` of any number of frames of one sample."""
    return attend(attn, torch.cat([own, reference.repeat(len(own), 1, 1)], 1))[:, : own.shape[1]]


def test_one_image_token_needs_no_query() -> None:
    """Softmax over one token is 1; over two, and with gradients, all is computed."""
    net = tiny.denoising_unet()
    latents, tokens, pose = inputs(2)
    asked: list[str] = []
    for name, module in net.named_modules():
        if name.endswith(".attn2.to_q") and ".attentions." in name:
            module.register_forward_hook(lambda *_, name=name: asked.append(name))
    want = net(latents, 500, tokens, pose)
    layers = len(spatial_attention_layers(net))
    assert len(asked) == layers
    with torch.no_grad():
        torch.testing.assert_close(net(latents, 500, tokens, pose), want, rtol=0, atol=2e-6)
        assert len(asked) == layers
        twice = net(latents, 500, tokens.repeat(1, 2, 1), pose)
        torch.testing.assert_close(twice, want, rtol=0, atol=2e-6)  # of two equal tokens the mean is the same
    assert len(asked) == 2 * layers
