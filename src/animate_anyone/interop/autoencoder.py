"""Stable Diffusion's autoencoder: ``sd-vae-ft-mse`` and its like, and the one inside a single file."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

from animate_anyone.interop.key_map import KeyMap, MappedNetwork, fit
from animate_anyone.interop.stable_diffusion import single_file_naming
from animate_anyone.interop.weight_file import WeightFile
from animate_anyone.models.shapes import shapes_only

VAE: dict[str, Any] = {
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 256,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "scaling_factor": 0.18215,
}
SINGLE_FILE = "first_stage_model."
# Attention as diffusers named it before 0.18, when the published files were written.
FOLDER = KeyMap(
    renames=(
        (".query.", ".to_q."),
        (".key.", ".to_k."),
        (".value.", ".to_v."),
        (".proj_attn.", ".to_out.0."),
    )
)


def read_vae(file: WeightFile, config: dict[str, Any]) -> MappedNetwork:
    """The autoencoder from a ``vae/`` folder or Stable Diffusion's single file."""
    with shapes_only():
        vae = AutoencoderKL.from_config(config)
    if any(name.startswith(SINGLE_FILE) for name in file.shapes):
        return fit(vae, [(file, single_file_naming(SINGLE_FILE, convert_ldm_vae_checkpoint, dict(vae.config)))])
    return fit(vae, [(file, FOLDER)])
