"""A whole model of a few thousand weights: every part real, nothing trained, and nothing that is zero at the start.

What training starts from zero (the Pose Guider's last convolution, the motion modules' last projections) gets
random weights here, or a test could not see pose or motion.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.object_guider import ObjectGuider
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.pose_modulation import PoseModulation
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline

UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [16, 32],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": [2, 4],
    "norm_num_groups": 4,
    "cross_attention_dim": 12,
}
MOTION: dict[str, Any] = {
    "motion_num_attention_heads": 2,
    "motion_norm_num_groups": 4,
    "motion_max_seq_length": 16,
}
VAE: dict[str, Any] = {
    "block_out_channels": [8, 8, 8, 16],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "sample_size": 64,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
IMAGE_ENCODER: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
    "projection_dim": 12,
}
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": True,
}
PIPELINE: dict[str, Any] = {
    "size": (64, 64),
    "skeleton_style": "scaled",
    "reference_pose": True,
    "guidance_scale": 2.0,
    "window": 8,
    "overlap": 2,
}


Given = ParamSpec("Given")
Made = TypeVar("Made")


def copied(make: Callable[Given, Made]) -> Callable[Given, Made]:
    """What a function makes for the same arguments is made once; each call returns a copy, and leaves the random
    numbers of PyTorch where making it would have left them.
    """
    kept: dict[str, tuple[Any, torch.Tensor]] = {}

    @wraps(make)
    def copy(*args: Given.args, **kwargs: Given.kwargs) -> Made:
        key = repr((args, sorted(kwargs.items())))
        if key not in kept:
            kept[key] = make(*args, **kwargs), torch.get_rng_state()
        made, state = kept[key]
        torch.set_rng_state(state)
        return _copy(made, {})

    return copy


def _copy(made: Any, memo: dict[int, Any]) -> Any:
    """As :func:`deepcopy`, a network or a pipeline; several times as fast."""
    if id(made) in memo:
        return memo[id(made)]
    new = memo[id(made)] = made.__class__.__new__(made.__class__)
    for name, value in vars(made).items():
        if isinstance(value, nn.Module):
            value = _copy(value, memo)
        elif name == "_modules":
            value = {key: None if part is None else _copy(part, memo) for key, part in value.items()}
        elif isinstance(value, dict) and not value:
            value = value.copy()
        elif not isinstance(value, str | int | float | None):
            value = deepcopy(value, memo)
        vars(new)[name] = value
    return new


@copied
def unet2d(seed: int = 0, **changes: Any) -> UNet2DConditionModel:
    """A UNet as Stable Diffusion's, tiny."""
    torch.manual_seed(seed)
    return UNet2DConditionModel(**{**UNET, **changes}).eval()


@torch.no_grad()
def wake(module: nn.Module, seed: int = 0) -> None:
    """Random weights for what training starts from zero effect."""
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, PoseGuider):
            nn.init.normal_(part.conv_out.weight, std=0.3)
        if isinstance(part, AnimateDiffTransformer3D):
            nn.init.normal_(part.proj_out.weight, std=0.3)
        if isinstance(part, DenoisingUNet):
            nn.init.normal_(part.conv_in.weight[:, UNET["in_channels"] :], std=0.3)


@copied
def denoising_unet(seed: int = 0, **options: Any) -> DenoisingUNet:
    """A denoising UNet with motion modules that do something."""
    net = DenoisingUNet.from_unet2d(unet2d(seed), **{**MOTION, **options})
    wake(net, seed)
    return net.eval()


@copied
def reference_net(seed: int = 1) -> ReferenceNet:
    """A ReferenceNet that fits :func:`denoising_unet`."""
    return ReferenceNet.from_unet2d(unet2d(seed)).eval()


@copied
def pipeline(**changes: Any) -> AnimateAnyonePipeline:
    """Animates at 64x64 in windows of 8 frames; ``changes`` to the pipeline's own options."""
    unet = denoising_unet(in_channels=UNET["in_channels"] * (2 if changes.get("reference_latents") else 1))
    torch.manual_seed(3)
    guider = PoseGuider(
        UNET["block_out_channels"][0],
        (4, 8, 8, 8),
        conditioning_channels=6 if changes.get("reference_latents") else 3,  # as `puppet` has both
    ).eval()
    wake(guider)
    torch.manual_seed(2)
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**IMAGE_ENCODER)).eval()
    vae = AutoencoderKL(**VAE).eval()
    vae.register_to_config(scaling_factor=1.0)
    return AnimateAnyonePipeline(
        unet, reference_net(), guider, encoder, vae, DDIMScheduler(**SCHEDULER), **{**PIPELINE, **changes}
    )


@copied
def environment_pipeline(
    object_blending: str = "paper", modulated: bool = True, **changes: Any
) -> AnimateAnyone2Pipeline:
    """As :func:`pipeline`, for Animate Anyone 2: sees an environment, blends objects, is told depth.

    Args:
        object_blending: ``none`` has no object guider.
        modulated: False has a Pose Guider and no pose modulation.
        changes: to the pipeline's own options.
    """
    channels = UNET["in_channels"]
    unet = denoising_unet(
        in_channels=(2 + bool(changes.get("reference_latents"))) * channels + 1,
        environment_channels=channels + 1,
        object_blending=object_blending,
        reference_blocks="mid_up",
    )
    torch.manual_seed(4)
    for name, parameter in unet.named_parameters():
        if name.endswith("spatial_blending.conv.weight"):
            nn.init.normal_(parameter, std=0.1)
    base = pipeline()
    options: dict[str, Any] = {"pose_guider": base.pose_guider, "uses_depth": modulated}
    if modulated:
        modulation = PoseModulation.from_pose_guider(base.pose_guider, num_attention_heads=2)
        nn.init.normal_(modulation.modulation_out.weight, std=0.3)
        nn.init.normal_(modulation.motion.weight, std=0.1)
        options |= {"pose_guider": None, "pose_modulation": modulation.eval()}
    if object_blending != "none":
        options["object_guider"] = ObjectGuider(channels, tuple(unet.object_widths())).eval()
    return AnimateAnyone2Pipeline(
        denoising_unet=unet,
        reference_net=base.reference_net,
        image_encoder=base.image_encoder,
        vae=base.vae,
        scheduler=base.scheduler,
        uses_objects=object_blending != "none",
        **{**options, **PIPELINE, **changes},
    )
