"""The denoising UNet and ReferenceNet against diffusers' own networks with the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import MotionAdapter, UNetMotionModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import Tensor, nn

import tiny
from animate_anyone.models.denoising_unet import DenoisingUNet, PerFrameGroupNorm
from animate_anyone.models.first_convolution import ConvWithPose
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.reference_net import ReferenceNet

FRAMES = 3


def inputs(samples: int = 1, frames: int = FRAMES) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, image tokens and pose features."""
    torch.manual_seed(5)
    return torch.randn(samples, 4, frames, 8, 8), torch.randn(samples, 1, 12), torch.randn(samples, 16, frames, 8, 8)


@torch.no_grad()
def test_single_frame_is_unet2d() -> None:
    unet = tiny.unet2d()
    net = DenoisingUNet.from_unet2d(unet, use_motion_module=False)
    latents, tokens, _ = inputs(2, frames=1)
    theirs = unet(latents[:, :, 0], 500, tokens).sample
    torch.testing.assert_close(net(latents, 500, tokens)[:, :, 0], theirs, rtol=0, atol=1e-6)


@torch.no_grad()
def test_every_frame_is_unet2d_with_its_samples_token_and_timestep() -> None:
    unet = tiny.unet2d()
    net = DenoisingUNet.from_unet2d(unet, use_motion_module=False)
    latents, tokens, _ = inputs(2)
    times = torch.tensor([700, 30])
    out = net(latents, times, tokens)
    for sample in range(2):
        for frame in range(FRAMES):
            theirs = unet(latents[sample : sample + 1, :, frame], times[sample], tokens[sample : sample + 1]).sample
            torch.testing.assert_close(out[sample : sample + 1, :, frame], theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [1, FRAMES])
@torch.no_grad()
def test_with_motion_is_unet_motion_model(frames: int) -> None:
    """Frame by frame normalisation is the one difference; on one frame there is none."""
    net = tiny.denoising_unet()
    known = UNetMotionModel._get_init_keys(UNetMotionModel)
    theirs = UNetMotionModel(**{k: v for k, v in net.config.items() if k in known}).eval()
    theirs.load_state_dict(net.state_dict())
    latents, tokens, _ = inputs(frames=frames)
    want = theirs(latents, 500, tokens.repeat_interleave(frames, 0)).sample
    got = net(latents, 500, tokens)
    if frames > 1:
        assert (got - want).abs().max() > 1e-3
        for module in theirs.modules():
            if isinstance(module, AnimateDiffTransformer3D):
                own = module.norm
                module.norm = PerFrameGroupNorm(own.num_groups, own.num_channels, own.eps)
                module.norm.load_state_dict(own.state_dict())
        want = theirs(latents, 500, tokens.repeat_interleave(frames, 0)).sample
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6)


def test_per_frame_normalisation() -> None:
    norm = PerFrameGroupNorm(2, 6)
    nn.init.normal_(norm.weight)
    video = torch.randn(2, 6, 4, 3, 5)
    each = [nn.functional.group_norm(f, 2, norm.weight, norm.bias, norm.eps) for f in video.unbind(2)]
    torch.testing.assert_close(norm(video), torch.stack(each, 2))


@torch.no_grad()
def test_zero_pose_changes_nothing_bit_for_bit() -> None:
    net, reference = tiny.denoising_unet(), tiny.reference_net()
    latents, tokens, pose = inputs()
    without = net(latents, 500, tokens)
    assert torch.equal(without, net(latents, 500, tokens, torch.zeros_like(pose)))
    assert not torch.equal(without, net(latents, 500, tokens, pose))
    features = reference(latents[:, :, 0], tokens)
    for name, value in reference(latents[:, :, 0], tokens, torch.zeros_like(pose[:, :, 0])).items():
        assert torch.equal(features[name], value)
    moved = reference(latents[:, :, 0], tokens, pose[:, :, 0])
    assert all(not torch.equal(features[name], value) for name, value in moved.items())


def test_pose_is_added_after_the_first_convolution() -> None:
    conv = nn.Conv2d(4, 6, 3, padding=1)
    slot = ConvWithPose.like(conv)
    assert slot.weight is conv.weight
    assert slot.state_dict().keys() == conv.state_dict().keys()
    latents, pose = torch.randn(2, 4, 5, 5), torch.randn(2, 6, 5, 5)
    assert torch.equal(slot(ConvWithPose.join(latents, pose)), conv(latents) + pose)
    assert torch.equal(slot(ConvWithPose.join(latents, None)), conv(latents))


def test_keys_are_stable_diffusions() -> None:
    unet = tiny.unet2d()
    assert DenoisingUNet.from_unet2d(unet, use_motion_module=False).state_dict().keys() == unet.state_dict().keys()
    left_out = {k for k in unet.state_dict() if k.startswith(("conv_norm_out.", "conv_out."))}
    assert len(left_out) == 4
    assert ReferenceNet.from_unet2d(unet).state_dict().keys() == unet.state_dict().keys() - left_out


@torch.no_grad()
def test_reference_features_are_what_enters_self_attention_at_timestep_zero() -> None:
    unet = tiny.unet2d()
    seen: dict[str, Tensor] = {}
    for name, module in unet.named_modules():
        if name.endswith(".norm1") and ".transformer_blocks." in name:
            module.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name[: -len(".norm1")], out))
    latents, tokens, _ = inputs(2, frames=1)
    unet(latents[:, :, 0], 0, tokens)
    features = ReferenceNet.from_unet2d(unet)(latents[:, :, 0], tokens)
    assert features.keys() == seen.keys()
    for name, value in seen.items():
        torch.testing.assert_close(features[name], value, rtol=0, atol=1e-6)


def test_without_motion_there_are_no_temporal_weights() -> None:
    assert tiny.denoising_unet(use_motion_module=False).motion_parameters() == []
    net = tiny.denoising_unet()
    temporal = {n for n, _ in net.named_parameters() if "motion_modules" in n}
    assert len(net.motion_parameters()) == len(temporal) > 0


@torch.no_grad()
def test_motion_adapters_weights_are_taken_over() -> None:
    torch.manual_seed(3)
    adapter = MotionAdapter(
        block_out_channels=(16, 32),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=4,
        motion_max_seq_length=16,
        use_motion_mid_block=True,
    )
    net = DenoisingUNet.from_unet2d(tiny.unet2d(), adapter, motion_norm_num_groups=4).eval()
    temporal = {k: v for k, v in net.state_dict().items() if ".motion_modules." in k}
    assert temporal.keys() == adapter.state_dict().keys()
    for name, value in adapter.state_dict().items():
        assert torch.equal(temporal[name], value), name
    assert net.config["motion_max_seq_length"] == 16
    latents, tokens, _ = inputs()
    image_stage = DenoisingUNet.from_unet2d(tiny.unet2d(), use_motion_module=False).eval()
    assert (net(latents, 500, tokens) - image_stage(latents, 500, tokens)).abs().max() > 1e-4


@torch.no_grad()
def test_fresh_motion_modules_change_nothing() -> None:
    unet = tiny.unet2d()
    image_stage = DenoisingUNet.from_unet2d(unet, use_motion_module=False, **tiny.MOTION).eval()
    latents, tokens, pose = inputs()
    want = image_stage(latents, 500, tokens, pose)
    for net in (DenoisingUNet.from_unet2d(unet, **tiny.MOTION), image_stage.with_motion()):
        assert torch.equal(net.eval()(latents, 500, tokens, pose), want)
        tiny.wake(net)
        assert not torch.equal(net(latents, 500, tokens, pose), want)
    with_motion = image_stage.with_motion()
    assert with_motion.config["use_motion_module"]
    assert {**image_stage.config, **tiny.MOTION, "use_motion_module": True}.items() >= {
        k: v for k, v in with_motion.config.items() if not k.startswith("_")
    }.items()


@torch.no_grad()
def test_frames_know_of_each_other_through_motion_alone() -> None:
    latents, tokens, _ = inputs()
    changed = latents.clone()
    changed[:, :, 2] += 1
    for motion in (True, False):
        net = tiny.denoising_unet(use_motion_module=motion)
        same = torch.equal(net(latents, 500, tokens)[:, :, 0], net(changed, 500, tokens)[:, :, 0])
        assert same != motion


def gradients(checkpointing: bool) -> dict[str, Tensor | None]:
    """Of every weight of the three networks, by one pass through all."""
    net, reference = tiny.denoising_unet(), tiny.reference_net()
    guider = PoseGuider(16, (4, 8, 8, 8))
    tiny.wake(guider)
    net.train(), reference.train()
    calls = []
    if checkpointing:
        net.enable_gradient_checkpointing()
        reference.enable_gradient_checkpointing()
    for network in (net, reference):
        network.get_submodule("down_blocks.0.resnets.0").register_forward_pre_hook(lambda *_: calls.append(1))
    latents, tokens, _ = inputs(2)
    torch.manual_seed(8)
    pose = guider(torch.rand(2, 3, FRAMES, 128, 128))
    features = reference(torch.randn(1, 4, 8, 8), tokens[1:], pose[1:, :, 0])
    net(latents, 500, tokens, pose, net.project_reference(features, num_unconditional=1)).square().mean().backward()
    assert len(calls) == (4 if checkpointing else 2)
    networks = {"denoising": net, "reference": reference, "guider": guider}
    return {f"{n}.{k}": p.grad for n, network in networks.items() for k, p in network.named_parameters()}


def test_gradients_with_and_without_checkpointing() -> None:
    plain, checkpointed = gradients(False), gradients(True)
    silent = {name for name, gradient in plain.items() if gradient is None}
    # Past its last normalisation ReferenceNet's values are not read.
    end = "reference.up_blocks.1.attentions.1."
    unread = tuple(f"{end}transformer_blocks.0.{part}" for part in ("attn1.", "attn2.", "norm2.", "norm3.", "ff."))
    assert silent == {name for name in plain if name.startswith((*unread, f"{end}proj_out."))}
    for name, gradient in plain.items():
        other = checkpointed[name]
        if gradient is None:
            assert other is None or not other.any(), name
            continue
        assert other is not None, name
        assert gradient.abs().max() > 0 or name.endswith("to_k.bias"), name
        torch.testing.assert_close(other, gradient, rtol=1e-4, atol=1e-7)


def test_pose_guiders_zero_convolution_learns() -> None:
    net, guider = tiny.denoising_unet(), PoseGuider(16, (4, 8, 8, 8))
    latents, tokens, _ = inputs()
    net(latents, 500, tokens, guider(torch.rand(1, 3, FRAMES, 128, 128))).square().mean().backward()
    assert guider.conv_out.weight.grad.abs().max() > 0
    assert not guider.conv_in.weight.grad.any()  # behind weights of zero, until the first step


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_from_unet2d_keeps_the_dtype(dtype: torch.dtype) -> None:
    unet = tiny.unet2d().to(dtype)
    for net in (DenoisingUNet.from_unet2d(unet, **tiny.MOTION), ReferenceNet.from_unet2d(unet)):
        assert {p.dtype for p in net.parameters()} == {dtype}


@torch.no_grad()
def test_networks_round_trip_through_a_folder(tmp_path: Path) -> None:
    net = tiny.denoising_unet(reference_blocks="mid_up")
    net.save_pretrained(tmp_path)
    again = DenoisingUNet.from_pretrained(tmp_path)
    assert again.config["reference_blocks"] == "mid_up"
    assert again.config["motion_norm_num_groups"] == 4
    weights = net.state_dict()
    assert again.state_dict().keys() == weights.keys()
    for name, value in again.state_dict().items():
        assert torch.equal(value, weights[name]), name
    latents, tokens, pose = inputs()
    # Loaded weights lie elsewhere in memory, and matrix products may sum in another order.
    torch.testing.assert_close(again(latents, 500, tokens, pose), net(latents, 500, tokens, pose), rtol=0, atol=1e-6)
