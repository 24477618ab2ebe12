"""Where ComfyUI's files lie: folders below ``base``."""

from __future__ import annotations

import os
from pathlib import Path

base = Path(os.environ["COMFYUI_BASE"])
models_dir = str(base / "models")
_places: dict[str, list[str]] = {}


def add_model_folder_path(folder_name: str, full_folder_path: str) -> None:
    """Another folder of models of this kind."""
    places = _places.setdefault(folder_name, [])
    if full_folder_path not in places:
        places.append(full_folder_path)


def get_folder_paths(folder_name: str) -> list[str]:
    """The folders of models of this kind."""
    return list(_places[folder_name])


def get_input_directory() -> str:
    """Where what is uploaded lies."""
    return str(base / "input")


def get_output_directory() -> str:
    """Where results go."""
    return str(base / "output")


def get_annotated_filepath(name: str) -> str:
    """The path of a file of the input folder."""
    return str(base / "input" / name)


def get_save_image_path(
    filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
) -> tuple[str, str, int, str, str]:
    """Folder, name, number, folder below the output folder, and the prefix."""
    subfolder, name = os.path.split(filename_prefix)
    folder = Path(output_dir) / subfolder
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [int(file.name[len(name) + 1 :].split("_")[0]) for file in folder.glob(f"{name}_*_*")]
    return str(folder), name, max(numbers, default=0) + 1, subfolder, filename_prefix
