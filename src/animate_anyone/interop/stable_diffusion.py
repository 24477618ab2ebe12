"""Stable Diffusion 1.5 and its kin, diffusers' folders and the original single file: the UNet, whose configuration the
open re-implementations of Animate Anyone share, the autoencoder (``sd-vae-ft-mse`` and its like) and the image encoder
of ``sd-image-variations``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from animate_anyone.interop.key_map import KeyMap, MappedNetwork, Named, fit
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
# Attention as diffusers named it before 0.18, when the published files were written.
VAE_FOLDER = KeyMap(
    renames=((".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0."))
)
IMAGE_ENCODER_FOLDER = KeyMap(
    left=(
        (r"^vision_model\.embeddings\.position_ids$", "counts from 0 up"),
        (r"^(text_model|text_projection|logit_scale)", "CLIP's text tower"),
    )
)
UNET_INSIDE, VAE_INSIDE = "model.diffusion_model.", "first_stage_model."
"""Beginnings of names in the single file."""
# What the single file holds; whatever of it is not asked for is left out, and this is why.
OF_SINGLE_FILE = {
    UNET_INSIDE: "the UNet",
    VAE_INSIDE: "the autoencoder",
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


def read_single_file(file: WeightFile) -> dict[str, MappedNetwork]:
    """The UNet and, where it is inside, the autoencoder of Stable Diffusion's single file; nothing for other files."""
    inside = {prefix: any(name.startswith(prefix) for name in file.shapes) for prefix in (UNET_INSIDE, VAE_INSIDE)}
    parts = {"unet": read_unet(file, UNET)} if inside[UNET_INSIDE] else {}
    return parts | {"vae": read_vae(file, VAE)} if parts and inside[VAE_INSIDE] else parts


def is_unet(names: Collection[str]) -> bool:
    """Whether a file holds Stable Diffusion's UNet, under diffusers' names or inside the single file."""
    return any(name.startswith(UNET_INSIDE) for name in names) or (
        "conv_in.weight" in names and any("transformer_blocks" in name for name in names)
    )


def is_vae(names: Collection[str]) -> bool:
    """Whether a file holds an autoencoder, under diffusers' names or inside the single file."""
    return any(name.startswith((VAE_INSIDE, "decoder.up_blocks.", "decoder.up.")) for name in names)


def read_unet(file: WeightFile, config: dict[str, Any]) -> MappedNetwork:
    """Stable Diffusion's UNet from a ``unet/`` folder or a single file."""
    with shapes_only():
        unet = UNet2DConditionModel.from_config(config)
    if any(name.startswith(UNET_INSIDE) for name in file.shapes):
        return fit(unet, [(file, single_file_naming(UNET_INSIDE, convert_ldm_unet_checkpoint, dict(unet.config)))])
    return fit(unet, [(file, KeyMap())])


def read_vae(file: WeightFile, config: dict[str, Any]) -> MappedNetwork:
    """The autoencoder from a ``vae/`` folder or the single file."""
    with shapes_only():
        vae = AutoencoderKL.from_config(config)
    if any(name.startswith(VAE_INSIDE) for name in file.shapes):
        return fit(vae, [(file, single_file_naming(VAE_INSIDE, convert_ldm_vae_checkpoint, dict(vae.config)))])
    if any(name.startswith("decoder.up.") for name in file.shapes):  # that part of the single file by itself
        return fit(vae, [(file, single_file_naming("", convert_ldm_vae_checkpoint, dict(vae.config)))])
    return fit(vae, [(file, VAE_FOLDER)])


def read_image_encoder(file: WeightFile, config: dict[str, Any]) -> MappedNetwork:
    """CLIP's vision tower with its projection from an ``image_encoder/`` folder, or from one of the whole CLIP."""
    if "vision_config" in config:
        config = {**config["vision_config"], "projection_dim": config.get("projection_dim", 512)}
    with shapes_only():
        encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**config))
    return fit(encoder, [(file, IMAGE_ENCODER_FOLDER)])
