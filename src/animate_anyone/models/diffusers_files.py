"""The small files with which diffusers alone loads a model folder, beside ``model_index.json``.

``pipeline.py`` is for ``DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER)``: diffusers takes a folder's
pipeline class from there. The other three are for ``ModularPipeline.from_pretrained(FOLDER)``: ``modular_config.json``
names the blocks' class in ``block.py``, and ``modular_model_index.json`` says where each network is loaded from, with
the options of ``model_index.json``. Both code files are an import of this package, nothing else.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from animate_anyone.errors import InputError
from animate_anyone.models.folder import AA1, AA2, check_classes, model_folder
from animate_anyone.models.shipped import INDEX
from animate_anyone.models.weight_files import read_settings
from animate_anyone.system.whole_files import whole_files

PIPELINE, BLOCK = "pipeline.py", "block.py"
BLOCKS_CONFIG, MODULAR_INDEX = "modular_config.json", "modular_model_index.json"
BLOCKS = {
    AA1: ("animate_anyone.sampling.modular_blocks", "AnimateAnyoneBlocks"),
    AA2: ("animate_anyone.sampling.modular_blocks_environment", "AnimateAnyone2Blocks"),
}
"""Pipeline class -> module and name of the class of its blocks."""
_OURS = "AnimateAnyone"  # stands in each of these files


def diffusers_files(index: Mapping[str, Any], repository: str | None = None) -> dict[str, str]:
    """The files of a model, by name.

    Args:
        index: the content of its ``model_index.json``.
        repository: ``OWNER/NAME`` on the Hub, where modular pipelines are to load the networks from. Not needed where
            the folder is on the machine: diffusers prefers the files beside the index.
    """
    kind = index["_class_name"]
    module, blocks = BLOCKS[kind]
    # One name for either class: diffusers runs the `pipeline.py` of every folder in one and the same module, and
    # refuses one that holds two pipelines.
    code = "# The pipeline of this folder, for diffusers' custom_pipeline; needs the package animate-anyone\n"
    pipeline = f"{code}from animate_anyone import {kind} as Pipeline  # noqa: F401\n"
    code = "# The blocks of this folder, for diffusers' ModularPipeline; needs the package animate-anyone\n"
    block = f"{code}from {module} import {blocks}  # noqa: F401\n"
    version = index.get("_diffusers_version", importlib.metadata.version("diffusers"))
    common = {"_class_name": blocks, "_diffusers_version": version}
    config = common | {"auto_map": {"ModularPipelineBlocks": f"{Path(BLOCK).stem}.{blocks}"}}
    modular: dict[str, Any] = common | {"_class_name": "ModularPipeline", "_blocks_class_name": blocks}
    for name, value in index.items():
        if name.startswith("_"):
            continue
        is_part = isinstance(value, list | tuple) and all(v is None or isinstance(v, str) for v in value)
        if not is_part:
            modular[name] = value
        elif value[0] is not None:
            source = {"pretrained_model_name_or_path": repository, "revision": None, "subfolder": name, "variant": None}
            modular[name] = [*value, {**source, "type_hint": list(value)}]
    return {
        PIPELINE: pipeline,
        BLOCK: block,
        BLOCKS_CONFIG: json.dumps(config, indent=2, sort_keys=True) + "\n",
        MODULAR_INDEX: json.dumps(modular, indent=2, sort_keys=True) + "\n",
    }


def write_diffusers_files(model: str | Path, repository: str | None = None) -> list[str]:
    """Write the files into a model folder, in place of older ones of ours.

    Returns:
        A line for each.

    Raises:
        InputError: it is no model folder, or a file of such a name is there that is somebody else's.
    """
    folder = model_folder(model)
    check_classes(folder)
    if repository is not None and repository.count("/") != 1:
        raise InputError(f"repository {repository!r}: give OWNER/NAME, as the Hub names it")
    files = diffusers_files(read_settings(folder / INDEX), repository)
    for name in files:
        if (folder / name).exists() and not is_ours(folder / name):
            raise InputError(f"{folder / name}: is there already and is not of this package; move it away")
    with whole_files(folder) as part:
        for name, content in files.items():
            (part / name).write_text(content, encoding="utf-8")
    return [f"{folder / name}: written" for name in files]


def is_ours(file: Path) -> bool:
    """Whether an index, or another of these files, is of a model of ours."""
    try:
        return file.is_file() and _OURS in file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
