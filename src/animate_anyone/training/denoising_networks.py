"""The networks that a stage trains besides the temporal layers: those of a model, or new ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.pipeline_options import merging_of
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.sampling.loading import load_network
from animate_anyone.training.config import Recipe
from animate_anyone.training.initial import start_at_identity
from animate_anyone.training.reference_parts import begin_reference, load_reference, plain_unet
from animate_anyone.training.starting_folder import load_published


def build_networks(
    recipe: Recipe, init: Path, path: str, latents: int, channels: int, factor: int
) -> dict[str, nn.Module]:
    """Denoising UNet, Pose Guider and what looks at the reference, by part.

    What looks at the reference begins with the denoising UNet's weights where ``init`` is a model of another
    ``reference_path``.

    Args:
        init: a whole model; or a folder with Stable Diffusion's ``unet``; or one without: then the recipe describes it.
        path: the model's ``reference_path``.
        latents: channels of the VAE's latents.
        channels: that the denoising UNet must take.
        factor: pixels per latent cell, per side.

    Raises:
        InputError: ``init`` and the recipe do not fit each other.
    """

    def reference(unet: DenoisingUNet, make: Callable[[], UNet2DConditionModel]) -> dict[str, nn.Module]:
        return begin_reference(path, make, unet, init, recipe.networks, factor)

    networks = recipe.networks
    if (init / "denoising_unet").exists():
        denoising = load_network(DenoisingUNet, init / "denoising_unet")
        known = load_reference(path, init)
        guider = load_network(PoseGuider, init / "pose_guider")
        config = denoising.config
        if config["in_channels"] != channels:
            raise InputError(f"{init}: its denoising UNet takes {config['in_channels']} channels, not {channels}")
        if config["reference_merging"] != merging_of(path):
            raise InputError(
                f"{init}: its denoising UNet has reference_merging {config['reference_merging']!r}, and reference_path "
                f"{path} needs {merging_of(path)!r}; give an init without denoising_unet/"
            )
        known = reference(denoising, lambda: plain_unet(denoising)) if known is None else known
        return {"denoising_unet": denoising, **known, "pose_guider": guider}
    if (init / "unet").exists():
        unet = load_published(UNet2DConditionModel, init / "unet")
    else:
        unet = networks.build("unet", UNet2DConditionModel)
        start_at_identity(unet)
        torch.nn.init.zeros_(unet.conv_out.weight)
    got = unet.config["in_channels"]
    if got != latents:
        raise InputError(f"recipe: networks.unet.in_channels is {got}; the VAE in {init} makes {latents} channels")
    options = {"use_motion_module": False, "in_channels": channels, "reference_merging": merging_of(path)}
    denoising = networks.build("motion", lambda **settings: DenoisingUNet.from_unet2d(unet, **options, **settings))
    looks = reference(denoising, lambda: unet)
    width = unet.config["block_out_channels"][0]
    guider = networks.build("pose_guider", lambda **settings: PoseGuider(width, **settings))
    return {"denoising_unet": denoising, **looks, "pose_guider": guider}
