"""Files of tensors as other projects write them: opened without reading them, and without running them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from animate_anyone.errors import InputError
from animate_anyone.models.number_types import SAFETENSORS_DTYPES
from animate_anyone.models.weight_files import check_content, first_line, plain_name, read_headers, shards

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")


class WeightFile:
    """The tensors of a file, or of the shards of a folder, by name, without what wrappers put before names.

    Tensors stay on the disk until they are asked for, and no file is kept open: memory is what was asked
    for, whatever the size of the files. Tensors that are views into one large buffer cost their own size.

    Attributes:
        path: the file or folder.
        shapes: of every tensor.
        dtypes: of every tensor; ``None`` for what is no floating-point number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, torch.dtype | None] = {}
        self._origin: dict[str, Path] = {}
        self._written: dict[str, str] = {}  # in safetensors files: as the name stands there
        for file in _files(path):
            check_content(file)
            (self._list_safetensors if file.suffix == ".safetensors" else self._list_pickle)(file)
        if not self.shapes:
            raise InputError(f"{path}: holds no tensors")

    @property
    def files(self) -> list[Path]:
        """All that it reads from."""
        return sorted(set(self._origin.values()))

    def read(self, names: Collection[str]) -> dict[str, Tensor]:
        """These tensors, on the CPU, in memory of their own."""
        out: dict[str, Tensor] = {}
        for file in sorted({self._origin[name] for name in names}):
            here = [name for name in names if self._origin[name] == file]
            if file.suffix == ".safetensors":
                with safe_open(file, "pt") as opened:
                    out |= {name: opened.get_tensor(self._written[name]) for name in here}
            else:
                tensors = _tensors_of_pickle(file)
                out |= {name: tensors[name].clone(memory_format=torch.contiguous_format) for name in here}
        return out

    def _list_safetensors(self, file: Path) -> None:
        for written, (shape, dtype) in read_headers(file).items():
            name = plain_name(written)
            self._written[name] = written
            self._add(file, name, shape, SAFETENSORS_DTYPES.get(dtype))

    def _list_pickle(self, file: Path) -> None:
        for name, tensor in _tensors_of_pickle(file).items():
            self._add(file, name, tuple(tensor.shape), tensor.dtype if tensor.dtype.is_floating_point else None)

    def _add(self, file: Path, name: str, shape: tuple[int, ...], dtype: torch.dtype | None) -> None:
        if name in self.shapes:
            raise InputError(f"{self.path}: holds {name} twice")
        self.shapes[name], self.dtypes[name], self._origin[name] = shape, dtype, file


def _files(path: Path) -> list[Path]:
    # A folder holds shards with an index, or one file of weights.
    if not path.is_dir():
        return [path]
    indexes = sorted(path.glob("*.safetensors.index.json")) or sorted(path.glob("*.bin.index.json"))
    if indexes:
        return shards(indexes[0])
    for suffix in SUFFIXES:
        every = sorted(path.glob(f"*{suffix}"))
        found = [file for file in every if ".fp16." not in file.name] or every
        if len(found) > 1:
            raise InputError(f"{path}: holds {found[0].name} and {found[1].name}; leave the one that is meant")
        if found:
            return found
    raise InputError(f"{path}: no weights there; a file ending in {', '.join(SUFFIXES)} is wanted")


def _tensors_of_pickle(file: Path) -> dict[str, Tensor]:
    # By name, mapped from the disk; valid as long as they are held.
    tensors = _load_pickle(file)
    for wrapper in ("state_dict", "model", "module"):  # as trainers wrap it, beside step counts and the like
        if isinstance(tensors, dict) and isinstance(tensors.get(wrapper), dict):
            tensors = tensors[wrapper]
    if not isinstance(tensors, dict):
        raise InputError(f"{file}: holds a {type(tensors).__name__}; weights are tensors by name")
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise InputError(f"{file}: {name!r} is a {type(tensor).__name__}; weights are tensors by name")
        plain = plain_name(name)
        if plain in out:
            raise InputError(f"{file}: holds {plain} twice")
        out[plain] = tensor
    return out


def _load_pickle(file: Path) -> Any:
    # `weights_only` builds tensors and plain containers, and runs nothing else.
    try:
        try:
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            return torch.load(file, map_location="cpu", weights_only=True)  # PyTorch's format before 1.6
    except pickle.UnpicklingError as error:
        called = re.search(r"GLOBAL ([\w.]+)|Unsupported (?:class|operand|global)[^\w]*([\w.]+)", str(error))
        what = f"asks to run {called[1] or called[2]}" if called else "holds more than tensors"
        raise InputError(f"{file}: refused, nothing of it was run: it {what}; get it as .safetensors") from None
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: damaged, or not a file of weights: {first_line(error)}") from None
