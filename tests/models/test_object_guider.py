"""The object guider: its layers, its grids beside the UNet's, and what counts as no object."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from animate_anyone.errors import InputError
from animate_anyone.models.object_guider import ObjectFeatures, ObjectGuider

WIDTHS = (6, 8, 10, 12)


def guider(widths: tuple[int, ...] = WIDTHS) -> ObjectGuider:
    torch.manual_seed(0)
    return ObjectGuider(4, widths).eval()


@torch.no_grad()
def test_papers_four_convolutions() -> None:
    made = guider()
    assert [(conv.kernel_size, conv.stride) for conv in made.convs] == [((3, 3), (s, s)) for s in (1, 2, 2, 2)]
    assert [conv.out_channels for conv in ObjectGuider().convs] == [320, 640, 1280, 1280]
    latents = torch.randn(2, 4, 3, 16, 24)
    x, weights = latents[1, :, 2][None], made.state_dict()
    for level, got in enumerate(made(latents).levels):
        before = x if level == 0 else F.silu(x)
        x = F.conv2d(before, weights[f"convs.{level}.weight"], weights[f"convs.{level}.bias"], min(level, 1) + 1, 1)
        torch.testing.assert_close(got[1:, :, 2], x, rtol=0, atol=1e-5)
        assert got.shape == (2, WIDTHS[level], 3, 16 // 2**level, 24 // 2**level)


@pytest.mark.parametrize("widths", [(6,), (6, 8), (6, 8, 10), WIDTHS])
@torch.no_grad()
def test_one_convolution_per_level_odd_sides_rounded_up(widths: tuple[int, ...]) -> None:
    levels = guider(widths)(torch.randn(1, 4, 2, 13, 7)).levels
    sides = [(13, 7), (7, 4), (4, 2), (2, 1)]
    assert [level.shape for level in levels] == [(1, w, 2, *side) for w, side in zip(widths, sides, strict=False)]


@torch.no_grad()
def test_frames_and_samples_know_nothing_of_each_other() -> None:
    latents = torch.randn(2, 4, 3, 8, 8)
    changed = latents.clone()
    changed[0, :, 1] += 1
    for before, after in zip(guider()(latents).levels, guider()(changed).levels, strict=True):
        differs = (before != after).flatten(3).any(3).any(1)
        assert differs.tolist() == [[False, True, False], [False, False, False]]


@torch.no_grad()
def test_a_frame_of_zeros_has_no_object() -> None:
    latents = torch.randn(2, 4, 3, 8, 8)
    latents[0, :, 1] = 0
    latents[1] = 0
    latents[1, 3, 2, 7, 7] = -0.1
    features = guider()(latents)
    assert features.present.tolist() == [[True, False, True], [False, False, True]]
    assert not features.absent().present.any()


@torch.no_grad()
def test_windows_and_batches_of_features() -> None:
    latents = torch.randn(2, 4, 5, 8, 8)
    latents[0, :, 3] = 0
    whole = guider()(latents)
    which = torch.tensor([3, 1])
    for part in (whole.of_frames(which), guider()(latents[:, :, which])):
        assert part.present.tolist() == [[False, True], [True, True]]
        for all_frames, some in zip(whole.levels, part.levels, strict=True):
            torch.testing.assert_close(some, all_frames[:, :, [3, 1]], rtol=0, atol=1e-5)
    twice = ObjectFeatures.of_samples([whole.absent(), whole])
    assert twice.present[:2].any().item() is False
    assert torch.equal(twice.present[2:], whole.present)
    assert all(torch.equal(a, torch.cat([b, b])) for a, b in zip(twice.levels, whole.levels, strict=True))


def test_latents_of_other_channels_are_refused() -> None:
    with pytest.raises(InputError, match="have 3 channels; this object guider takes 4"):
        guider()(torch.randn(1, 3, 1, 8, 8))


@torch.no_grad()
def test_half_precision() -> None:
    latents = torch.randn(1, 4, 2, 9, 8)
    want, got = guider()(latents), guider().to(torch.bfloat16)(latents.bfloat16())
    for a, b in zip(want.levels, got.levels, strict=True):
        assert b.dtype == torch.bfloat16
        assert (b.float() - a).abs().max() < 0.05 * a.abs().max()


@torch.no_grad()
def test_round_trip_through_a_folder(tmp_path: Path) -> None:
    made, latents = guider(), torch.randn(1, 4, 1, 8, 8)
    made.save_pretrained(tmp_path)
    again = ObjectGuider.from_pretrained(tmp_path)
    assert tuple(again.config["block_out_channels"]) == WIDTHS
    weights = again.state_dict()
    assert weights.keys() == made.state_dict().keys()
    for name, value in made.state_dict().items():
        assert torch.equal(weights[name], value), name
    for a, b in zip(made(latents).levels, again(latents).levels, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
