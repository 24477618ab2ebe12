"""A model folder: its index, its networks and their files, looked at before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
from diffusers import AutoencoderKL, DDIMScheduler, SchedulerMixin
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPVisionModelWithProjection, PreTrainedModel

from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.object_guider import ObjectGuider
from animate_anyone.models.pipeline_options import WITH_REFERENCE_NET
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.pose_modulation import PoseModulation
from animate_anyone.models.reference_control import CONTROLLED, REFERENCE_PATHS, ReferenceControl
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.models.reference_resnet import ReferenceResNet
from animate_anyone.models.shapes import shapes_only
from animate_anyone.models.shipped import INDEX, SHIPPED, shipped_folder
from animate_anyone.models.weight_files import first_line, plain_name, read_headers, read_settings, weights_of

AA1, AA2 = "AnimateAnyonePipeline", "AnimateAnyone2Pipeline"
METHODS = {AA1: ("Animate Anyone", "animate"), AA2: ("Animate Anyone 2", "replace")}
"""Class name in a model's index -> the method's name, and the verb that takes such models."""
NETWORKS = {
    "denoising_unet": DenoisingUNet,
    "reference_net": ReferenceNet,
    "pose_guider": PoseGuider,
    "image_encoder": CLIPVisionModelWithProjection,
    "vae": AutoencoderKL,
}
"""The networks of Animate Anyone."""
OF_AA2 = {"pose_modulation": PoseModulation, "object_guider": ObjectGuider}
"""Those that Animate Anyone 2 alone may have."""
ALL_NETWORKS: dict[str, Any] = {
    **NETWORKS,
    "reference_control": ReferenceControl,
    "reference_resnet": ReferenceResNet,
    **OF_AA2,
}
"""Every network that some model has."""
UNUSABLE = (OSError, ValueError, RuntimeError, KeyError, IndexError, TypeError, AttributeError, SafetensorError)
"""What the libraries below raise for files that are not what they should be."""


def model_folder(model: str | Path) -> Path:
    """The folder of a shipped model's name, or the folder itself.

    Raises:
        InputError: it is neither, or a part is missing.
    """
    if str(model) in SHIPPED:
        folder = shipped_folder(str(model))
    else:
        folder = Path(model)
        if not folder.is_dir():
            raise InputError(f"{model}: no model of that name and no such folder; shipped: {', '.join(SHIPPED)}")
    if not (folder / INDEX).is_file():
        raise InputError(f"{folder}: no model_index.json there; give a model folder, or one of: {', '.join(SHIPPED)}")
    parts = (*networks_of(folder), "scheduler")
    for part in parts:
        if not (folder / part).is_dir():
            raise InputError(f"{folder}: its part {part}/ is missing; a model holds {', '.join(parts)}")
    return folder


def networks_of(folder: Path) -> dict[str, Any]:
    """The networks of a model folder, by part: :data:`NETWORKS`, or those that the settings in its index ask for."""
    index = read_settings(folder / INDEX)
    path = index.get("reference_path", "reference_net")
    if path not in REFERENCE_PATHS:
        raise InputError(f"{folder / INDEX}: reference_path is {path!r}; there are {', '.join(REFERENCE_PATHS)}")
    return networks_for(index)


def networks_for(index: Mapping[str, Any]) -> dict[str, Any]:
    """The networks that a model of these settings has, by part; ``_class_name`` is among them."""
    path = index.get("reference_path", "reference_net")
    is_aa2 = index.get("_class_name") == AA2
    modulated = is_aa2 and bool(index.get("uses_depth", True))
    there = {
        "reference_net": path in WITH_REFERENCE_NET,
        "reference_control": path in CONTROLLED,
        "reference_resnet": path == "resnet",
        "pose_guider": not modulated,
        "pose_modulation": modulated,
        "object_guider": is_aa2 and bool(index.get("uses_objects", True)),
    }
    return {part: kind for part, kind in ALL_NETWORKS.items() if there.get(part, True)}


def class_name(folder: Path) -> str:
    """The pipeline's class that a model folder's index names. Raises :class:`InputError` where it is none of ours."""
    name = read_settings(folder / INDEX).get("_class_name")
    if not isinstance(name, str) or name not in METHODS:
        raise InputError(f"{folder / INDEX}: it is {name}; a model's is {' or '.join(METHODS)}")
    return name


def check_verb(model: str | Path, verb: str) -> None:
    """See, before anything is loaded, that a model is one for ``animate`` or one for ``replace``.

    Raises:
        InputError: it is for the other verb, or no model at all.
    """
    method, right = METHODS[class_name(model_folder(model))]
    if verb != right:
        raise InputError(f"{model}: is a model of {method}; type `animate-anyone {right}`, or give another --model")


def bytes_on_disk(model: str | Path) -> int:
    """What a model's weight files take."""
    folder = model_folder(model)
    return sum(file.stat().st_size for part in networks_of(folder) for file in weights_of(folder / part))


def check_classes(folder: Path) -> None:
    """Hold ``model_index.json`` against what a model of ours is made of: every part's module and class.

    diffusers imports the modules that it names.
    """
    file, method = folder / INDEX, class_name(folder)
    index, networks = read_settings(file), networks_of(folder)
    for part in ALL_NETWORKS:
        if part in OF_AA2 and method != AA2:
            continue
        want = index_entry(networks.get(part))
        found = index.get(part, [None, None])
        if found != want:
            raise InputError(f"{file}: its {part} is {_dotted(found)}; a model's is {_dotted(want)}")
    found = index.get("scheduler")
    library, name = found if isinstance(found, list) and len(found) == 2 else (None, None)
    scheduler = getattr(diffusers, name, None) if library == "diffusers" and isinstance(name, str) else None
    if not (isinstance(scheduler, type) and issubclass(scheduler, SchedulerMixin)):
        raise InputError(
            f"{file}: its scheduler is {_dotted(found)}; a model's is {_dotted(index_entry(DDIMScheduler))}"
        )


def index_entry(kind: type | None) -> list[str | None]:
    """What ``model_index.json`` says of a part, as diffusers writes it: a library or a module of ours, and the class.

    ``kind`` is ``None`` where the model goes without the part.
    """
    if kind is None:
        return [None, None]
    library = kind.__module__.partition(".")[0]
    return [kind.__module__ if library == "animate_anyone" else library, kind.__name__]


def _dotted(named: Any) -> str:
    """What an index says of a part, as one name."""
    if not isinstance(named, list) or named == [None, None]:
        return "nothing" if named is None or isinstance(named, list) else repr(named)[:100]
    return ".".join(map(str, named))[:200]


def check_weights(folder: Path) -> nn.Module:
    """Hold the tensors in a network's files against its ``config.json``: names and shapes must be the same.

    Nothing but headers is read. The loaders of the libraries below only log what is missing or left over.

    Returns:
        The network that ``config.json`` describes, its weights shapes only.
    """
    with shapes_only():
        network = from_config(ALL_NETWORKS[folder.name], folder)
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found: dict[str, tuple[int, ...]] = {}
    for file in weights_of(folder):
        found |= {plain_name(name): shape for name, (shape, _) in read_headers(file).items()}
    # Buffers that are computed, not trained, may be left out of the files.
    trained = {name for name, _ in network.named_parameters()}
    for problem, names in (
        ("has no", trained - found.keys()),
        ("has an unknown", found.keys() - wanted.keys()),
        ("has another shape of", {n for n in found.keys() & wanted.keys() if found[n] != wanted[n]}),
    ):
        if names:
            rest = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise InputError(f"{folder} {problem} {min(names)}{rest}; the weights are not this model's")
    return network


def from_config(kind: Any, folder: Path) -> nn.Module:
    """The network that a part's ``config.json`` describes, float32 in whatever type its weights are kept."""
    config = read_settings(folder / "config.json")
    try:
        if issubclass(kind, PreTrainedModel):  # of transformers
            settings = {name: value for name, value in config.items() if name not in ("dtype", "torch_dtype")}
            made: nn.Module = kind(kind.config_class(**settings))
            return made
        network: nn.Module = kind.from_config(config)
        return network
    except UNUSABLE as error:
        raise InputError(f"{folder / 'config.json'}: no network can be built from it: {first_line(error)}") from error
