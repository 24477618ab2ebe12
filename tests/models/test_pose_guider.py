"""Both layouts of the Pose Guider."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tiny
from animate_anyone.models.pose_guider import Layout, PoseGuider


def guider(layout: Layout, **options: object) -> PoseGuider:
    torch.manual_seed(0)
    made = PoseGuider(24, (4, 6, 8, 10), layout=layout, **options)  # type: ignore[arg-type]
    tiny.wake(made)
    return made


@pytest.mark.parametrize(("layout", "downscale"), [("paper", 16), ("open", 8)])
@torch.no_grad()
def test_shapes(layout: Layout, downscale: int) -> None:
    made = guider(layout)
    assert made.downscale == downscale
    width, height = made.picture_size((64, 96))
    assert (width, height) == (64 * downscale // 8, 96 * downscale // 8)
    assert made(torch.rand(2, 3, 5, height, width)).shape == (2, 24, 5, 12, 8)
    assert made.picture_size((64, 96), latent_downscale=4) == (2 * width, 2 * height)


@pytest.mark.parametrize("layout", ["paper", "open"])
@torch.no_grad()
def test_nothing_at_the_start(layout: Layout) -> None:
    fresh = PoseGuider(24, (4, 6, 8, 10), layout=layout)
    assert not fresh(torch.rand(1, 3, 1, 64, 64)).any()
    assert guider(layout)(torch.rand(1, 3, 1, 64, 64)).std() > 1e-3


@torch.no_grad()
def test_paper_layout_is_four_convolutions_and_a_projection() -> None:
    made = guider("paper")
    weights = made.state_dict()
    pictures = torch.rand(2, 3, 3, 64, 48)

    def layers(picture: Tensor) -> Tensor:
        for name in ("conv_in", "blocks.0", "blocks.1", "blocks.2"):
            weight = weights[f"{name}.weight"]
            assert weight.shape[2:] == (4, 4)
            picture = F.silu(F.conv2d(picture, weight, weights[f"{name}.bias"], stride=2, padding=1))
        assert weights["conv_out.weight"].shape[2:] == (3, 3)
        return F.conv2d(picture, weights["conv_out.weight"], weights["conv_out.bias"], padding=1)

    want = torch.stack([layers(frame) for frame in pictures.unbind(2)], 2)
    torch.testing.assert_close(made(pictures), want, rtol=0, atol=1e-6)
    assert len(weights) == 10


def test_paper_layouts_initial_weights_keep_the_scale() -> None:
    torch.manual_seed(0)
    made = PoseGuider(320)
    for conv in (made.conv_in, *made.blocks):
        assert conv.weight.std().item() == pytest.approx((2 / (conv.in_channels * 16)) ** 0.5, rel=0.1)
        assert not conv.bias.any()


@pytest.mark.parametrize("layout", ["paper", "open"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision(layout: Layout, dtype: torch.dtype) -> None:
    made, pictures = guider(layout), torch.rand(1, 3, 2, 64, 64)
    want = made(pictures)
    got = made.to(dtype)(pictures.to(dtype))
    assert got.dtype == dtype
    assert (got.float() - want).abs().max() < 0.05 * want.abs().max()


def test_layout_travels_with_the_weights(tmp_path: Path) -> None:
    made = guider("open")
    made.save_pretrained(tmp_path)
    again = PoseGuider.from_pretrained(tmp_path)
    assert again.config["layout"] == "open"
    assert again.downscale == 8
    pictures = torch.rand(1, 3, 1, 32, 32)
    assert torch.equal(again(pictures), made(pictures))


def test_unknown_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="'paper' or 'open'"):
        PoseGuider(16, layout="other")  # type: ignore[arg-type]


def test_the_references_pose_beside_each() -> None:
    """Six channels: every picture sees the reference's; three: it is left out."""
    pictures, own = torch.rand(2, 3, 4, 64, 64), torch.rand(2, 3, 1, 64, 64)
    both = PoseGuider(8, (4, 8, 8, 8), conditioning_channels=6).beside(pictures, own)
    assert both.shape == (2, 6, 4, 64, 64)
    assert torch.equal(both[:, :3], pictures)
    assert all(torch.equal(both[:, 3:, k], own[:, :, 0]) for k in range(4))
    assert PoseGuider(8, (4, 8, 8, 8)).beside(pictures, own) is pictures
    with pytest.raises(ValueError, match="takes the reference's pose beside each"):
        PoseGuider(8, (4, 8, 8, 8), conditioning_channels=6).beside(pictures, None)
