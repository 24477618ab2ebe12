"""Runs a model without its temporal layers, to measure their effect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import nn

from animate_anyone.models.denoising_unet import DenoisingUNet, NoMotion


def temporal_layers(unet: DenoisingUNet) -> dict[str, nn.Module]:
    """The motion modules of a network by their names; empty for a network of single frames."""
    return {name: module for name, module in unet.named_modules() if isinstance(module, AnimateDiffTransformer3D)}


@contextmanager
def without_motion(unet: DenoisingUNet) -> Iterator[None]:
    """Every frame by itself within this context: motion modules give back what they are given."""
    layers = temporal_layers(unet)
    try:
        for name in layers:
            unet.set_submodule(name, NoMotion())
        yield
    finally:
        for name, module in layers.items():
            unet.set_submodule(name, module)
