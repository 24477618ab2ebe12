"""From the names of tensors in a foreign file to ours, every one accounted for."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from animate_anyone.errors import InputError
from animate_anyone.interop.weight_file import WeightFile

Shape = tuple[int, ...]


@dataclass
class Named:
    """What a naming makes of a file's names.

    Attributes:
        ours: our name -> theirs.
        left: their name -> why it is left out.
    """

    ours: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


Naming = Callable[[Collection[str]], Named]


@dataclass(frozen=True)
class KeyMap:
    """A naming by replacement.

    Attributes:
        renames: replaced in this order wherever they stand in a name.
        left: regular expressions of names that are knowingly left out, and why.
    """

    renames: tuple[tuple[str, str], ...] = ()
    left: tuple[tuple[str, str], ...] = ()

    def __call__(self, theirs: Collection[str]) -> Named:
        named = Named()
        for name in theirs:
            why = next((why for pattern, why in self.left if re.search(pattern, name)), None)
            if why is not None:
                named.left[name] = why
                continue
            ours = name
            for old, new in self.renames:
                ours = ours.replace(old, new)
            if ours in named.ours:
                raise InputError(f"{name} and {named.ours[ours]} stand for the same tensor")
            named.ours[ours] = name
        return named


@dataclass
class MappedNetwork:
    """One network of a model, and where each of its tensors comes from.

    Attributes:
        network: built on the meta device: shapes without values.
        shapes: of all its tensors, by our name.
        tensors: our name -> the file and the name there.
        computed: tensors that no file holds because they follow from the configuration.
        left: file and name -> why it is left out.
    """

    network: Any
    shapes: dict[str, Shape]
    tensors: dict[str, tuple[WeightFile, str]]
    computed: dict[str, Tensor]
    left: dict[str, str]

    @property
    def config(self) -> dict[str, Any]:
        """The network's configuration."""
        config = self.network.config
        return dict(config) if isinstance(config, dict) else config.to_dict()

    def read(self, names: Collection[str]) -> dict[str, Tensor]:
        """Tensors by our names, in the network's shapes, in memory of their own.

        Raises:
            InputError: one holds values that are not finite.
        """
        out = {name: self.computed[name] for name in names if name in self.computed}
        wanted = {name: self.tensors[name] for name in names if name not in self.computed}
        for file in {id(file): file for file, _ in wanted.values()}.values():
            ours = {name: theirs for name, (source, theirs) in wanted.items() if source is file}
            read = file.read(ours.values())
            for theirs, tensor in read.items():
                if not torch.isfinite(tensor).all():
                    what = "NaN" if torch.isnan(tensor).any() else "infinity"
                    raise InputError(f"{file.path}: {theirs} holds {what}; the weights are damaged, get them again")
            out |= {name: read[theirs].reshape(self.shapes[name]) for name, theirs in ours.items()}
        return out


def fit(
    network: nn.Module, sources: Sequence[tuple[WeightFile, Naming]], computed: Mapping[str, Tensor] | None = None
) -> MappedNetwork:
    """Find every tensor of ``network`` in the files, and a place for every tensor of the files.

    Args:
        network: on the meta device.
        computed: values for tensors that the files may leave out.

    Raises:
        InputError: a tensor that is not in the files, one too many, one of another shape; by name.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    buffers = wanted.keys() - {name for name, _ in network.named_parameters()}
    tensors: dict[str, tuple[WeightFile, str]] = {}
    left: dict[str, str] = {}
    all_named: list[tuple[WeightFile, Named]] = []
    for file, naming in sources:
        try:
            all_named.append((file, naming(file.shapes.keys())))
        except InputError as error:
            raise InputError(f"{file.path}: {error}") from None
    given = {ours for _, named in all_named for ours in named.ours}
    absent = sorted(wanted.keys() - given - buffers)
    for file, named in all_named:
        left |= {f"{file.path.name}: {name}": why for name, why in named.left.items()}
        unknown = sorted(theirs for ours, theirs in named.ours.items() if ours not in wanted)
        if unknown:
            hint = f", and nothing for {absent[0]}{_more(absent)}" if absent else ""
            raise InputError(f"{file.path}: has an unknown tensor {unknown[0]}{_more(unknown)}{hint}")
        for ours, theirs in named.ours.items():
            if ours in tensors:
                other = tensors[ours][0].path.name
                raise InputError(f"{file.path}: {theirs} is in {other} too; leave the one that is meant")
            if not _same(file.shapes[theirs], wanted[ours]):
                got, want = ("x".join(map(str, shape)) or "a number" for shape in (file.shapes[theirs], wanted[ours]))
                raise InputError(f"{file.path}: {theirs} is {got}; this network needs {want}")
            tensors[ours] = (file, theirs)
    absent = sorted(wanted.keys() - tensors.keys() - (computed or {}).keys())
    if absent:
        files = " and ".join(str(file.path) for file, _ in sources)
        raise InputError(f"{files}: nothing for {absent[0]}{_more(absent)}; the file is not whole, or another model's")
    missing = {name: value for name, value in (computed or {}).items() if name not in tensors}
    return MappedNetwork(network, wanted, tensors, missing, left)


def _same(theirs: Shape, ours: Shape) -> bool:
    # 1x1 convolutions and linear layers are one thing in two layouts.
    return theirs == ours or (len(theirs) > len(ours) and theirs == (*ours, *[1] * (len(theirs) - len(ours))))


def _more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
