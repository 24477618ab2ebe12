"""Published weights become a model folder of ours; nothing is written before everything fits."""

from __future__ import annotations

import importlib.metadata
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler

from animate_anyone.errors import InputError
from animate_anyone.interop import catalog, moore
from animate_anyone.interop.animatediff import motion_names, positions, read_motion_adapter
from animate_anyone.interop.finding import find_config, find_weights, given_settings, read_config
from animate_anyone.interop.key_map import MappedNetwork
from animate_anyone.interop.preset import MOORE, MOTION_HEADS, MUSEPOSE, NOVITA, NOVITA_GUIDER_WIDTHS, SCHEDULE, Preset
from animate_anyone.interop.published_part import find_parts
from animate_anyone.interop.stable_diffusion import (
    UNET,
    VAE,
    is_unet,
    read_image_encoder,
    read_single_file,
    read_unet,
    read_vae,
)
from animate_anyone.interop.weight_file import WeightFile
from animate_anyone.interop.writing import check_space, new_folder, write_part
from animate_anyone.models.diffusers_files import diffusers_files
from animate_anyone.models.folder import AA1, NETWORKS, index_entry
from animate_anyone.models.number_types import DTYPES
from animate_anyone.models.shipped import INDEX
from animate_anyone.progress import SILENT, Progress


@dataclass
class _Plan:
    parts: dict[str, MappedNetwork]
    lines: list[str]
    scheduler: DDIMScheduler | None = None
    options: dict[str, Any] = field(default_factory=dict)


def convert_folder(
    source: Path,
    output: Path,
    dtype: str | None = None,
    progress: Progress = SILENT,
    *,
    beta_schedule: str | None = None,
    motion_heads: int | None = None,
) -> list[str]:
    """Convert published weights; returns lines for the user: what was found and written.

    Args:
        source: a folder with the files of Moore-AnimateAnyone, novita or MusePose, and the autoencoder
            and image encoder that belong to them, in it or in folders below; or one file or folder of
            AnimateDiff (becomes a ``MotionAdapter`` folder) or Stable Diffusion 1.5, whole or a part of it (becomes
            ``unet/``, ``vae/`` and ``image_encoder/``, those that are there).
        output: the folder to make; it must not exist, or be empty.
        dtype: ``float32``, ``float16`` or ``bfloat16``; ``None`` keeps what the files hold.
        beta_schedule: ``linear`` or ``scaled_linear`` instead of the project's own.
        motion_heads: of the temporal layers, where it is not the eight of all published ones.

    Raises:
        InputError: something is missing, left over, of another shape, damaged, or not tensors; by name.
    """
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not known; give {', '.join(DTYPES)}")
    if beta_schedule not in (None, "linear", "scaled_linear"):
        raise InputError(f"schedule {beta_schedule!r} is not known; give linear or scaled_linear")
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: exists already; give a new folder")
    plan = _plan(source, beta_schedule, motion_heads)
    check_space(output, plan.parts, dtype)
    with new_folder(output) as folder:
        for name, part in plan.parts.items():
            write_part(folder / name if name else folder, part, dtype, progress, name or "motion modules")
        if plan.scheduler is not None:
            plan.scheduler.save_pretrained(folder / "scheduler")
            classes = {part: index_entry(kind) for part, kind in {**NETWORKS, "scheduler": DDIMScheduler}.items()}
            index = {"_class_name": AA1, "_diffusers_version": importlib.metadata.version("diffusers")}
            index |= classes | plan.options
            (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
            for name, content in diffusers_files(index).items():
                (folder / name).write_text(content)
    return [*plan.lines, f"{output}: written"]


def _plan(source: Path, beta_schedule: str | None, motion_heads: int | None) -> _Plan:
    """Find out what is there and fit it; reads names and shapes only."""
    found = {name: find_weights(source, name) for name in catalog.FILES} if source.is_dir() else {}
    if any(found.values()):
        return _plan_model(source, found, beta_schedule, motion_heads)
    if beta_schedule is not None:
        raise InputError(f"{source}: not a model, so there is no schedule to choose")
    if source.is_dir() and (parts := find_parts(source)):
        return _Plan(parts, [f"Stable Diffusion's {' and '.join(parts)}", *_left(parts)])
    file = WeightFile(source)
    parts = read_single_file(file)
    if parts:
        return _Plan(parts, [f"Stable Diffusion, single file: {' and '.join(parts)}", *_left(parts)])
    if motion_names(file.shapes):
        part = read_motion_adapter(file, motion_heads or MOTION_HEADS)
        config = part.config
        middle = "with" if config["use_motion_mid_block"] else "without"
        line = f"AnimateDiff motion modules, {config['motion_max_seq_length']} positions, {middle} a middle block"
        return _Plan({"": part}, [line])
    if source.is_file() and (parts := find_parts(source)):
        return _Plan(parts, [f"Stable Diffusion's {' and '.join(parts)}", *_left(parts)])
    if is_unet(file.shapes):  # a folder without a configuration
        return _Plan({"unet": read_unet(file, UNET)}, ["Stable Diffusion's unet"])
    raise InputError(
        f"{source}: neither Animate Anyone ({', '.join(catalog.FILES)}) nor AnimateDiff nor Stable Diffusion 1.5"
    )


def _plan_model(
    source: Path, found: dict[str, list[Path]], beta_schedule: str | None, motion_heads: int | None
) -> _Plan:
    given_schedule, given_heads, lines = given_settings(source)
    unet_file = find_config(source, "unet")
    unet = read_config(unet_file.parent, UNET) if unet_file else UNET
    if unet_file is None:
        lines.append("no unet/config.json there: Stable Diffusion 1.5's configuration is taken")

    files = {name: WeightFile(paths[0]) for name, paths in found.items() if paths}
    for name in (catalog.DENOISING_UNET, catalog.REFERENCE_UNET, catalog.POSE_GUIDER):
        if name not in files:
            raise InputError(f"{source}: {name}.pth (or .safetensors) is missing; the model needs it")
    denoising, motion = files[catalog.DENOISING_UNET], files.get(catalog.MOTION_MODULE)
    if motion_names(denoising.shapes):
        if motion is not None:
            lines.append(f"{motion.path.name}: not used, {denoising.path.name} has motion modules inside")
        motion = None
    elif motion is None:
        raise InputError(
            f"{source}: {catalog.MOTION_MODULE}.pth (or .safetensors) is missing; {denoising.path.name} has none inside"
        )
    preset = _recognise(motion or denoising, files[catalog.POSE_GUIDER])
    heads = motion_heads or given_heads
    parts = {
        "denoising_unet": moore.read_denoising_unet(unet, denoising, motion, preset, heads),
        "reference_net": moore.read_reference_net(unet, files[catalog.REFERENCE_UNET]),
        "pose_guider": moore.read_pose_guider(files[catalog.POSE_GUIDER]),
    }
    lines += _check_twins(found, files)
    for part, kind, read, default, usual in (
        ("image_encoder", "CLIP image encoder", read_image_encoder, None, "image_encoder/"),
        ("vae", "autoencoder", read_vae, VAE, "vae/ or sd-vae-ft-mse/"),
    ):
        config_file = find_config(source, part)
        if config_file is None:
            raise InputError(f"{source}: the {kind} is missing: {usual} with config.json and its weights")
        parts[part] = read(WeightFile(config_file.parent), read_config(config_file.parent, default))
    _check_widths(source, parts)
    guider = parts["pose_guider"].config
    motion_config = parts["denoising_unet"].config
    schedule = {**SCHEDULE, "beta_schedule": preset.beta_schedule, **given_schedule}
    if beta_schedule is not None:
        schedule["beta_schedule"] = beta_schedule
    other = f" ({preset.other_schedule})" if preset.other_schedule else ""
    lines = [
        f"{preset.project}: guider widths {', '.join(map(str, guider['block_out_channels']))};"
        f" {motion_config['motion_max_seq_length']} positions; motion modules"
        f" {'inside denoising_unet' if motion is None else 'in a file of their own'}",
        f"betas {schedule['beta_schedule']}{other}",
        *lines,
        *_left(parts),
    ]
    return _Plan(parts, lines, DDIMScheduler(**schedule), preset.pipeline_options())


def _recognise(motion: WeightFile, guider: WeightFile) -> Preset:
    """Whose files these are: MusePose leaves out the position tables, novita's guider has other widths."""
    if positions(motion) in (None, MUSEPOSE.positions):
        return MUSEPOSE
    return NOVITA if moore.guider_widths(guider)[1] == NOVITA_GUIDER_WIDTHS else MOORE


def _check_twins(found: dict[str, list[Path]], files: dict[str, WeightFile]) -> list[str]:
    """Where a file lies there in two formats, the second must hold the same names and shapes."""
    lines = []
    for name, paths in found.items():
        for path in paths[1:]:
            twin = WeightFile(path)
            odd = sorted(set(twin.shapes.items()) ^ set(files[name].shapes.items()))
            if odd:
                raise InputError(
                    f"{path}: differs from {paths[0].name} beside it in {odd[0][0]}; leave the one that is meant"
                )
            lines.append(f"{path.name}: not used, {paths[0].name} beside it holds the same tensors")
    return lines


def _check_widths(source: Path, parts: dict[str, MappedNetwork]) -> None:
    """The networks' widths against each other, where one's output is another's input."""
    config = {name: part.config for name, part in parts.items()}
    unet = config["denoising_unet"]
    for part, setting, other, name in (
        ("pose_guider", "out_channels", unet["block_out_channels"][0], "first width"),
        ("vae", "latent_channels", unet["in_channels"], "in_channels"),
        ("image_encoder", "projection_dim", unet["cross_attention_dim"], "cross_attention_dim"),
    ):
        if config[part][setting] != other:
            raise InputError(f"{source}: {part} has {setting} {config[part][setting]}; the UNet's {name} is {other}")


def _left(parts: dict[str, MappedNetwork]) -> list[str]:
    reasons = Counter(why for part in parts.values() for why in part.left.values())
    return [f"left out: {count} x {why}" for why, count in reasons.items()]
