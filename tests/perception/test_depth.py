"""Depth maps with a tiny random network: direction and sizes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

from animate_anyone.conditions.limb_depth import draw_limb_depth
from animate_anyone.errors import InputError
from animate_anyone.perception.depth import DepthAnything
from people import person

FRAMES = [np.random.default_rng(i).integers(0, 255, (30, 50, 3), np.uint8) for i in range(2)]


def test_the_real_network_gives_maps_of_the_asked_size() -> None:
    torch.manual_seed(0)
    backbone = {
        "model_type": "dinov2",
        "hidden_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
        "out_indices": [1, 2, 3, 4],
        "apply_layernorm": True,
        "reshape_hidden_states": False,
    }
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8
    )
    estimator = DepthAnything(model=DepthAnythingForDepthEstimation(config), side=28)
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
