"""Networks of depth, of random weights, in the layout in which transformers saves them."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Sapiens2Config,
    Sapiens2ForPointmapEstimation,
)

SAPIENS_SIZE = (128, 96)
"""``(height, width)`` that the tiny Sapiens2 sees."""


def depth_anything(kind: str = "relative") -> DepthAnythingForDepthEstimation:
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
    torch.manual_seed(0)
    model = DepthAnythingForDepthEstimation(
        DepthAnythingConfig(
            backbone_config=backbone,
            reassemble_hidden_size=16,
            neck_hidden_sizes=[8, 8, 8, 8],
            fusion_hidden_size=8,
            depth_estimation_type=kind,
            max_depth=20 if kind == "metric" else 1,
        )
    )
    for weights in model.head.parameters():  # as they are made first, what comes out hardly differs
        torch.nn.init.normal_(weights, std=0.3)
    torch.nn.init.constant_(model.head.conv3.bias, 3.0)  # above the ReLU at the end
    return model


def sapiens2() -> Sapiens2ForPointmapEstimation:
    torch.manual_seed(0)
    head = {
        "upsample_out_channels": [8, 8],
        "use_pixel_shuffle": True,
        "conv_out_channels": [8],
        "scale_conv_out_channels": [4, 4],
        "scale_conv_kernel_size": 3,
        "scale_final_hidden_sizes": [4, 4],
    }
    config = Sapiens2Config(
        image_size=list(SAPIENS_SIZE),
        patch_size=16,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_attention_heads=1,
        num_first_full_attention_layers=1,
        num_last_full_attention_layers=1,
        num_register_tokens=2,
        num_labels=3,
        head_config=head,
    )
    return Sapiens2ForPointmapEstimation(config)


def save(kind: str, folder: Path) -> Path:
    """Write ``relative``, ``metric`` (both Depth Anything) or ``points`` (Sapiens2) into a folder; returns it."""
    model = sapiens2() if kind == "points" else depth_anything(kind)
    model.save_pretrained(folder)
    return folder
