"""Stable Diffusion 1.5's UNet: diffusers' folder and the original single file; and its configuration, which
the open re-implementations of Animate Anyone share.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

from animate_anyone.interop.key_map import MappedNetwork, Named, fit
from animate_anyone.interop.weight_file import WeightFile
from animate_anyone.models.shapes import shapes_only

UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "cross_attention_dim": 768,
}
SINGLE_FILE = "model.diffusion_model."
# What else the single file holds, and why it is left out.
OF_SINGLE_FILE = {
    SINGLE_FILE: "the UNet",
    "first_stage_model.": "the autoencoder",
    "cond_stage_model.": "the text encoder: there is no text here",
    "model_ema.": "moving averages of the UNet's weights",
    "alphas_cumprod": "the noise schedule: that of Animate Anyone is another",
    "betas": "the noise schedule",
    "log_one_minus": "the noise schedule",
    "posterior_": "the noise schedule",
    "sqrt_": "the noise schedule",
}


class _Name(str):
    # Passes through diffusers' conversion where a tensor would.
    ndim, shape = 1, ()


def single_file_naming(prefix: str, convert: Any, config: dict[str, Any]) -> Any:
    """A naming of the part of Stable Diffusion's single file that has ``prefix``, by diffusers' conversion."""

    def naming(theirs: Collection[str]) -> Named:
        converted = convert({name: _Name(name) for name in theirs if name.startswith(prefix)}, config)
        named = Named(ours={ours: str(name) for ours, name in converted.items()})
        for name in set(theirs) - set(named.ours.values()):
            why = next((w for p, w in OF_SINGLE_FILE.items() if name.startswith(p) and p != prefix), None)
            if why is None:
                named.ours[f"(unknown) {name}"] = name
            else:
                named.left[name] = why
        return named

    return naming


def read_unet(file: WeightFile, config: dict[str, Any]) -> MappedNetwork:
    """Stable Diffusion's UNet from a ``unet/`` folder or a single file."""
    with shapes_only():
        unet = UNet2DConditionModel.from_config(config)
    if any(name.startswith(SINGLE_FILE) for name in file.shapes):
        return fit(unet, [(file, single_file_naming(SINGLE_FILE, convert_ldm_unet_checkpoint, dict(unet.config)))])
    return fit(unet, [(file, lambda names: Named(ours={name: name for name in names}))])
