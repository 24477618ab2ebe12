"""How large the networks are at full size (Stable Diffusion 1.5 widths), and what a video costs in operations.

python benchmarks/networks.py

Everything is built on torch's meta device: shapes without values, so neither memory nor weights are needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from machine import add_output, table, versions, write
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.image_tokens import image_tokens
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.reference_net import ReferenceNet

# The configurations that Stable Diffusion 1.5 and CLIP ViT-L/14 are published with, where they differ from
# the libraries' defaults.
UNET = {"sample_size": 64, "attention_head_dim": 8, "cross_attention_dim": 768}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "sample_size": 512,
}
IMAGE_ENCODER = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 768,
}


def build() -> dict[str, nn.Module]:
    """The parts of a model, without values."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNET)
        return {
            "denoising UNet": DenoisingUNet.from_unet2d(unet),
            "ReferenceNet": ReferenceNet(**UNET),
            "Pose Guider, layout paper": PoseGuider(layout="paper"),
            "Pose Guider, layout open": PoseGuider(layout="open"),
            "image encoder (CLIP ViT-L/14)": CLIPVisionModelWithProjection(CLIPVisionConfig(**IMAGE_ENCODER)),
            "VAE": AutoencoderKL(**VAE),
        }


def parameters(parts: dict[str, nn.Module]) -> list[list[str]]:
    """Name and millions of parameters of each part; of the denoising UNet its temporal layers too."""
    rows = []
    for name, network in parts.items():
        rows.append([name, f"{_millions(network.parameters()):.2f}"])
        if isinstance(network, DenoisingUNet):
            rows.append(["of which temporal layers", f"{_millions(network.motion_parameters()):.2f}"])
    return rows


def operations(parts: dict[str, Any], side: int, frames: int) -> list[list[str]]:
    """What each step of the way costs, in 10^12 operations; how often it is done for a video of one window."""
    grid, unet, guider = side // 8, parts["denoising UNet"], parts["Pose Guider, layout paper"]
    token, latent = torch.empty(1, 1, 768), torch.empty(1, 4, grid, grid)
    picture, drawn = torch.empty(1, 3, side, side), torch.empty(1, 3, 1, 2 * side, 2 * side)
    video, pose = torch.empty(1, 4, frames, grid, grid), torch.empty(1, 320, frames, grid, grid)
    features = parts["ReferenceNet"](latent, token)
    reference = unet.project_reference(features)
    work: list[tuple[str, str, Callable[[], Any]]] = [
        ("image encoder", "once", lambda: image_tokens(parts["image encoder (CLIP ViT-L/14)"], picture)),
        ("VAE, encoding the reference", "once", lambda: parts["VAE"].encode(picture)),
        ("ReferenceNet", "once", lambda: parts["ReferenceNet"](latent, token)),
        ("keys and values of the reference", "once", lambda: unet.project_reference(features)),
        ("Pose Guider, layout paper", "per frame", lambda: guider(drawn)),
        ("denoising UNet, conditional half", "per step", lambda: unet(video, 1, token, pose, reference)),
        ("denoising UNet, unconditional half", "per step", lambda: unet(video, 1, token, pose)),
        ("VAE, decoding", "per frame", lambda: parts["VAE"].decode(latent)),
    ]
    return [[name, when, f"{_tera(action):.3f}"] for name, when, action in work]


def _millions(weights: Any) -> float:
    return sum(weight.numel() for weight in weights) / 1e6


def _tera(action: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops() / 1e12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=768, help="of the square frames, pixels")
    parser.add_argument("--frames", type=int, default=24, help="of the window")
    add_output(parser, "networks.md")
    asked = parser.parse_args()
    parts = build()
    with torch.device("meta"), torch.no_grad():
        costs = operations(parts, asked.side, asked.frames)
    write(
        asked.output,
        "Networks at full size",
        table(["part", "parameters, millions"], parameters(parts)),
        f"One video of {asked.side}x{asked.side} pixels, {asked.frames} frames, one window. An operation is an "
        "addition or a multiplication; those of matrix products, attention and convolutions are counted.",
        table(["work", "how often", "10^12 operations"], costs),
        f"Counted, not timed: the same on any machine. {versions()}.",
    )


if __name__ == "__main__":
    main()
