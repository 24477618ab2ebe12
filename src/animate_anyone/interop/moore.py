"""Moore-AnimateAnyone: four files, on Stable Diffusion 1.5's UNet. Others train with its code and write its files."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from diffusers import UNet2DConditionModel

from animate_anyone.errors import InputError
from animate_anyone.interop.animatediff import MOTION, motion_names, position_tables, positions
from animate_anyone.interop.key_map import KeyMap, MappedNetwork, fit
from animate_anyone.interop.preset import MOTION_HEADS, Preset
from animate_anyone.interop.weight_file import WeightFile
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.models.shapes import shapes_only

REFERENCE = KeyMap(left=((r"^(conv_norm_out|conv_out)\.", "ReferenceNet's output, which nobody reads"),))


def read_denoising_unet(
    unet: dict[str, Any], denoising: WeightFile, motion: WeightFile | None, preset: Preset, heads: int | None = None
) -> MappedNetwork:
    """The denoising UNet with motion modules: in the same file, or in one of their own.

    Args:
        unet: Stable Diffusion's configuration.
        motion: ``None`` where they are inside.
        heads: of the temporal layers, where they are known not to be :data:`MOTION_HEADS`.
    """
    holder = motion or denoising
    names = motion_names(holder.shapes)
    if not names:
        raise InputError(f"{holder.path}: holds no motion modules")
    in_file = positions(holder)
    length = in_file or preset.positions
    if length is None:
        raise InputError(
            f"{holder.path}: holds no position tables, and {preset.project} has them; the file is not whole"
        )
    with shapes_only():
        network = DenoisingUNet.from_unet2d(
            UNet2DConditionModel.from_config(unet),
            motion_num_attention_heads=heads or MOTION_HEADS,
            motion_max_seq_length=length,
            use_motion_mid_block=any(name.startswith("mid_block.") for name in names),
        )
    sources = [(denoising, MOTION)] if motion is None else [(denoising, MOTION), (motion, MOTION)]
    return fit(network, sources, position_tables(network) if in_file is None else None)


def read_reference_net(unet: dict[str, Any], file: WeightFile) -> MappedNetwork:
    """ReferenceNet."""
    with shapes_only():
        network = ReferenceNet.from_unet2d(UNet2DConditionModel.from_config(unet))
    return fit(network, [(file, REFERENCE)])


def read_pose_guider(file: WeightFile) -> MappedNetwork:
    """The Pose Guider, in the ``open`` layout with the widths that the file shows."""
    channels, widths, out = guider_widths(file)
    with shapes_only():
        network = PoseGuider(out, widths, layout="open", conditioning_channels=channels)
    return fit(network, [(file, KeyMap())])


def guider_widths(file: WeightFile) -> tuple[int, tuple[int, ...], int]:
    """``(channels of the picture, widths, channels of the features)`` as most of the tensors say.

    Most, so that one tensor of a wrong shape is found out later instead of shaping the network.
    """
    count = sum(name.startswith("blocks.") and name.endswith(".bias") for name in file.shapes)
    layers = [f"blocks.{i}" for i in range(count)]
    if not layers or len(layers) % 2:
        raise InputError(f"{file.path}: {len(layers)} layers blocks.N; a Pose Guider's come in pairs")
    names = ["conv_in", *layers, "conv_out"]

    def size(name: str, axis: int) -> list[int]:
        shape = file.shapes.get(name, ())
        return [shape[axis]] if len(shape) > axis else []

    widths = []
    for layer, after in pairwise(names):
        said = size(f"{layer}.bias", 0) + size(f"{layer}.weight", 0) + size(f"{after}.weight", 1)
        if not said:
            raise InputError(f"{file.path}: nothing for {layer}.weight; the file is not whole")
        widths.append(Counter(said).most_common(1)[0][0])
    first = size("conv_in.weight", 1) or [3]
    out = size("conv_out.bias", 0) + size("conv_out.weight", 0)
    if not out:
        raise InputError(f"{file.path}: nothing for conv_out.weight; the file is not whole")
    return first[0], (widths[0], *widths[2::2]), out[0]
