"""Parts of a stage's networks that are not trained (a recipe's ``frozen``)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.training.frozen_settings import PARTS, SPATIAL, TEMPORAL


def parts_of(stage: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The weights of a stage by the names of ``frozen_settings.PARTS``; parts that it lacks are left out."""
    found: dict[str, list[nn.Parameter]] = {}
    for name, network in stage.named_children():
        if isinstance(network, DenoisingUNet) and name == SPATIAL:
            temporal = {id(parameter) for parameter in network.motion_parameters()}
            found[SPATIAL] = [p for p in network.parameters() if id(p) not in temporal]
            if temporal:
                found[TEMPORAL] = network.motion_parameters()
        elif name in PARTS:
            found["pose_modulation" if type(network).__name__ == "PoseModulation" else name] = list(
                network.parameters()
            )
    return found


def freeze(stage: nn.Module, names: Sequence[str]) -> None:
    """Take what is trained from the parts of these names.

    Raises:
        InputError: the stage lacks one of them, or nothing is left to be trained.
    """
    parts = parts_of(stage)
    for name in names:
        if name not in parts:
            raise InputError(f"recipe: frozen: there is no {name} here; there are {', '.join(parts)}")
        for parameter in parts[name]:
            parameter.requires_grad_(False)
    if not any(p.requires_grad for part in parts.values() for p in part):
        raise InputError(f"recipe: frozen is {', '.join(names)}: nothing is left to be trained; leave one of them out")
