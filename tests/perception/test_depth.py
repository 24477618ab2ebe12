"""Depth maps with a tiny random network: direction and sizes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import tiny_depth
from animate_anyone.conditions.limb_depth import draw_limb_depth
from animate_anyone.errors import InputError
from animate_anyone.perception.depth import DepthAnything
from people import person

FRAMES = [np.random.default_rng(i).integers(0, 255, (30, 50, 3), np.uint8) for i in range(2)]


def test_the_real_network_gives_maps_of_the_asked_size() -> None:
    estimator = DepthAnything(model=tiny_depth.depth_anything(), side=28)
    maps = estimator.estimate(FRAMES, (40, 24))
    assert maps.shape == (2, 24, 40) and maps.dtype == np.float32 and np.isfinite(maps).all()
    pose = person(2, (50, 30), torso=8, neck=(25, 6))
    assert draw_limb_depth(pose, (40, 24), maps).max() > 0


class Brightness(torch.nn.Module):
    """Says that what is bright is near, as inverse depth does."""

    def forward(self, pixels: torch.Tensor) -> SimpleNamespace:
        assert all(side % 14 == 0 for side in pixels.shape[-2:]) and min(pixels.shape[-2:]) == 28
        return SimpleNamespace(predicted_depth=pixels.mean(1))


def test_larger_is_farther() -> None:
    frame = np.zeros((30, 50, 3), np.uint8)
    frame[:, 25:] = 255
    (depth,) = DepthAnything(model=Brightness(), side=28).estimate([frame], (50, 30))
    assert depth[15, 5] > depth[15, 45]


def test_mistakes_are_told_in_one_line() -> None:
    with pytest.raises(InputError, match="Depth Anything needs weights"):
        DepthAnything()
    with pytest.raises(InputError, match="side of 8 pixels"):
        DepthAnything(model=Brightness(), side=8)
    with pytest.raises(InputError, match="no frames"):
        DepthAnything(model=Brightness()).estimate([], (8, 8))
