"""Low-rank adapters (LoRA, Hu et al. 2021) through PEFT: a whole model is finetuned by few weights.

Adapters stand on the attention projections that the stage would train; they alone are trained, and checkpoints hold
them alone. The model that is saved has them added to its weights and is a model as any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from animate_anyone.errors import InputError
from animate_anyone.models.weight_files import read_settings
from animate_anyone.optional import require
from animate_anyone.training.config import Recipe
from animate_anyone.training.lora_settings import Lora

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
"""Of attention; the last is the first layer of what makes the output."""


def check_start(recipe: Recipe, init: Path) -> None:
    """See that all that adapters do not train is trained already.

    Raises:
        InputError: a network or layer would be new, and stay as it is.
    """
    if recipe.lora is None:
        return
    config = init / "denoising_unet" / "config.json"
    if not config.is_file():
        raise InputError(f"recipe: lora finetunes a whole model, and {init} has no denoising_unet/; give init=MODEL")
    settings = read_settings(config)
    if recipe.stage == "environment" and not settings.get("environment_channels"):
        raise InputError(
            f"recipe: lora finetunes a whole model, and {init} is none of Animate Anyone 2; give init=MODEL, or train "
            "without lora first"
        )
    before = 0 if recipe.environment is None else recipe.environment.temporal_reference.frames
    if before and not settings.get("temporal_reference_frames"):
        raise InputError(
            f"recipe: lora finetunes a whole model, and {init} takes no frames before a clip; give "
            "environment.temporal_reference.frames=0, or train without lora first"
        )
    if recipe.in_a_row and not settings.get("use_motion_module", True) and recipe.init_motion is None:
        raise InputError(
            f"recipe: lora finetunes temporal layers, and {init} has none; give init_motion=FOLDER|FILE, or train "
            "without lora first"
        )


def add_adapters(
    stage: nn.Module,
    settings: Lora,
    made_in: AbstractContextManager[Any] = nullcontext(),  # noqa: B008 - of no state
) -> None:
    """Put adapters on the projections that are trained now, and train them alone. At first they change nothing.

    Args:
        made_in: the context in which their weights are made; it may make tensors without values.

    Raises:
        InputError: PEFT is not there, or the stage trains no projection.
    """
    peft = require("peft", extra="lora")
    found = {name: targets for name, network in stage.named_children() if (targets := _trained(network))}
    if not found:
        raise InputError("recipe: lora: this stage trains no attention; leave lora out")
    stage.requires_grad_(False)
    alpha = settings.rank if settings.alpha is None else settings.alpha
    for name, targets in found.items():
        config = peft.LoraConfig(r=settings.rank, lora_alpha=alpha, target_modules=targets)
        network = stage.get_submodule(name)
        peft.inject_adapter_in_model(config, network, low_cpu_mem_usage=True)
        for layer in network.modules():
            if hasattr(layer, "lora_A"):
                with made_in:
                    _begin(layer)


@contextmanager
def merged(stage: nn.Module) -> Iterator[None]:
    """In the block the adapters' weights are added to those that they stand on, and no adapter is there."""
    adapted = [(name, layer) for name, layer in stage.named_modules() if hasattr(layer, "lora_A")]
    try:
        for name, layer in adapted:
            _put(stage, name, _merged(layer))
        yield
    finally:
        for name, layer in adapted:
            _put(stage, name, layer)


def _trained(network: nn.Module) -> list[str]:
    return [
        name
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear)
        and any(name.endswith(f".{projection}") for projection in PROJECTIONS)
        and layer.weight.requires_grad
    ]


def _begin(layer: Any) -> None:
    """Give the adapters of a layer, made without memory, their first values: their product is zero."""
    for part in (layer.lora_A["default"], layer.lora_B["default"]):
        part.weight = nn.Parameter(torch.empty(part.weight.shape, device=layer.base_layer.weight.device))
    layer.reset_lora_parameters("default", True)


@torch.no_grad()
def _merged(layer: Any) -> nn.Linear:
    base: nn.Linear = layer.base_layer
    whole = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
    whole.weight = nn.Parameter(base.weight + layer.get_delta_weight("default").to(base.weight), requires_grad=False)
    whole.bias = base.bias
    return whole


def _put(stage: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    stage.get_submodule(parent)._modules[leaf] = layer
