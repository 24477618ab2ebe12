"""Checkpoints of sharded runs: each process writes and reads its own shares (``torch.distributed.checkpoint``).

They are safetensors files, and any number of processes, one too, can go on from them.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor, distribute_tensor

from animate_anyone.errors import InputError
from animate_anyone.training.distributed import is_sharded


def like(whole: Tensor, tensor: Tensor) -> Tensor:
    """This process's share of ``whole``, sharded as ``tensor`` is."""
    if not isinstance(tensor, DTensor):
        return whole
    mesh = tensor.device_mesh
    return distribute_tensor(whole.to(mesh.device_type), mesh, tensor.placements, src_data_rank=None)


def save_shards(folder: Path, stage: nn.Module, optimizer: Any, ema: EMAModel | None) -> None:
    """Write a folder, on all processes together.

    Raises:
        InputError: one of them cannot write.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        save(dict(_tensors(stage, optimizer, ema)), storage_writer=writer)
    except CheckpointException as error:
        reason = " ".join(str(next(iter(error.failures.values()))[0]).split())
        raise InputError(
            f"{folder}: could not be written ({reason[:200]}); make room, or give another folder"
        ) from None


def load_shards(folder: Path, files: int, stage: nn.Module, optimizer: Any, ema: EMAModel | None) -> None:
    """Put a folder's tensors back, each process its own shares; those who are one process need all.

    Args:
        files: how many were written.

    Raises:
        InputError: the weights are not those of this stage.
        ValueError: a file is missing.
    """
    if len(list(folder.glob("*.safetensors"))) != files:
        raise ValueError(f"{folder.name} has not its {files} files")
    for p in stage.parameters():
        if p.requires_grad:  # as AdamW begins; what is read takes their place
            moments = {name: torch.zeros_like(p, requires_grad=False) for name in ("exp_avg", "exp_avg_sq")}
            optimizer.state[p] = {"step": torch.zeros(()), **moments}
    tensors, reader = _tensors(stage, optimizer, ema), HuggingFaceStorageReader(str(folder))
    if odds := sorted(reader.read_metadata().state_dict_metadata.keys() ^ tensors.keys()):
        raise InputError(f"{folder}: its weights are not those of this stage; the first that differs is {odds[0]}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that one process is one
        load(dict(tensors), storage_reader=reader, no_dist=not is_sharded(stage))


def _tensors(stage: nn.Module, optimizer: Any, ema: EMAModel | None) -> dict[str, Tensor]:
    """What is trained, its moments and its average, by name."""
    trained = {name: p for name, p in stage.named_parameters() if p.requires_grad}
    tensors = {f"weights.{name}": p.detach() for name, p in trained.items()}
    for name, p in trained.items():
        tensors |= {f"optimizer.{key}.{name}": value for key, value in optimizer.state[p].items()}
    if ema is not None:
        tensors |= {f"ema.{name}": s for name, s in zip(trained, ema.shadow_params, strict=True)}
    return tensors
