"""Depth-wise pose modulation: a Pose Guider to begin with, and what structured depth does once it has learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from animate_anyone.errors import InputError
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.pose_modulation import DepthAttention, PoseModulation

FRAMES, SIDE = 6, 32
GUIDERS: dict[str, dict[str, Any]] = {
    "paper": {"layout": "paper"},
    "open": {"layout": "open"},
    "with places and two pictures": {"layout": "paper", "position_frequencies": 2, "conditioning_channels": 6},
}


def guider(**options: Any) -> PoseGuider:
    torch.manual_seed(0)
    made = PoseGuider(16, (4, 8, 8, 8), **options)
    tiny.wake(made)
    return made.eval()


def modulation(awake: bool = True, **options: Any) -> PoseModulation:
    torch.manual_seed(1)
    made = PoseModulation.from_pose_guider(guider(), num_attention_heads=2, **options).eval()
    if awake:
        nn.init.normal_(made.modulation_out.weight, std=0.3)
        nn.init.normal_(made.motion.weight, std=0.1)  # the other moments start at zero
    return made


def inputs(channels: int = 3, side: int = SIDE) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    return torch.rand(2, channels, FRAMES, side, side), torch.rand(2, 1, FRAMES, side, side)


@pytest.mark.parametrize("options", GUIDERS.values(), ids=GUIDERS)
@torch.no_grad()
def test_starts_as_the_pose_guider_bit_for_bit(options: dict[str, Any]) -> None:
    theirs = guider(**options)
    made = PoseModulation.from_pose_guider(theirs, num_attention_heads=2).eval()
    pictures, depth = inputs(theirs.config["conditioning_channels"])
    want = theirs(pictures)
    assert want.std() > 1e-3
    assert torch.equal(made(pictures), want)
    assert torch.equal(made(pictures, depth), want)
    for size in ((64, 96), (128, 128)):
        assert made.picture_size(size) == theirs.picture_size(size)
    assert made.picture_size((64, 64)) == theirs.picture_size((64, 64))
    own = torch.rand(2, 3, 1, SIDE, SIDE)
    assert torch.equal(made.beside(pictures[:, :3], own), theirs.beside(pictures[:, :3], own))
    nn.init.normal_(made.modulation_out.weight, std=0.3)
    assert torch.equal(made(pictures), want)
    assert (made(pictures, depth) - want).abs().max() > 1e-3


def test_weights_are_the_pose_guiders_and_its_own() -> None:
    made, theirs = modulation(), guider()
    taken = {n.removeprefix("skeleton.") for n in made.state_dict() if n.startswith(("skeleton.", "conv_out."))}
    assert taken == theirs.state_dict().keys()
    # The skeleton's convolutions see three colours, the depth's one; but for that the towers are alike.
    depth = {n.removeprefix("depth."): v.shape for n, v in made.state_dict().items() if n.startswith("depth.")}
    assert depth.pop("conv_in.weight") == (4, 1, 4, 4)
    assert all(theirs.state_dict()[name].shape == shape for name, shape in depth.items())


@torch.no_grad()
def test_depth_anywhere_in_the_frame_has_a_say_everywhere() -> None:
    """Each limb sees the others: convolutions alone reach no further than their neighbours."""
    made = modulation()
    pictures, depth = inputs(side=128)
    changed = depth.clone()
    changed[..., :16, :16] = 0
    assert (made(pictures, depth) - made(pictures, changed))[..., -1, -1].abs().min() > 0


@torch.no_grad()
def test_time_is_mixed_within_the_kernel_alone() -> None:
    pictures, depth = inputs()
    later, nearer = pictures.clone(), depth.clone()
    later[0, :, 4] = 0
    nearer[0, :, 4] = 0
    for reach, made in ((1, modulation()), (2, modulation(num_motion_frames=5)), (0, modulation(num_motion_frames=1))):
        assert made.reach == reach
        want = [[abs(frame - 4) <= reach for frame in range(FRAMES)], [False] * FRAMES]
        for changed in ((later, depth), (pictures, nearer)):
            differs = (made(pictures, depth) != made(*changed)).flatten(3).any(3).any(1)
            assert differs.tolist() == want
        alone = (made(pictures) != made(later)).flatten(3).any(3).any(1)
        assert alone[0].tolist() == [frame == 4 for frame in range(FRAMES)]


@torch.no_grad()
def test_what_single_frames_have_trained_does_the_same_to_clips() -> None:
    """At the start the other moments have no say, and single frames never train them."""
    made = modulation(awake=False)
    nn.init.normal_(made.modulation_out.weight, std=0.3)
    pictures, depth = inputs()
    whole = made(pictures, depth)
    for frame in range(FRAMES):
        one = made(pictures[:, :, frame : frame + 1], depth[:, :, frame : frame + 1])
        torch.testing.assert_close(whole[:, :, frame : frame + 1], one, rtol=0, atol=1e-5)
    with torch.enable_grad():
        made(pictures[:, :, :1], depth[:, :, :1]).sum().backward()
    gradient = made.motion.weight.grad
    assert gradient is not None
    assert gradient[:, :, 1].abs().max() > 0 and not gradient[:, :, [0, 2]].any()
    made.zero_grad()
    with torch.enable_grad():
        made(pictures, depth).sum().backward()
    assert made.motion.weight.grad is not None  # clips in a row do
    assert made.motion.weight.grad[:, :, [0, 2]].abs().amax((0, 1, 3, 4)).min() > 0


@torch.no_grad()
def test_attention_is_the_textbooks() -> None:
    torch.manual_seed(3)
    attention = DepthAttention(8, 2, 0, 1)
    skeleton, depth = torch.randn(2, 8, 3, 5), torch.randn(2, 8, 3, 5)
    asking = attention.norm_skeleton(skeleton.flatten(2).mT)
    asked = attention.norm_depth(depth.flatten(2).mT)
    q, k, v = attention.to_q(asking), attention.to_k(asked), attention.to_v(asked)
    heads = [(q[..., s] @ k[..., s].mT / 4**0.5).softmax(-1) @ v[..., s] for s in (slice(0, 4), slice(4, 8))]
    want = attention.to_out(torch.cat(heads, -1)).mT.unflatten(2, (3, 5))
    torch.testing.assert_close(attention(skeleton, depth), want, rtol=0, atol=1e-6)


@torch.no_grad()
def test_places_tell_like_depth_apart() -> None:
    """Depth that is the same everywhere: with places the answer depends on who asks, without it does not."""
    skeleton, depth = torch.zeros(1, 8, 4, 4), torch.randn(1, 8, 1, 1).expand(1, 8, 4, 4).clone()
    depth[..., 0, 0] *= -1
    for octaves in (0, 3):
        torch.manual_seed(3)
        spread = DepthAttention(8, 2, octaves, 1)(skeleton, depth).std((2, 3)).max()
        assert (spread > 1e-4) == (octaves > 0)


@pytest.mark.parametrize("side", [4, 5])
@torch.no_grad()
def test_downscale_pools_keys_and_values(side: int) -> None:
    torch.manual_seed(3)
    skeleton, depth = torch.randn(1, 8, side, side), torch.randn(1, 8, side, side)
    whole, pooled = DepthAttention(8, 2, 2, 1), DepthAttention(8, 2, 2, 2)
    pooled.load_state_dict(whole.state_dict())
    seen: list[int] = []
    pooled.to_v.register_forward_pre_hook(lambda _m, given: seen.append(given[0].shape[1]))
    out = pooled(skeleton, depth)
    assert out.shape == skeleton.shape
    assert seen == [((side + 1) // 2) ** 2]
    assert not torch.allclose(out, whole(skeleton, depth), atol=1e-4)


def test_gradients_reach_every_new_part() -> None:
    """After one step: the last convolution starts at zero, and until then it lets no gradient through to the rest."""
    made = modulation(awake=False)
    pictures, depth = inputs()
    target = torch.randn(2, 16, FRAMES, 2, 2)
    optimizer = torch.optim.SGD(made.parameters(), 0.1)

    def step() -> set[str]:
        optimizer.zero_grad()
        (made(pictures, depth) - target).square().mean().backward()
        reached = {n for n, p in made.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        optimizer.step()
        return reached

    everything = {name for name, _ in made.named_parameters()}
    behind = {n for n in everything if n.split(".")[0] in ("depth", "attention", "norm_motion", "motion")}
    assert step() == everything - behind
    assert step() == everything


@pytest.mark.parametrize("options", [{}, {"attention_downscale": 2}])
@torch.no_grad()
def test_half_precision_and_determinism(options: dict[str, Any]) -> None:
    made, (pictures, depth) = modulation(**options), inputs()
    want = made(pictures, depth)
    assert torch.equal(want, made(pictures, depth))
    got = made.to(torch.bfloat16)(pictures.bfloat16(), depth.bfloat16())
    assert got.dtype == torch.bfloat16
    assert (got.float() - want).abs().max() < 0.05 * want.abs().max()


@torch.no_grad()
def test_round_trip_through_a_folder(tmp_path: Path) -> None:
    made = modulation(attention_downscale=2, num_motion_frames=5)
    made.save_pretrained(tmp_path)
    again = PoseModulation.from_pretrained(tmp_path)
    assert again.config["attention_downscale"] == 2
    assert again.reach == 2
    weights = again.state_dict()
    assert weights.keys() == made.state_dict().keys()
    for name, value in made.state_dict().items():
        assert torch.equal(weights[name], value), name
    torch.testing.assert_close(again(*inputs()), made(*inputs()), rtol=0, atol=1e-6)


def test_depth_of_another_shape_is_refused() -> None:
    pictures, depth = inputs()
    for wrong in (depth[:, :, :4], depth[..., :16], depth.expand(-1, 3, -1, -1, -1)):
        with pytest.raises(InputError, match=r"structured depth is \(.*\); beside these pictures it is \(2, 1, 6, 32"):
            modulation()(pictures, wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_attention_heads": 3}, "8 channels cannot be shared among 3"), ({"num_motion_frames": 4}, "odd number")],
)
def test_wrong_settings_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PoseModulation(16, (4, 8, 8, 8), **options)
