"""AnimateDiff's motion modules: v1, v2 and v3 files, folders of diffusers' ``MotionAdapter``, and the same
modules inside the checkpoints of others.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import torch
from diffusers import MotionAdapter
from diffusers.models.embeddings import SinusoidalPositionalEmbedding
from torch import Tensor, nn

from animate_anyone.errors import InputError
from animate_anyone.interop.key_map import KeyMap, MappedNetwork, fit
from animate_anyone.interop.preset import MOTION_HEADS
from animate_anyone.interop.weight_file import WeightFile
from animate_anyone.models.shapes import shapes_only

SECOND_TABLE = "attention_blocks.1.pos_encoder.pe"
FIRST_TABLE = "attention_blocks.0.pos_encoder.pe"
# Parts of a motion module -> diffusers' names for them.
MOTION = KeyMap(
    renames=(
        (".temporal_transformer.", "."),
        ("attention_blocks.0.pos_encoder.pe", "pos_embed.pe"),
        ("attention_blocks.0.", "attn1."),
        ("attention_blocks.1.", "attn2."),
        ("norms.0.", "norm1."),
        ("norms.1.", "norm2."),
        ("ff_norm.", "norm3."),
    ),
    left=((rf"{re.escape(SECOND_TABLE)}$", "the position table of attention_blocks.0 again"),),
)


def motion_names(names: Collection[str]) -> list[str]:
    """Those that belong to motion modules."""
    return [name for name in names if ".motion_modules." in name]


def positions(file: WeightFile) -> int | None:
    """How many frames the position tables in a file are for, ``None`` where it holds none.

    Raises:
        InputError: tables of different lengths, or two of one module that differ.
    """
    tables = sorted(name for name in file.shapes if name.endswith(("pos_encoder.pe", "pos_embed.pe")))
    lengths = {file.shapes[name][1] for name in tables if len(file.shapes[name]) == 3}
    if len(lengths) > 1:
        raise InputError(f"{file.path}: its position tables are of {min(lengths)} and {max(lengths)} frames")
    read = file.read(tables)
    for name in tables:
        if name.endswith(SECOND_TABLE):
            first = name.replace(SECOND_TABLE, FIRST_TABLE)
            if first in read and not torch.equal(read[first], read[name]):
                raise InputError(f"{file.path}: {name} is not the table of {first}; two tables cannot be kept")
    return lengths.pop() if lengths else None


def position_tables(network: nn.Module) -> dict[str, Tensor]:
    """The sinusoidal tables of a network's temporal layers, ``(1, frames, channels)`` by name.

    They follow from their shapes, and some projects leave them out of their files.
    """
    out = {}
    for name, module in network.named_modules():
        if isinstance(module, SinusoidalPositionalEmbedding):
            _, frames, channels = module.pe.shape
            with torch.device("cpu"):
                out[f"{name}.pe"] = SinusoidalPositionalEmbedding(channels, frames).pe
    return out


def read_motion_adapter(file: WeightFile, heads: int = MOTION_HEADS) -> MappedNetwork:
    """An AnimateDiff file, or a folder of diffusers' ``MotionAdapter``, as a motion adapter."""
    names = motion_names(file.shapes)
    if not names:
        raise InputError(f"{file.path}: holds no motion modules")
    widths, layers = [], []
    blocks = (int(found[1]) for name in names if (found := re.match(r"down_blocks\.(\d{1,2})\.", name)))
    for block in range(1 + max(blocks, default=0)):
        bias = rf"down_blocks\.{block}\..*motion_modules\.\d+\.(temporal_transformer\.)?norm\.bias$"
        norms = [name for name in names if re.match(bias, name)]
        if not norms:
            raise InputError(f"{file.path}: nothing for down_blocks.{block}.motion_modules; the file is not whole")
        widths.append(file.shapes[norms[0]][0])
        layers.append(len(norms))
    length = positions(file)
    with shapes_only():
        adapter = MotionAdapter(
            block_out_channels=tuple(widths),
            motion_layers_per_block=layers[0],
            motion_num_attention_heads=heads,
            motion_max_seq_length=length or 32,
            use_motion_mid_block=any(name.startswith("mid_block.") for name in names),
        )
    return fit(adapter, [(file, MOTION)], computed=position_tables(adapter) if length is None else None)
