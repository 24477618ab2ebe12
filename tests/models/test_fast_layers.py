"""Faster forms of layers give what the plain ones give, and step aside where they must."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import Transformer2DModel
from diffusers.models.activations import GEGLU
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import tiny
from animate_anyone.models import fast_layers as fast
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.fast_layers import (
    DoublingUpsample,
    OneDnnLinear,
    choose_memory_format,
    is_channels_last,
    lay_out,
    use_fast_layers,
)
from animate_anyone.sampling.placement import Placement, put

CPU = torch.device("cpu")
LAYOUTS = (torch.contiguous_format, torch.channels_last)
onednn = pytest.mark.skipif(not fast.has_onednn_products(), reason="oneDNN has no products of its own on this CPU")


def upsampling(channels: int = 6, out: int = 5) -> Upsample2D:
    torch.manual_seed(0)
    return Upsample2D(channels, use_conv=True, out_channels=out).eval()


def kinds(network: nn.Module) -> list[type]:
    return [type(module) for module in network.modules()]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 4)])
@torch.no_grad()
def test_doubling_is_upsampling_then_convolving(size: tuple[int, int], layout: torch.memory_format) -> None:
    layer = upsampling().to(memory_format=layout)
    given = torch.randn(2, 6, *size)
    want = layer(given)
    use_fast_layers(layer)
    assert type(layer) is DoublingUpsample
    for output_size in (None, (2 * size[0], 2 * size[1])):
        got = layer(given, output_size)
        torch.testing.assert_close(got, want, rtol=0, atol=2e-6)
        assert is_channels_last(got) == (layout == torch.channels_last)
    odd = (2 * size[0] + 1, 2 * size[1])
    want = F.conv2d(F.interpolate(given, odd), *layer.conv.parameters(), padding=1)
    torch.testing.assert_close(layer(given, odd), want)


@torch.no_grad()
def test_doubling_does_four_ninths_of_the_work() -> None:
    layer, given = upsampling(64, 64), torch.randn(1, 64, 32, 32)
    counted = []
    for _ in range(2):
        with FlopCounterMode(display=False) as counter:
            layer(given)
        counted.append(counter.get_total_flops())
        use_fast_layers(layer)
    assert counted[1] / counted[0] == pytest.approx(4 / 9 * (33 / 32) ** 2)


@pytest.mark.parametrize(
    "options", [{"use_conv": False}, {"use_conv_transpose": True}, {"kernel_size": 5, "padding": 2}]
)
def test_other_upsampling_stays(options: dict[str, Any]) -> None:
    layer = Upsample2D(4, **{"use_conv": True, **options})
    use_fast_layers(layer)
    assert type(layer) is Upsample2D


@onednn
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_linear_layers_by_onednn(bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(40, 24, bias=bias)
    use_fast_layers(layer)
    assert type(layer) is OneDnnLinear
    for shape in ((3, 7, 40), (40,), (0, 40)):
        given = torch.randn(*shape)
        torch.testing.assert_close(layer(given), F.linear(given, layer.weight, layer.bias), rtol=0, atol=2e-6)
    strided = torch.randn(40, 7, 3).permute(2, 1, 0)
    torch.testing.assert_close(layer(strided), F.linear(strided, layer.weight, layer.bias), rtol=0, atol=2e-6)
    with FlopCounterMode(display=False) as counter:
        layer(torch.randn(3, 7, 40))
    assert counter.get_total_flops() == 2 * 3 * 7 * 40 * 24


@onednn
@torch.no_grad()
def test_gated_units_by_onednn() -> None:
    torch.manual_seed(0)
    for bias in (True, False):
        layer = GEGLU(40, 24, bias=bias)
        given = torch.randn(3, 7, 40)
        want = layer(given)
        use_fast_layers(layer)
        assert type(layer) is fast.OneDnnGEGLU
        with FlopCounterMode(display=False) as counter:
            torch.testing.assert_close(layer(given), want, rtol=0, atol=1e-5)
        assert counter.get_total_flops() == 2 * 3 * 7 * 40 * 48


@onednn
@pytest.mark.parametrize(
    ("channels", "kernel", "size", "work"),
    [
        ((40, 24), 1, (5, 3), 1),
        ((256, 264), 3, (2, 3), 1),  # im2col
        ((256, 264), 3, (8, 8), 1),
        ((256, 264), 3, (17, 18), 36 / 9 * (5 * 5) / (17 * 18)),  # Winograd, tiles of 4x4
        ((256, 264), 3, (64, 20), 1 / 4),
        ((256, 264), 3, (10, 10), 1),  # the convolution as it is, as below
        ((255, 264), 3, (16, 16), 1),
    ],
)
@torch.no_grad()
def test_convolutions_by_matrix_products(
    channels: tuple[int, int], kernel: int, size: tuple[int, int], work: float
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(*channels, kernel, padding=kernel // 2).to(memory_format=torch.channels_last)
    given = torch.randn(3, channels[0], *size).to(memory_format=torch.channels_last)
    want = layer(given)
    use_fast_layers(layer)
    assert type(layer) is fast.FastConv2d
    with FlopCounterMode(display=False) as counter:
        got = layer(given)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4 * float(want.abs().max()))
    assert is_channels_last(got)
    direct = 2 * 3 * size[0] * size[1] * channels[0] * channels[1] * kernel**2
    kernels = 2 * 36 * 9 * channels[0] * channels[1] if work != 1 else 0
    assert counter.get_total_flops() == pytest.approx(work * direct + kernels)


@pytest.mark.parametrize("change", [{"stride": 2}, {"padding": 0}, {"dilation": 2}, {"groups": 2}])
@torch.no_grad()
def test_other_convolutions_stay(change: dict[str, int]) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(256, 256, 3, **{"padding": 1, **change}).to(memory_format=torch.channels_last)  # type: ignore[arg-type]
    given = torch.randn(1, 256, 8, 8).to(memory_format=torch.channels_last)
    want = layer(given)
    use_fast_layers(layer)
    assert torch.equal(layer(given), want)


class Wrapped(Tensor):
    """Stands for quantised or sharded weights: nothing is known of it but what PyTorch's own functions do with it."""


@onednn
def test_where_layers_compute_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """With gradients, in other number types, with weights of other classes, on other devices."""
    layers = nn.ModuleList([nn.Linear(4, 4), upsampling(4, 4)])
    use_fast_layers(layers)

    def refuse(*_: Any) -> None:
        raise AssertionError("the faster form was taken")

    monkeypatch.setattr(fast, "doubling_kernels", refuse)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", refuse)
    layers[0](torch.randn(2, 4)).sum().backward()
    layers[1](torch.randn(1, 4, 3, 3)).sum().backward()
    assert all(weight.grad is not None for weight in layers.parameters())
    with torch.no_grad():
        layers.double()
        layers[0](torch.randn(2, 4).double())
        layers.float()
        layers[0].weight = nn.Parameter(layers[0].weight.detach().as_subclass(Wrapped))
        layers[0](torch.randn(2, 4))
        layers.to("meta")
        layers[0](torch.randn(2, 4, device="meta"))
        layers[1](torch.randn(1, 4, 3, 3, device="meta"))


def test_what_is_given_is_taken_back() -> None:
    net = tiny.denoising_unet()
    before, names = kinds(net), list(net.state_dict())
    use_fast_layers(net)
    assert kinds(net) != before and list(net.state_dict()) == names
    use_fast_layers(net, ["upsampling"])
    assert {OneDnnLinear, fast.ChannelsLastTransformer}.isdisjoint(kinds(net)) and DoublingUpsample in kinds(net)
    use_fast_layers(net, [])
    assert kinds(net) == before


def test_a_network_that_is_channels_last_is_written_as_before(tmp_path: Path) -> None:
    net = tiny.denoising_unet()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    lay_out(net, torch.channels_last)
    lay_out(net, torch.channels_last)
    assert is_channels_last(net.conv_in.weight) and len(net._state_dict_hooks) == 1
    assert all(value.is_contiguous() and torch.equal(value, before[name]) for name, value in net.state_dict().items())
    net.save_pretrained(tmp_path)
    again = DenoisingUNet.from_pretrained(tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in again.state_dict().items())
    again.load_state_dict(net.state_dict())


@pytest.mark.parametrize("linear_projection", [False, True])
@torch.no_grad()
def test_a_spatial_transformer_keeps_channels_last(linear_projection: bool) -> None:
    torch.manual_seed(0)
    layer = Transformer2DModel(
        2, 8, in_channels=16, norm_num_groups=4, use_linear_projection=linear_projection, cross_attention_dim=12
    ).eval()
    given, tokens = torch.randn(2, 16, 5, 3), torch.randn(2, 3, 12)
    want = layer(given, tokens).sample
    use_fast_layers(layer)
    for layout in LAYOUTS:
        nn.Module.to(layer, memory_format=layout)
        got = layer(given.to(memory_format=layout), tokens).sample
        torch.testing.assert_close(got, want, rtol=0, atol=2e-6)
        assert is_channels_last(got) == (layout == torch.channels_last)


@torch.no_grad()
def test_a_temporal_layer_keeps_channels_last() -> None:
    net = tiny.denoising_unet()
    layer = next(iter(net.motion_modules().values()))
    given = torch.randn(2 * 3, layer.norm.num_channels, 4, 5)
    want = layer(given, num_frames=3)
    got = layer(given.to(memory_format=torch.channels_last), num_frames=3)
    torch.testing.assert_close(got, want, rtol=0, atol=2e-6)
    assert is_channels_last(got) and not is_channels_last(want)


def test_a_temporal_layer_behind_frozen_layers_is_trained() -> None:
    """PyTorch's backward pass of GroupNorm ends the process where its input has channels last and no gradient."""
    child = multiprocessing.get_context("spawn").Process(target=train_behind_frozen_layers)
    child.start()
    child.join()
    assert child.exitcode == 0


def train_behind_frozen_layers() -> None:
    """A backward pass of a temporal layer, whose input has channels last and needs no gradient."""
    layer = next(iter(tiny.denoising_unet().motion_modules().values()))
    given = torch.randn(2 * 3, layer.norm.num_channels, 4, 5).to(memory_format=torch.channels_last)
    layer(given, num_frames=3).square().sum().backward()
    assert layer.norm.weight.grad is not None


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_the_whole_network_is_the_same(layout: torch.memory_format) -> None:
    net: DenoisingUNet = tiny.denoising_unet()
    torch.manual_seed(5)
    latents, tokens, pose = torch.randn(2, 4, 3, 8, 8), torch.randn(2, 1, 12), torch.randn(2, 16, 3, 8, 8)
    features = tiny.reference_net()(torch.randn(1, 4, 8, 8), tokens[:1])
    reference = net.project_reference(features, num_unconditional=1)
    want = net(latents, 500, tokens, pose, reference)
    use_fast_layers(net)
    lay_out(net, layout)
    torch.testing.assert_close(net(latents, 500, tokens, pose, reference), want, rtol=0, atol=1e-5)


def test_put_onto_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide networks with channels last; none on a GPU; nothing by oneDNN where it has no products."""
    wide, narrow = ({"block_out_channels": widths} for widths in ([64, 128], [32, 128]))
    net = nn.Module()
    for onednn_there in (True, False):
        monkeypatch.setattr(fast, "has_onednn_products", lambda there=onednn_there: there)
        net.config = wide  # type: ignore[assignment]
        assert (choose_memory_format(net, CPU) == torch.channels_last) == onednn_there
        assert choose_memory_format(net, torch.device("cuda")) == torch.contiguous_format
        net.config = narrow  # type: ignore[assignment]
        assert choose_memory_format(net, CPU) == torch.contiguous_format
    unet = tiny.denoising_unet()
    use_fast_layers(unet)
    assert DoublingUpsample in kinds(unet) and OneDnnLinear not in kinds(unet)
    monkeypatch.undo()
    pipeline = tiny.pipeline()
    networks = pipeline.denoising_unet, pipeline.vae
    assert not any(DoublingUpsample in kinds(network) for network in networks)  # a run's own, when it is saved
    monkeypatch.setattr(fast, "NARROW", 1)
    put(pipeline, Placement(device="cpu"), CPU)
    assert all(DoublingUpsample in kinds(network) for network in networks)
    assert is_channels_last(pipeline.vae.decoder.conv_in.weight) == fast.has_onednn_products()
