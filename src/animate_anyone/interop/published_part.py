"""One part of Stable Diffusion by itself: its UNet, an autoencoder or a CLIP image encoder, in a folder or a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from animate_anyone.errors import InputError
from animate_anyone.interop.finding import find_config, names_part
from animate_anyone.interop.key_map import MappedNetwork
from animate_anyone.interop.stable_diffusion import (
    UNET,
    VAE,
    is_unet,
    is_vae,
    read_image_encoder,
    read_unet,
    read_vae,
)
from animate_anyone.interop.weight_file import WeightFile
from animate_anyone.models.folder import UNUSABLE
from animate_anyone.models.weight_files import first_line, read_settings

UNET_PART, VAE_PART, IMAGE_ENCODER_PART = "unet", "vae", "image_encoder"
PARTS = (UNET_PART, VAE_PART, IMAGE_ENCODER_PART)
"""Names of the parts, which are the names of their folders."""
_READERS: dict[str, Callable[[WeightFile, dict[str, Any]], MappedNetwork]] = {
    UNET_PART: read_unet,
    VAE_PART: read_vae,
    IMAGE_ENCODER_PART: read_image_encoder,
}

Network = TypeVar("Network", bound=nn.Module)


def find_part(source: Path, part: str) -> MappedNetwork | None:
    """A part in a folder (there or in folders below, as a ``config.json`` says) or in a file of weights.

    A file's configuration is the ``config.json`` beside it; without one a UNet and an autoencoder are taken for those
    of Stable Diffusion 1.5, by their tensors. Reads names and shapes only; ``None`` where the part is not there.

    Raises:
        InputError: it is there, and damaged, not whole or not what its configuration says.
    """
    if source.is_dir():
        config_file = find_config(source, part)
        return None if config_file is None else _read(part, config_file.parent, read_settings(config_file))
    beside = source.parent / "config.json"
    if beside.is_file() and names_part(read_settings(beside), part):
        return _read(part, source, read_settings(beside))
    shapes = WeightFile(source).shapes
    if part == UNET_PART and is_unet(shapes):
        return _read(part, source, UNET)
    if part == VAE_PART and is_vae(shapes):
        return _read(part, source, VAE)
    return None


def find_parts(source: Path) -> dict[str, MappedNetwork]:
    """All parts that are there, by name, see :func:`find_part`."""
    found = {part: find_part(source, part) for part in PARTS}
    return {part: network for part, network in found.items() if network is not None}


def load_part(kind: type[Network], folder: Path) -> Network:
    """The network in a part's own folder, float32, in evaluation mode, from weights of any format that is read.

    Raises:
        InputError: it is not there, not whole, or not of this kind.
    """
    config = read_settings(folder / "config.json")
    part = next((part for part in PARTS if names_part(config, part)), None)
    if part is None:
        raise InputError(f"{folder / 'config.json'}: is of none of {', '.join(PARTS)}")
    mapped = _read(part, folder, config)
    if not isinstance(mapped.network, kind):
        raise InputError(f"{folder}: is a {type(mapped.network).__name__}; a {kind.__name__} is needed")
    make = getattr(kind, "from_config", kind)  # diffusers' networks; transformers' are called with it
    settings = mapped.network.config
    if hasattr(settings, "dtype"):  # transformers makes some tensors in this type and others not
        settings.dtype = torch.float32
    network = cast(Network, make(settings))
    with unset_fake_temporarily():  # where memory is foretold without values
        values = mapped.read(mapped.shapes)
    network.load_state_dict(values)
    if next(network.parameters()).dtype != torch.float32:
        network = network.float()
    return network.eval()


def _read(part: str, place: Path, config: dict[str, Any]) -> MappedNetwork:
    try:
        return _READERS[part](WeightFile(place), config)
    except InputError:
        raise
    except UNUSABLE as error:
        folder = place if place.is_dir() else place.parent
        raise InputError(f"{folder / 'config.json'}: no network can be built from it: {first_line(error)}") from error
