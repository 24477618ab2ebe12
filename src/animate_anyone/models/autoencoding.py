"""Pictures to latents and back, several at once, each as if it were alone.

With the shipped models' autoencoders on an x86 CPU a batch gives bit for bit what its pictures give one by one. Left to
themselves the libraries change the last bits: behind its attention a batch goes on with channels last in memory and
one picture does not, and convolutions of a few channels sum in another order. GPUs, and networks that are laid out with
channels last throughout, are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from animate_anyone.models.fast_layers import is_channels_last

PIXELS_AT_ONCE = 2**17
"""Of all pictures of a batch: 8 of 128x128. Larger ones keep the cores busy one by one, and need the memory."""


def at_once(width: int, height: int) -> int:
    """How many pictures of this size make a batch."""
    return max(1, PIXELS_AT_ONCE // (width * height))


def encode(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """The means ``(n, channels, h, w)``, not scaled, of pictures ``(n, 3, height, width)`` in [-1, 1]."""
    pixels = pixels.to(vae.dtype).contiguous()  # channels first in memory too
    with _each_as_if_alone(vae, pixels):
        means: Tensor = vae.encode(pixels).latent_dist.mean
    return means


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Pictures ``(n, 3, height, width)`` float32, about [-1, 1], of latents ``(n, channels, h, w)``, not scaled."""
    latents = latents.to(vae.dtype).contiguous()
    with _each_as_if_alone(vae, latents):
        pixels: Tensor = vae.decode(latents, return_dict=False)[0].float()
    return pixels


@contextmanager
def _each_as_if_alone(vae: AutoencoderKL, batch: Tensor) -> Iterator[None]:
    if len(batch) == 1 or batch.device.type != "cpu" or is_channels_last(vae.decoder.conv_in.weight):
        yield
        return
    attentions = [module for module in vae.modules() if isinstance(module, Attention)]
    narrow = [vae.quant_conv, vae.post_quant_conv, vae.decoder.conv_in]
    hooks = [module.register_forward_hook(_channels_first) for module in attentions]
    hooks += [module.register_forward_hook(_one_by_one) for module in narrow if module is not None]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _channels_first(module: nn.Module, given: Any, out: Tensor) -> Tensor:
    return out.contiguous()


def _one_by_one(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
    return torch.cat([module.forward(one[None]) for one in given[0]])
