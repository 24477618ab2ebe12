"""What looks at the reference in training: loaded from a model, or built beside a UNet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel
from torch import nn
from transformers import ResNetModel

from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.pipeline_options import WITH_REFERENCE_NET
from animate_anyone.models.reference_concatenation import PART
from animate_anyone.models.reference_control import CONTROLLED, ReferenceControl
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.models.reference_resnet import ReferenceResNet
from animate_anyone.models.shipped import INDEX
from animate_anyone.models.weight_files import plain_name, read_headers, read_settings, weights_of
from animate_anyone.sampling.loading import load_network
from animate_anyone.training.config import Networks

RESNET = "resnet"
"""In ``init``: the folder of a ResNet as transformers writes it, with weights of ImageNet, say."""


def load_reference(path: str, init: Path) -> dict[str, nn.Module] | None:
    """The networks of a whole model for ``reference_path``, by part; ``None`` where the model's own path is another.

    Raises:
        InputError: one is missing or cannot be loaded.
    """
    known = read_settings(init / INDEX) if (init / INDEX).is_file() else {}
    if known.get("reference_path", path) != path:
        return None
    kinds: dict[str, Any] = {"reference_net": ReferenceNet} if path in WITH_REFERENCE_NET else {}
    if path in CONTROLLED:
        kinds = {"reference_control": ReferenceControl}
    if path == "resnet":
        kinds = {"reference_resnet": ReferenceResNet}
    return {part: load_network(kind, init / part) for part, kind in kinds.items()}


def begin_reference(
    path: str,
    make: Callable[[], UNet2DConditionModel],
    denoising: DenoisingUNet,
    init: Path,
    networks: Networks,
    factor: int,
) -> dict[str, nn.Module]:
    """New networks for ``reference_path``, by part: from the weights of a UNet, or of a ResNet in ``init``.

    Args:
        make: gives the UNet whose weights ReferenceNet or ControlNet begin with.
        denoising: the denoising UNet beside them.
        networks: the recipe's; its ``resnet`` counts where ``init`` has none.
        factor: pixels per latent cell, per side.
    """
    if path in WITH_REFERENCE_NET:
        return {"reference_net": ReferenceNet.from_unet2d(make())}
    if path in CONTROLLED:
        return {"reference_control": ReferenceControl.from_unet2d(make())}
    if path != "resnet":
        return {}
    if not (init / RESNET).is_dir():
        made = networks.build("resnet", lambda **settings: ReferenceResNet.beside(denoising, factor, **settings))
        return {"reference_resnet": made}
    return {"reference_resnet": ReferenceResNet.from_resnet(_load_resnet(init / RESNET), denoising, factor)}


def plain_unet(denoising: DenoisingUNet) -> UNet2DConditionModel:
    """Stable Diffusion's UNet with the weights of a denoising UNet, less its temporal layers and what joins its input.

    Raises:
        InputError: it sees an environment, or its reference was concatenated: its layers are not those of such a UNet.
    """
    config = denoising.config
    if config["reference_merging"] != "attention" or config["object_blending"] != "none":
        raise InputError(
            "recipe: networks.pipeline.reference_path: what looks at the reference cannot begin with the weights of a "
            "denoising UNet that concatenates it or blends objects; give init of another path"
        )
    known = UNet2DConditionModel._get_init_keys(UNet2DConditionModel)
    settings = {name: value for name, value in config.items() if name in known}
    for name in ("down_block_types", "up_block_types"):
        settings[name] = [kind.removesuffix("Motion") + "2D" for kind in config[name]]
    settings |= {"attention_head_dim": config["num_attention_heads"], "num_attention_heads": None}
    settings |= {"in_channels": config["out_channels"], "mid_block_type": "UNetMidBlock2DCrossAttn"}
    unet = UNet2DConditionModel(**settings)
    weights = {name: value for name, value in denoising.state_dict().items() if ".motion_modules." not in name}
    weights["conv_in.weight"] = weights["conv_in.weight"][:, : config["out_channels"]]
    unet.load_state_dict({name: value for name, value in weights.items() if PART not in name})
    return unet


def _load_resnet(folder: Path) -> ResNetModel:
    """Raises :class:`InputError` where a weight is missing, which the library would draw at random."""
    loaded = load_network(ResNetModel, folder)
    names = {plain_name(name).removeprefix("resnet.") for file in weights_of(folder) for name in read_headers(file)}
    missing = [name for name, _ in loaded.named_parameters() if name not in names]
    if missing:
        raise InputError(f"{folder}: has no {missing[0]}; give a ResNet as transformers writes it, in safetensors")
    for parameter in loaded.parameters():
        parameter.requires_grad_(True)
    return loaded
