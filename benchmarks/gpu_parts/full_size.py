"""Networks of full size (Stable Diffusion 1.5 widths) with random weights, made where they are to be.

On torch's meta device they are shapes alone.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from memory import with_scene
from networks import IMAGE_ENCODER, UNET, VAE
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline

# The same parts, narrow: to try the benchmark on a CPU.
NARROW_UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (32, 32),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": 12,
}
NARROW_VAE: dict[str, Any] = {**VAE, "block_out_channels": (8, 8, 8, 16), "layers_per_block": 1, "norm_num_groups": 4}
NARROW_ENCODER: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
    "projection_dim": 12,
}


def network(kind: type, narrow: bool) -> Any:
    """A network that training starts from, float32, on torch's default device."""
    unet, vae, encoder = (NARROW_UNET, NARROW_VAE, NARROW_ENCODER) if narrow else (UNET, VAE, IMAGE_ENCODER)
    if kind is AutoencoderKL:
        return AutoencoderKL(**vae)
    if kind is CLIPVisionModelWithProjection:
        return CLIPVisionModelWithProjection(CLIPVisionConfig(**encoder))
    if kind is PoseGuider:
        return PoseGuider(unet.get("block_out_channels", (320,))[0], layout="paper")
    first = UNet2DConditionModel(**unet)
    if kind is UNet2DConditionModel:
        return first
    if kind is ReferenceNet:
        return ReferenceNet.from_unet2d(first)
    assert kind is DenoisingUNet
    return DenoisingUNet.from_unet2d(first, use_motion_module=False)


def pipeline(device: torch.device, kind: torch.dtype, *, narrow: bool, scene: bool = False) -> AnimateAnyonePipeline:
    """A pipeline of Animate Anyone, or of Animate Anyone 2 where it is told a ``scene``."""
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False)  # its tables stay on the CPU
    widths = (NARROW_UNET if narrow else UNET).get("block_out_channels", (320,))
    with torch.device(device):
        first: UNet2DConditionModel = network(UNet2DConditionModel, narrow)
        made = AnimateAnyonePipeline(
            DenoisingUNet.from_unet2d(first),
            ReferenceNet.from_unet2d(first),
            PoseGuider(widths[0], (16, 32, 96, 256), layout="open"),
            network(CLIPVisionModelWithProjection, narrow),
            network(AutoencoderKL, narrow),
            scheduler,
        )
    if scene:
        made = with_scene(made, device)
    for part in made.components.values():
        if isinstance(part, nn.Module):
            nn.Module.to(part, dtype=kind).eval().requires_grad_(False)
    made.set_progress_bar_config(disable=True)
    return made
