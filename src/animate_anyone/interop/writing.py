"""Writes a network as diffusers does, a shard at a time, and a folder whole or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors.torch import save_file
from transformers import CLIPVisionModelWithProjection

from animate_anyone.errors import InputError
from animate_anyone.interop.key_map import MappedNetwork
from animate_anyone.models.number_types import DTYPES
from animate_anyone.progress import Progress
from animate_anyone.system.whole_files import unfinished, writing

SHARD_BYTES = 1_000_000_000


def write_part(folder: Path, part: MappedNetwork, dtype: str | None, progress: Progress, what: str) -> None:
    """A network's configuration and its tensors, a shard at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    is_clip = isinstance(part.network, CLIPVisionModelWithProjection)
    if is_clip:
        part.network.config.architectures = [type(part.network).__name__]
        part.network.config.save_pretrained(folder)
    else:
        part.network.save_config(folder)
    stem = "model" if is_clip else "diffusion_pytorch_model"
    shards = split_state_dict_into_shards_factory(
        {name: _bytes(part, name, dtype) for name in sorted(part.shapes)},
        get_storage_size=int,
        filename_pattern=f"{stem}{{suffix}}.safetensors",
        max_shard_size=SHARD_BYTES,
    )
    for file, names in progress.track(shards.filename_to_tensors.items(), len(shards.filename_to_tensors), what):
        tensors = {name: _cast(name, tensor, dtype) for name, tensor in part.read(names).items()}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        del tensors
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=1))


def _cast(name: str, tensor: torch.Tensor, dtype: str | None) -> torch.Tensor:
    if dtype is None or not tensor.is_floating_point():
        return tensor
    cast = tensor.to(DTYPES[dtype])
    if not torch.isfinite(cast).all():  # the tensor itself is, see `MappedNetwork.read`
        raise InputError(f"{name} holds values too large for {dtype}; give --dtype float32 or bfloat16")
    return cast


def _bytes(part: MappedNetwork, name: str, dtype: str | None) -> int:
    if name in part.computed:
        own: torch.dtype | None = part.computed[name].dtype
    else:
        file, theirs = part.tensors[name]
        own = file.dtypes[theirs]
    count = math.prod(part.shapes[name])
    if own is None:
        return 8 * count
    return count * (DTYPES[dtype] if dtype is not None else own).itemsize


def check_space(output: Path, parts: dict[str, MappedNetwork], dtype: str | None) -> None:
    """Refuse, before anything is written, what will not fit or must not be written there."""
    needed = sum(_bytes(part, name, dtype) for part in parts.values() for name in part.shapes)
    above = next(folder for folder in (output.absolute(), *output.absolute().parents) if folder.exists())
    if not os.access(above, os.W_OK):
        raise InputError(f"{output}: cannot be made, {above} is not writable; give another folder")
    free = shutil.disk_usage(above).free
    if needed > free:
        raise InputError(f"{output}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free there")


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A folder to write to that becomes ``output`` when all went well, and nothing otherwise."""
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{output}: cannot be made ({error.strerror}); give another folder") from None
    with writing(output), unfinished(partial):
        yield partial
        if output.exists():
            output.rmdir()
        os.replace(partial, output)
