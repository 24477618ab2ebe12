"""Which of a folder's files are which part of a foreign model: weights, configurations, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from diffusers import DDIMScheduler

from animate_anyone.errors import InputError
from animate_anyone.interop.weight_file import SUFFIXES
from animate_anyone.models.weight_files import read_settings

DEPTH = 3  # folders below the source that are looked into
# The class that the ``config.json`` of a foreign part names.
_CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "image_encoder": ("CLIPVisionModelWithProjection", "CLIPModel"),
}


def find_weights(source: Path, name: str) -> list[Path]:
    """``name``'s files in the nearest folder that has one, safetensors first."""
    for depth in range(DEPTH):
        found = [
            path
            for suffix in SUFFIXES
            for path in sorted(source.glob(f"{'*/' * depth}{name}{suffix}"))
            if path.is_file()
        ]
        folders = sorted({path.parent for path in found})
        if len(folders) > 1:
            raise InputError(f"{source}: {name} is in {folders[0]} and in {folders[1]}; give the folder of one model")
        if found:
            return found
    return []


def find_config(source: Path, part: str) -> Path | None:
    """The nearest ``config.json`` that says it is this part; one of the whole CLIP where there is no image encoder."""
    found = (_find_class(source, part, class_name) for class_name in _CLASSES[part])
    return next((path for path in found if path is not None), None)


def _find_class(source: Path, part: str, wanted: str) -> Path | None:
    for depth in range(DEPTH + 1):
        found = []
        for path in sorted(source.glob(f"{'*/' * depth}config.json")):
            if _class_name(read_settings(path)) == wanted:
                found.append(path)
        found = [path for path in found if path.parent.name == part] or found
        if any(_network(path) != _network(found[0]) for path in found):
            raise InputError(
                f"{source}: {part} is in {found[0].parent} and in {found[1].parent}; leave the one that is meant"
            )
        if found:
            return found[0]
    return None


def names_part(config: dict[str, Any], part: str) -> bool:
    """Whether a configuration says it is this part's."""
    return _class_name(config) in _CLASSES[part]


def _class_name(config: dict[str, Any]) -> Any:
    return config.get("_class_name") or next(iter(config.get("architectures") or []), None)


def _network(config_file: Path) -> dict[str, Any]:
    """What a configuration says of the network, without remarks on where it came from."""
    return {key: value for key, value in read_settings(config_file).items() if not key.startswith("_")}


def read_config(folder: Path, default: dict[str, Any] | None) -> dict[str, Any]:
    """A network's configuration, in its folder or in ``unet/`` below; ``default`` where there is none.

    Raises:
        InputError: there is none, and no default; or it cannot be read.
    """
    for file in (folder / "config.json", folder / "unet" / "config.json"):
        if file.is_file():
            return read_settings(file)
    if default is None:
        raise InputError(f"{folder}: config.json is missing")
    return default


def given_settings(source: Path) -> tuple[dict[str, Any], int | None, list[str]]:
    """The schedule, the heads of the temporal layers and a line for the user, from the project's own inference
    configuration where it lies beside the weights; empty where there is none.
    """
    for depth in range(DEPTH):
        for path in sorted(source.glob(f"{'*/' * depth}inference*.yaml")):
            try:
                content = yaml.safe_load(path.read_text())
                motion = content.get("unet_additional_kwargs", {}).get("motion_module_kwargs", {})
                heads, given = motion.get("num_attention_heads"), content.get("noise_scheduler_kwargs", {})
                schedule = {k: v for k, v in given.items() if k != "num_train_timesteps"}
            except (OSError, ValueError, AttributeError, yaml.YAMLError):
                raise InputError(f"{path}: cannot be read as YAML settings; mend it or take it away") from None
            unknown = sorted(schedule.keys() - set(DDIMScheduler._get_init_keys(DDIMScheduler)))
            if unknown:
                raise InputError(f"{path}: noise_scheduler_kwargs has an unknown setting {unknown[0]}")
            return schedule, heads, [f"schedule and heads from {path.name}"]
    return {}, None, []
