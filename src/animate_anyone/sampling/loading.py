"""How a model folder becomes a pipeline: strictly."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file
from torch import Tensor, nn

from animate_anyone.errors import InputError
from animate_anyone.models.folder import (
    ALL_NETWORKS,
    UNUSABLE,
    bytes_on_disk,
    check_classes,
    check_weights,
    class_name,
    from_config,
    model_folder,
    networks_of,
)
from animate_anyone.models.pose_modulation import PoseModulation
from animate_anyone.models.reference_attention import spatial_attention_layers
from animate_anyone.models.shipped import INDEX
from animate_anyone.models.weight_files import first_line, is_wrapped, plain_name, read_settings, weights_of
from animate_anyone.sampling.arrival import check_fit, checked_already
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.placement import Placement, check_attention, put, quantization_config

Network = TypeVar("Network", bound=nn.Module)
_PIPELINES = {kind.__name__: kind for kind in (AnimateAnyonePipeline, AnimateAnyone2Pipeline)}


def load_pipeline(
    model: str | Path, device: str = "auto", dtype: str = "auto", *, placement: Placement | None = None
) -> AnimateAnyonePipeline:
    """Load a model folder: an ``AnimateAnyonePipeline``, or an ``AnimateAnyone2Pipeline`` where its index says so.

    Args:
        model: a shipped model's name or a model folder.
        device, dtype: short for a placement that says nothing else.
        placement: how it is put onto this machine, instead.

    Raises:
        InputError: an unknown name, a missing part, weights that are missing, left over or of a
            wrong shape, each by name; or a placement that this machine does not allow.
    """
    folder = model_folder(model)
    placement = placement or Placement(device, dtype)
    placement.resolve()  # what this machine lacks is found out before any file is read
    check_classes(folder)
    networks = {part: check_weights(folder / part) for part in networks_of(folder)}
    target, number_type = placement.resolve(bytes_on_disk(folder))
    sizes = head_sizes(networks["denoising_unet"])
    modulation = networks.get("pose_modulation")
    if isinstance(modulation, PoseModulation):
        sizes |= {modulation.attention.head_size}
    check_attention(placement.attention, sizes, target, number_type)
    wrapped = [part for part in networks if is_wrapped(folder / part)]
    if wrapped and placement.quantize != "none":
        raise InputError(f"{folder / wrapped[0]}: holds a compiled network's names; it cannot be quantised so")
    try:
        with checked_already():
            pipeline = _PIPELINES[class_name(folder)].from_pretrained(
                folder,
                **{part: _load_wrapped(ALL_NETWORKS[part], folder / part, number_type) for part in wrapped},
                dtype=number_type,
                local_files_only=True,
                use_safetensors=True,
                quantization_config=quantization_config(placement.quantize, number_type),
            )
    except (*UNUSABLE, ImportError) as error:  # an import fails where a quantiser is too old
        raise InputError(f"{folder}: cannot be loaded: {first_line(error)}") from error
    check_fit(folder, pipeline)
    put(pipeline, placement, target)
    return pipeline


def load_shapes(model: str | Path) -> AnimateAnyonePipeline:
    """A model folder's pipeline with networks that have shapes and no values (torch's meta device): to plan with.

    Raises :class:`InputError` as :func:`load_pipeline` does.
    """
    folder = model_folder(model)
    check_classes(folder)
    kind = _PIPELINES[class_name(folder)]
    options = inspect.signature(kind.__init__).parameters
    networks: dict[str, Any] = {part: None for part in ALL_NETWORKS if part in options}
    networks |= {part: check_weights(folder / part) for part in networks_of(folder)}
    known = read_settings(folder / INDEX)
    index = {k: v for k, v in known.items() if k in options and k not in (*ALL_NETWORKS, "scheduler")}
    try:
        scheduler = DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
        pipeline = kind(**networks, scheduler=scheduler, **index)
    except UNUSABLE as error:
        raise InputError(f"{folder}: cannot be loaded: {first_line(error)}") from error
    check_fit(folder, pipeline)
    return pipeline


def head_sizes(unet: nn.Module) -> set[int]:
    """Channels per head of a network's attentions over space."""
    return {attn.to_q.out_features // attn.heads for attn in spatial_attention_layers(unet).values()}


_WITHOUT_VALUES: ContextVar[bool] = ContextVar("without_values", default=False)


@contextmanager
def without_values() -> Iterator[None]:
    """Within it :func:`load_network` reads no weights: it builds from ``config.json`` alone.

    For use where new tensors have no values anyway, as within PyTorch's ``FakeTensorMode``.
    """
    token = _WITHOUT_VALUES.set(True)
    try:
        yield
    finally:
        _WITHOUT_VALUES.reset(token)


def load_network(kind: type[Network], folder: Path) -> Network:
    """One network of a model folder, float32, from files alone: nothing is looked for on the net.

    Raises :class:`InputError` where it is not there or cannot be loaded.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is not there; give a model folder that has {folder.name}/")
    if _WITHOUT_VALUES.get():
        weights_of(folder)  # which are looked at
        return from_config(kind, folder).eval()  # type: ignore[return-value]
    try:
        if is_wrapped(folder):
            return _load_wrapped(kind, folder, torch.float32)
        return kind.from_pretrained(  # type: ignore[attr-defined, no-any-return]
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    except UNUSABLE as error:
        raise InputError(f"{folder}: cannot be loaded: {first_line(error)}") from error


def _load_wrapped(kind: type[Network], folder: Path, dtype: torch.dtype) -> Network:
    """A network whose files name tensors as a wrapper does."""
    network = from_config(kind, folder)
    tensors: dict[str, Tensor] = {}
    for file in weights_of(folder):
        tensors |= {plain_name(name): tensor for name, tensor in load_file(file).items()}
    buffers = {name for name, _ in network.named_buffers()}
    missing, unknown = network.load_state_dict(tensors, strict=False)
    odd = [name for name in (*missing, *unknown) if name not in buffers]
    if odd:
        raise InputError(f"{folder}: {odd[0]} is missing or unknown; the weights are not this model's")
    return network.to(dtype).eval()  # type: ignore[return-value]
