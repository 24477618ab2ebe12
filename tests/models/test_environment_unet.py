"""The denoising UNet of Animate Anyone 2: what it starts as, what it sees, what learns."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny
from animate_anyone.errors import InputError
from animate_anyone.first_guess.guess import join_guess
from animate_anyone.models.denoising_unet import DenoisingUNet, join_environment
from animate_anyone.models.folder import check_weights
from animate_anyone.models.object_guider import ObjectFeatures, ObjectGuider
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.pose_modulation import PoseModulation
from animate_anyone.models.reference_attention import ReferenceKeysValues, spatial_attention_layers
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.models.spatial_blending import PLACES, SpatialBlending
from animate_anyone.sampling.loading import load_network

FRAMES = 3
# As the full size: blocks without attention at the coarsest level. As `puppet`: three levels.
THREE_LEVELS: dict[str, Any] = {
    "block_out_channels": [16, 24, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 2,
}


def aa1(**changes: Any) -> DenoisingUNet:
    """A network of Animate Anyone, its motion modules awake."""
    net = DenoisingUNet.from_unet2d(tiny.unet2d(**changes), **tiny.MOTION)
    tiny.wake(net)
    return net.eval()


@torch.no_grad()
def aa2(awake: bool = True, source: DenoisingUNet | None = None, **options: Any) -> DenoisingUNet:
    """One of Animate Anyone 2; awake, its environment and blending do something."""
    net = (source or aa1()).with_environment(**options).eval()
    if awake:
        tiny.wake(net)  # the environment's part of the first convolution
        for module in net.modules():
            if isinstance(module, SpatialBlending):
                torch.nn.init.normal_(module.conv.weight, std=0.3)
    return net


def object_features(
    samples: int = 1, widths: tuple[int, ...] = (16, 32), side: tuple[int, int] = (8, 8)
) -> ObjectFeatures:
    torch.manual_seed(7)
    return ObjectGuider(4, widths)(torch.randn(samples, 4, FRAMES, *side))


def inputs(samples: int = 1, side: tuple[int, int] = (8, 8)) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Latents, environment, mask, image tokens and pose features."""
    torch.manual_seed(5)
    mask = (torch.rand(samples, 1, FRAMES, *side) > 0.5).float()
    latents, environment = torch.randn(2, samples, 4, FRAMES, *side)
    return latents, environment, mask, torch.randn(samples, 1, 12), torch.randn(samples, 16, FRAMES, *side)


def reference(net: DenoisingUNet, samples: int = 1, num_unconditional: int = 0) -> ReferenceKeysValues:
    torch.manual_seed(6)
    features = tiny.reference_net()(torch.randn(samples, 4, 8, 8), torch.randn(samples, 1, 12))
    return net.project_reference(features, num_unconditional)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("blending", ["none", "paper", "identity"])
@pytest.mark.parametrize("reference_blocks", ["all", "mid_up"])
@torch.no_grad()
def test_aa1_weights_widened_give_aa1s_output_bit_for_bit(blending: str, reference_blocks: str, place: str) -> None:
    source = aa1() if reference_blocks == "all" else tiny.denoising_unet(reference_blocks="mid_up")
    options = {"object_blending": blending, "reference_blocks": reference_blocks, "blending_place": place}
    net = aa2(awake=False, source=source, **options)
    assert net.config["in_channels"] == 9
    latents, environment, mask, tokens, pose = inputs()
    joined = join_environment(latents, environment, mask)
    want = source(latents, 500, tokens, pose, reference(source))
    assert torch.equal(net(joined, 500, tokens, pose, reference(net)), want)
    # Not because it could not see it.
    tiny.wake(net)
    assert (net(joined, 500, tokens, pose, reference(net)) - want).abs().max() > 1e-2


@pytest.mark.parametrize("place", PLACES)
@torch.no_grad()
def test_identity_start_stays_within_a_thousandth_of_aa1_with_objects(place: str) -> None:
    source = aa1()
    latents, environment, mask, tokens, pose = inputs()
    joined, objects = join_environment(latents, environment, mask), object_features()
    want = source(latents, 500, tokens, pose, reference(source))
    off = {}
    for start in ("identity", "paper"):
        net = aa2(awake=False, source=source, object_blending=start, blending_place=place, reference_blocks="all")
        off[start] = (net(joined, 500, tokens, pose, reference(net), objects) - want).abs().max().item()
    print(f"off Animate Anyone's output: identity {off['identity']:.1e} (required 1e-3), paper {off['paper']:.1e}")
    assert 0 < off["identity"] < 1e-3
    assert off["paper"] > 1e-2


@pytest.mark.parametrize(("place", "module"), [("attention", "attn1"), ("hidden", "fuser")])
@torch.no_grad()
def test_blending_comes_after_reference_attention_in_the_middle_and_up_blocks(place: str, module: str) -> None:
    """``attention``: of what it adds to the hidden state; ``hidden``: of the hidden state after it was added."""
    net, objects = aa2(source=aa1(**THREE_LEVELS), blending_place=place), object_features(widths=(16, 24, 32))
    seen: dict[str, list[Tensor]] = {}
    for name, blending in net.named_modules():
        if isinstance(blending, SpatialBlending):
            blending.register_forward_hook(lambda _m, given, out, name=name: seen.update({name: [*given, out]}))
    after: dict[str, tuple[Tensor, Tensor]] = {}
    entered: dict[str, Tensor] = {}
    onwards: dict[str, Tensor] = {}  # the hidden state that goes on to cross-attention
    for name, attn in spatial_attention_layers(net).items():
        attn.register_forward_hook(lambda _m, given, out, name=name: after.update({name: (given[0], out)}))
        block = net.get_submodule(name)
        block.register_forward_pre_hook(lambda _m, given, name=name: entered.update({name: given[0]}))
        assert isinstance(block.norm2, torch.nn.Module)
        block.norm2.register_forward_pre_hook(lambda _m, given, name=name: onwards.update({name: given[0]}))
    latents, environment, mask, tokens, pose = inputs()
    net(join_environment(latents, environment, mask), 500, tokens, pose, objects=objects)
    layers = [n for n in after if not n.startswith("down_blocks.")]
    assert layers[0].startswith("mid_block.")
    assert list(seen) == [f"{name}.{module}.spatial_blending" for name in layers]
    # Up block 0 has no attention; blocks 1 and 2 have two each.
    sides = [noise.shape[1:] for noise, *_ in seen.values()]
    assert sides == [(32, 2, 2), *[(24, 4, 4)] * 2, *[(16, 8, 8)] * 2]
    for name in layers:
        noise, given, _, blend = seen[f"{name}.{module}.spatial_blending"]
        level = {2: 2, 4: 1, 8: 0}[noise.shape[2]]
        assert torch.equal(given, objects.levels[level][0].transpose(0, 1))
        plain, (normalised, attended) = net.get_submodule(f"{name}.attn1"), after[name]
        residual = entered[name] if place == "hidden" else torch.zeros_like(entered[name])
        torch.testing.assert_close(noise.flatten(2).mT, plain(normalised) + residual, rtol=0, atol=1e-5)
        if place == "hidden":
            assert torch.equal(onwards[name], blend.flatten(2).mT)
        else:
            assert torch.equal(attended, blend.flatten(2).mT)
            assert torch.equal(onwards[name], attended + entered[name])
    for name in after.keys() - set(layers):
        assert torch.equal(onwards[name], after[name][1] + entered[name])


@torch.no_grad()
def always(net: DenoisingUNet, bias: float) -> DenoisingUNet:
    """A network whose alpha is ``sigmoid(bias)`` everywhere."""
    for module in net.modules():
        if isinstance(module, SpatialBlending):
            torch.nn.init.zeros_(module.conv.weight)
            torch.nn.init.constant_(module.conv.bias, bias)
    return net


@pytest.mark.parametrize("place", PLACES)
@torch.no_grad()
def test_alpha_of_nought_half_and_one(place: str) -> None:
    """In every block that blends, of the hidden state that flows on: nothing, half or all is the objects'."""
    net, objects = aa2(source=aa1(**THREE_LEVELS), blending_place=place), object_features(widths=(16, 24, 32))
    entered: dict[str, Tensor] = {}
    added: dict[str, Tensor] = {}
    onwards: dict[str, Tensor] = {}
    for name, attn in spatial_attention_layers(net).items():
        if name.startswith("down_blocks."):
            continue
        block = net.get_submodule(name)
        block.register_forward_pre_hook(lambda _m, given, name=name: entered.update({name: given[0]}))
        attn.to_out[1].register_forward_hook(lambda _m, _given, out, name=name: added.update({name: out}))
        assert isinstance(block.norm2, torch.nn.Module)
        block.norm2.register_forward_pre_hook(lambda _m, given, name=name: onwards.update({name: given[0]}))
    latents, environment, mask, tokens, pose = inputs()
    features = ReferenceNet.from_unet2d(tiny.unet2d(1, **THREE_LEVELS))(torch.randn(1, 4, 8, 8), tokens)
    seen = net.project_reference(features)
    given = join_environment(latents, environment, mask), 500, tokens, pose, seen
    without = net(*given)
    assert torch.equal(always(net, -200)(*given, objects), without)
    outputs = [without]
    for bias, alpha in ((0.0, 0.5), (200.0, 1.0)):
        outputs.append(always(net, bias)(*given, objects))
        assert len(onwards) == 5
        for name, state in onwards.items():
            level = objects.levels[{32: 2, 24: 1, 16: 0}[state.shape[-1]]][0]
            theirs = level.transpose(0, 1).flatten(2).mT
            if place == "hidden":
                want = alpha * theirs + (1 - alpha) * (added[name] + entered[name])
            else:
                want = alpha * theirs + (1 - alpha) * added[name] + entered[name]
            assert torch.equal(state, want), name
            if place == "hidden" and alpha == 1:
                assert torch.equal(state, theirs)
    assert all((a - b).abs().max() > 1e-2 for a, b in pairwise(outputs))


@pytest.mark.parametrize("side", [(13, 7), (8, 12), (9, 9)])
@torch.no_grad()
def test_odd_sizes_line_up(side: tuple[int, int]) -> None:
    net, objects = aa2(source=aa1(**THREE_LEVELS)), object_features(widths=(16, 24, 32), side=side)
    latents, environment, mask, tokens, pose = inputs(side=side)
    joined = join_environment(latents, environment, mask)
    out = net(joined, 500, tokens, pose, objects=objects)
    assert out.shape == latents.shape
    assert (out - net(joined, 500, tokens, pose)).abs().max() > 1e-3


@pytest.mark.parametrize("place", PLACES)
@torch.no_grad()
def test_nothing_is_blended_where_no_object_is(place: str) -> None:
    """No objects at all, samples without, frames without; without motion modules frames are apart."""
    source = DenoisingUNet.from_unet2d(tiny.unet2d(), use_motion_module=False, **tiny.MOTION).eval()
    net = aa2(source=source, blending_place=place)
    latents, environment, mask, tokens, pose = inputs(2)
    given = join_environment(latents, environment, mask), 500, tokens, pose, reference(net, num_unconditional=1)
    without, features = net(*given), object_features(2)
    present = torch.tensor([[False] * FRAMES, [True, False, True]])
    some = ObjectFeatures(features.levels, present)
    assert torch.equal(net(*given, features.absent()), without)
    differs = (net(*given, some) != without).flatten(3).any(3).any(1)
    assert torch.equal(differs, present)


@torch.no_grad()
def test_frames_see_their_own_objects_and_environment() -> None:
    source = DenoisingUNet.from_unet2d(tiny.unet2d(), use_motion_module=False, **tiny.MOTION).eval()
    net, features = aa2(source=source), object_features()
    latents, environment, mask, tokens, pose = inputs()
    before = net(join_environment(latents, environment, mask), 500, tokens, pose, objects=features)
    later = ObjectFeatures(
        tuple(x + (torch.arange(FRAMES) == 2).view(-1, 1, 1) for x in features.levels), features.present
    )
    other = environment.clone()
    other[:, :, 2] += 1
    covered = mask.clone()
    covered[:, :, 2] = 1 - covered[:, :, 2]
    for surroundings, where, objects in (
        (environment, mask, later),
        (other, mask, features),
        (environment, covered, features),
    ):
        after = net(join_environment(latents, surroundings, where), 500, tokens, pose, objects=objects)
        assert (after != before).flatten(3).any(3).any(1).tolist() == [[False, False, True]]


def test_environment_stands_last() -> None:
    latents, environment, mask, *_ = inputs(2)
    noisy = join_guess(latents, latents[:, :, :1])
    joined = join_environment(noisy, environment[:1, :, :1], mask[:1])
    assert joined.shape == (2, 13, FRAMES, 8, 8)
    assert torch.equal(joined[:, :8], noisy)
    assert all(torch.equal(frame, environment[0, :, 0]) for frame in joined[:, 8:12].transpose(1, 2).flatten(0, 1))
    assert torch.equal(joined[:, 12:], mask[:1].expand(2, -1, -1, -1, -1))


@torch.no_grad()
def test_reference_latents_keep_their_place() -> None:
    """A network that takes the reference's latents too (as `puppet`): the environment comes behind them."""
    source = tiny.denoising_unet(in_channels=8)
    net = aa2(awake=False, source=source, reference_blocks="all")
    assert (net.config["in_channels"], net.config["environment_channels"]) == (13, 5)
    latents, environment, mask, tokens, pose = inputs()
    noisy = join_guess(latents, latents[:, :, :1])
    assert torch.equal(
        net(join_environment(noisy, environment, mask), 500, tokens, pose), source(noisy, 500, tokens, pose)
    )


def training_step(place: str, checkpointing: bool = False) -> list[dict[str, Tensor]]:
    """Gradients of two steps of all the networks, from Animate Anyone's weights; those that are there and not zero."""
    net, look, objects = aa2(awake=False, blending_place=place), tiny.reference_net(), ObjectGuider(4, (16, 32))
    torch.manual_seed(1)
    guider = PoseGuider(16, (4, 8, 8, 8))
    tiny.wake(guider)
    modulation = PoseModulation.from_pose_guider(guider, num_attention_heads=2)
    networks = torch.nn.ModuleDict({"unet": net, "reference": look, "objects": objects, "poses": modulation}).train()
    if checkpointing:
        net.enable_gradient_checkpointing()
    latents, environment, mask, tokens, _ = inputs(2)
    pictures, depth = torch.rand(2, 3, FRAMES, 128, 128), torch.rand(2, 1, FRAMES, 128, 128)
    optimizer = torch.optim.SGD(networks.parameters(), 0.1)
    steps = []
    for _ in range(2):
        optimizer.zero_grad()
        kept = net.project_reference(look(latents[:, :, 0], tokens))
        joined = join_environment(latents, environment, mask)
        out = net(joined, 500, tokens, modulation(pictures, depth), kept, objects(latents))
        (out - environment).square().mean().backward()
        steps.append({n: p.grad for n, p in networks.named_parameters() if p.grad is not None and p.grad.any()})
        optimizer.step()
    return steps


@pytest.mark.parametrize("place", PLACES)
def test_gradients_reach_every_new_part(place: str) -> None:
    """The environment, the blending and the object guider at once; what lies behind pose modulation's last
    convolution, which starts at zero, after one step."""
    first, second = training_step(place)
    names = {f"unet.{n}" for n, _ in aa2(blending_place=place).named_parameters()}
    blending = {n for n in names if ".spatial_blending." in n}
    assert len(blending) == 2 * 5
    assert blending <= first.keys()
    of_objects = {f"objects.{n}" for n, _ in ObjectGuider(4, (16, 32)).named_parameters()}
    assert of_objects <= first.keys()
    assert first["unet.conv_in.weight"][:, 4:].abs().amax((0, 2, 3)).min() > 0
    of_poses = {f"poses.{n}" for n, _ in PoseModulation(16, (4, 8, 8, 8), num_attention_heads=2).named_parameters()}
    behind = {n for n in of_poses if n.split(".")[1] in ("depth", "attention", "norm_motion", "motion")}
    assert of_poses & first.keys() == of_poses - behind
    assert of_poses <= second.keys()
    checkpointed = training_step(place, checkpointing=True)[0]
    assert checkpointed.keys() == first.keys()
    for name, gradient in first.items():
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-4, atol=1e-7)


@torch.no_grad()
def test_half_precision_and_determinism() -> None:
    net, objects = aa2(), object_features()
    latents, environment, mask, tokens, pose = inputs()
    want = net(join_environment(latents, environment, mask), 500, tokens, pose, objects=objects)
    assert torch.equal(want, net(join_environment(latents, environment, mask), 500, tokens, pose, objects=objects))
    latents, tokens, pose = latents.bfloat16(), tokens.bfloat16(), pose.bfloat16()
    joined = join_environment(latents, environment, mask)
    got = net.to(torch.bfloat16)(joined, 500, tokens, pose, objects=objects)
    assert got.dtype == joined.dtype == torch.bfloat16
    assert (got.float() - want).abs().mean() < 0.05 * want.abs().mean()
    kept = aa1().to(torch.bfloat16).with_environment()
    assert {p.dtype for p in kept.parameters()} == {torch.bfloat16}


@torch.no_grad()
def test_motion_modules_join_later_with_everything_kept() -> None:
    """The image stage may come with the environment; `with_motion` then changes nothing."""
    source = DenoisingUNet.from_unet2d(tiny.unet2d(), use_motion_module=False, **tiny.MOTION).eval()
    net, objects = aa2(source=source), object_features()
    latents, environment, mask, tokens, pose = inputs()
    given = join_environment(latents, environment, mask), 500, tokens, pose, None, objects
    with_motion = net.with_motion().eval()
    assert torch.equal(with_motion(*given), net(*given))
    assert sum(".spatial_blending." in name for name, _ in with_motion.named_parameters()) == 10


@torch.no_grad()
def test_built_at_once_from_stable_diffusion() -> None:
    blending = {"object_blending": "identity", "blending_place": "hidden"}
    net = DenoisingUNet.from_unet2d(tiny.unet2d(), **tiny.MOTION, in_channels=9, environment_channels=5, **blending)
    assert not net.conv_in.weight[:, 4:].any()
    later = DenoisingUNet.from_unet2d(tiny.unet2d(), **tiny.MOTION).with_environment(
        object_blending="identity", reference_blocks="all"
    )
    assert later.config["blending_place"] == "hidden"
    assert {k: v for k, v in net.config.items() if k[0] != "_"} == {
        k: v for k, v in later.config.items() if k[0] != "_"
    }
    weights = later.state_dict()
    assert all(torch.equal(value, weights[name]) or "motion" in name for name, value in net.state_dict().items())


def test_animate_anyones_network_is_as_it_was() -> None:
    """No new key without the options, and a folder written before there were any loads strictly."""
    assert not [n for n in tiny.denoising_unet().state_dict() if "blending" in n]
    assert not [n for n in aa2(object_blending="none").state_dict() if "blending" in n]
    for place, module in (("attention", ".attn1."), ("hidden", ".fuser.")):
        added = aa2(blending_place=place).state_dict().keys() - tiny.denoising_unet().state_dict().keys()
        assert {n.split(module)[1] for n in added} == {"spatial_blending.conv.weight", "spatial_blending.conv.bias"}


@torch.no_grad()
def test_folders_are_read_strictly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "denoising_unet": aa2(object_blending="identity"),
        "object_guider": ObjectGuider(4, (16, 32)),
        "pose_modulation": PoseModulation(16, (4, 8, 8, 8), num_attention_heads=2),
    }
    missing = {
        "denoising_unet": "mid_block.attentions.0.transformer_blocks.0.fuser.spatial_blending.conv.bias",
        "object_guider": "convs.1.weight",
        "pose_modulation": "modulation_out.bias",
    }
    for part, network in parts.items():
        folder = tmp_path / part
        network.save_pretrained(folder)
        assert check_weights(folder).state_dict().keys() == network.state_dict().keys()
        again = load_network(type(network), folder)
        weights = again.state_dict()
        assert weights.keys() == network.state_dict().keys()
        for name, value in network.state_dict().items():
            assert torch.equal(weights[name], value), name
        file = folder / "diffusion_pytorch_model.safetensors"
        tensors = load_file(file)
        del tensors[missing[part]]
        save_file(tensors, file)
        with pytest.raises(InputError, match=rf"{part} has no {missing[part]}; the weights are not this model's"):
            check_weights(folder)
    config = json.loads((tmp_path / "denoising_unet" / "config.json").read_text())
    assert config["environment_channels"] == 5
    assert (config["object_blending"], config["blending_weights"]) == ("identity", "map")
    assert config["blending_place"] == "hidden"
    (tmp_path / "denoising_unet" / "config.json").write_text(json.dumps({**config, "blending_weights": "channel"}))
    with pytest.raises(InputError, match=r"blending_weights is 'channel'; it is 'map'$"):
        load_network(DenoisingUNet, tmp_path / "denoising_unet")
    # The weights themselves tell the places apart.
    (tmp_path / "denoising_unet" / "config.json").write_text(json.dumps({**config, "blending_place": "attention"}))
    with pytest.raises(InputError, match=r"has no .*attn1\.spatial_blending"):
        check_weights(tmp_path / "denoising_unet")
    # One of Animate Anyone 2 that does not say where it blends was trained to blend what attention adds.
    folder = tmp_path / "old" / "denoising_unet"
    old = aa2(blending_place="attention")
    old.save_pretrained(folder)
    before = json.loads((folder / "config.json").read_text())
    del before["blending_place"]
    (folder / "config.json").write_text(json.dumps(before))
    check_weights(folder)
    loaded = load_network(DenoisingUNet, folder)
    assert loaded.config["blending_place"] == "attention"
    latents, environment, mask, tokens, pose = inputs()
    given = join_environment(latents, environment, mask), 500, tokens, pose, None, object_features()
    torch.testing.assert_close(loaded(*given), old(*given), rtol=0, atol=1e-5)
    # A folder of Animate Anyone knows none of these settings.
    folder = tmp_path / "before" / "denoising_unet"
    aa1().save_pretrained(folder)
    before = json.loads((folder / "config.json").read_text())
    for key in ("environment_channels", "object_blending", "blending_weights", "blending_place"):
        del before[key]
    (folder / "config.json").write_text(json.dumps(before))
    assert check_weights(folder).config["environment_channels"] == 0
    assert load_network(DenoisingUNet, folder).config["object_blending"] == "none"


def test_objects_that_do_not_fit_are_refused() -> None:
    net = aa2()
    latents, environment, mask, tokens, pose = inputs()
    given = join_environment(latents, environment, mask), 500, tokens, pose
    for objects, message in (
        (object_features(widths=(16, 24)), r"widths \[16, 24\], the denoising UNet takes \[16, 32\]"),
        (object_features(side=(4, 4)), r"3 rows of 2x2 cells.* 3 rows of 16 cells"),
        (object_features(samples=2), r"6 rows of 4x4 cells.* 3 rows of 16 cells"),
    ):
        with pytest.raises(InputError, match=message):
            net(*given, objects=objects)
    with pytest.raises(InputError, match="blends no objects"):
        aa1()(latents, 500, tokens, objects=object_features())


def test_wrong_settings_are_refused() -> None:
    for options, message in (
        ({"object_blending": "half"}, "'none' or 'input' or 'paper' or 'identity'"),
        ({"blending_weights": "channel"}, "blending_weights is 'channel'; it is 'map'"),
        ({"blending_place": "after"}, "'hidden' or 'attention'"),
        ({"environment_channels": 4}, "environment_channels is 4 and in_channels 4"),
    ):
        with pytest.raises(ValueError, match=message):
            DenoisingUNet.from_unet2d(tiny.unet2d(), **tiny.MOTION, **options)
    with pytest.raises(InputError, match="has an environment or objects already"):
        aa2().with_environment()
