"""Every effect of the camera does what it says, and nothing where it is off."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from animate_anyone.synthetic.picture.camera_effects import CameraEffects, photograph, sample_effects

CLEAN = CameraEffects()


def streams(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, k]) for k in range(count)]


def taken(frames: Tensor, seed: int = 0, **settings: object) -> Tensor:
    return photograph(frames, replace(CLEAN, **settings), streams(len(frames), seed))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def frames() -> Tensor:
    """Two like frames ``(2, 32, 40, 3)`` of coloured squares."""
    lots = np.random.default_rng(5).uniform(0.2, 0.8, (8, 10, 3)).repeat(4, 0).repeat(4, 1)
    return torch.as_tensor(lots, dtype=torch.float32).expand(2, -1, -1, -1).clone()


def detail(frames: Tensor) -> float:
    return float((frames[:, :, 1:] - frames[:, :, :-1]).square().mean())


def test_no_effect_changes_nothing(frames: Tensor) -> None:
    assert torch.equal(taken(frames), frames)


def test_exposure_and_balance_scale(frames: Tensor) -> None:
    assert torch.allclose(taken(frames, exposure=0.5), 0.5 * frames)
    warm = taken(frames, balance=(1.1, 0.8))
    assert torch.allclose(warm, frames * torch.tensor([1.1, 1.0, 0.8]))


def test_vignette_darkens_corners_most(frames: Tensor) -> None:
    share = (taken(frames, vignette=0.4) / frames)[0, :, :, 1]
    assert share[16, 20] > 0.99 and share[0, 0] < 0.65
    assert share[0, 0] < share[0, 20] < share[16, 20]


def test_blur_and_shake_take_detail_and_keep_the_mean(frames: Tensor) -> None:
    soft = taken(frames, blur=0.04)
    assert detail(soft) < 0.6 * detail(frames)
    assert abs(float(soft.mean() - frames.mean())) < 0.02
    streak = taken(frames, shake=(0.15, 0.0))  # along x: detail along y remains
    along, across = detail(streak) / detail(frames), detail(streak.transpose(1, 2)) / detail(frames.transpose(1, 2))
    assert along < 0.5 * across


def test_fringes_are_red_and_blue(frames: Tensor) -> None:
    plain, fringed = taken(frames, blur=0.03), taken(frames, blur=0.03, fringe=0.8)
    assert torch.allclose(plain[..., 1], fringed[..., 1], atol=1e-3)
    assert detail(fringed[..., 0]) < 0.9 * detail(plain[..., 0])
    assert detail(fringed[..., 2]) < 0.9 * detail(plain[..., 2])


def test_bloom_spreads_bright_light_alone() -> None:
    dark = torch.full((1, 32, 32, 3), 0.3)
    assert torch.allclose(taken(dark, bloom=0.3), dark)
    lit = dark.clone()
    lit[:, 12:20, 12:20] = 1.0
    assert (taken(lit, bloom=0.3) - lit)[0, 8, 16].min() > 0.01


def test_sensor_noise_is_fresh_in_every_frame_and_grows_with_light() -> None:
    grey = torch.full((2, 64, 64, 3), 0.25)
    dark, bright = taken(grey, shot=0.04, read=0.01), taken(2 * grey, shot=0.04, read=0.01)
    assert not torch.equal(dark[0], dark[1])
    assert float(dark.std()) == pytest.approx((0.01**2 + 0.25 * 0.04**2) ** 0.5, rel=0.05)
    assert float(bright.std()) == pytest.approx((0.01**2 + 0.5 * 0.04**2) ** 0.5, rel=0.05)
    assert torch.equal(dark, taken(grey, shot=0.04, read=0.01))
    assert not torch.equal(dark, taken(grey, seed=1, shot=0.04, read=0.01))


def test_grading(frames: Tensor) -> None:
    assert torch.allclose(taken(frames, gamma=2.0), frames**2, atol=1e-6)
    assert torch.allclose(taken(frames, contrast=0.5), 0.25 + 0.5 * frames, atol=1e-6)
    grey = taken(frames, saturation=0.0)
    assert torch.allclose(grey[..., 0], grey[..., 2], atol=1e-6)


def test_compression_changes_frames_but_not_far(frames: Tensor) -> None:
    far = [float((taken(frames, quality=q) - frames).abs().mean()) for q in (95, 50, 10)]
    assert 0 < far[0] < far[1] < far[2] < 0.2
    assert far[0] < 0.05
    assert detail(taken(frames, zoom=0.4)) < 0.7 * detail(frames)


def test_a_clip_has_one_camera(frames: Tensor) -> None:
    """Like frames come out alike where there is no noise to tell them apart."""
    for seed in range(4):
        effects = replace(sample_effects(np.random.default_rng(seed)), shot=0.0, read=0.0)
        one, other = photograph(frames, effects, streams(2))
        assert torch.equal(one, other)
        assert one.shape == frames.shape[1:] and 0 <= float(one.min()) <= float(one.max()) <= 1
        assert not torch.equal(one, frames[0])


def test_cameras_are_drawn_within_their_ranges() -> None:
    drawn = [sample_effects(np.random.default_rng(seed)) for seed in range(200)]
    assert drawn[7] == sample_effects(np.random.default_rng(7))
    for field in fields(CameraEffects):
        assert len({getattr(e, field.name) for e in drawn}) > 10, field.name
    assert {e.quality for e in drawn} & {0} and max(e.quality for e in drawn) <= 95
    assert all(0 <= e.vignette < 1 and 0 < e.zoom <= 1 and min(e.blur, e.shot, e.read, e.bloom) >= 0 for e in drawn)
