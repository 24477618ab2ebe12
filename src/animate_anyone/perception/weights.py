"""Somebody's networks from a folder that the user names: nothing is downloaded, nothing unpickled."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from animate_anyone.errors import InputError


def load_network(class_name: str, folder: str | Path | None, what: str) -> Any:
    """A network of transformers from a folder in its own form (``config.json``, ``*.safetensors``).

    Args:
        class_name: in transformers: ``"Sam2VideoModel"``.
        folder: where it lies; ``None`` is refused.
        what: the name of the backend, for the message.

    Raises:
        InputError: no folder, no such network in it, or weights that are missing or do not fit.
    """
    path = check_folder(folder, what)
    network = getattr(importlib.import_module("transformers"), class_name)
    try:
        loaded, report = network.from_pretrained(
            path, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:
        raise InputError(f"{path}: cannot be loaded for {what}: {' '.join(str(error).split())[:300]}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(f"{path}: no whole {class_name} for {what}; weights are missing: {', '.join(missing[:3])}")
    return loaded


def load_processor(class_name: str, folder: str | Path | None, what: str) -> Any:
    """The processor that lies beside such a network. Raises :class:`InputError` as :func:`load_network` does."""
    path = check_folder(folder, what)
    try:
        return getattr(importlib.import_module("transformers"), class_name).from_pretrained(path, local_files_only=True)
    except Exception as error:
        raise InputError(f"{path}: its processor cannot be loaded: {' '.join(str(error).split())[:300]}") from error


def check_folder(folder: str | Path | None, what: str) -> Path:
    """The folder of a backend's weights. Raises :class:`InputError` where there is none."""
    if folder is None:
        raise InputError(f"{what} needs weights and none are bundled; give their folder: weights=FOLDER")
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise InputError(f"{path}: no config.json there; give the folder of {what}'s weights as transformers saves it")
    return path
