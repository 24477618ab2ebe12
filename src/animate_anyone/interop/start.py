"""The folder that training at the papers' size starts from: Stable Diffusion's UNet, its autoencoder, a CLIP image
encoder; as safetensors, with ``start.json``, which says what they were made of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from animate_anyone.errors import InputError
from animate_anyone.interop import catalog, source
from animate_anyone.interop.catalog import Entry
from animate_anyone.interop.key_map import MappedNetwork
from animate_anyone.interop.published_part import IMAGE_ENCODER_PART, PARTS, UNET_PART, VAE_PART, find_part
from animate_anyone.interop.writing import check_space, new_folder, write_part
from animate_anyone.progress import SILENT, Progress

RECIPES = {"aa1": "recipes/aa1_stage1.yaml", "aa2": "recipes/aa2.yaml"}
"""What is trained from such a folder, and the recipe that begins it."""
NAME = "start.json"
# Where nothing is given: the names of the catalogue.
_USUAL = {UNET_PART: "stable-diffusion-1.5", VAE_PART: "sd-vae-ft-mse", IMAGE_ENCODER_PART: "clip-image-encoder"}


@dataclass(frozen=True)
class Sources:
    """Where the parts lie.

    Attributes:
        places: a folder or file, by part.
        absent: entries of the catalogue that are not whole in their folders, which are among ``places``.
    """

    places: Mapping[str, Path]
    absent: tuple[tuple[Entry, Path], ...]


def find_sources(given: Mapping[str, str | None]) -> Sources:
    """Where each part comes from: what is given, else the folder given for the UNet if it is there, else the catalogue.

    Args:
        given: by part: a folder, a file, or a name of the catalogue.

    Raises:
        InputError: what is given and is here does not hold the part, or not whole.
    """
    places: dict[str, Path] = {}
    absent: dict[str, tuple[Entry, Path]] = {}
    for part in PARTS:
        text = given.get(part)
        if text is None and UNET_PART not in absent and given.get(UNET_PART) and find_part(places[UNET_PART], part):
            places[part] = places[UNET_PART]
            continue
        text = text or _USUAL[part]
        if Path(text).exists() or source.is_path(text):
            places[part] = Path(text)
        else:
            entry = catalog.find(text)
            places[part] = source.default_folder(entry)
            if source.state(places[part]) != "whole":
                absent[part] = entry, places[part]
                continue
        _part_of(places[part], part)
    return Sources(places, tuple({entry.name: (entry, folder) for entry, folder in absent.values()}.values()))


def check_output(what: str, output: Path) -> None:
    """Refuse, before anything is downloaded, an unknown method and a folder that holds something."""
    if what not in RECIPES:
        raise InputError(f"{what}: nothing that can be started; give {' or '.join(RECIPES)}")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: exists already; give a new folder")


def make_start(what: str, places: Mapping[str, Path], output: Path, progress: Progress = SILENT) -> list[str]:
    """Put the folder together; returns lines for the user.

    Args:
        what: ``aa1`` or ``aa2``.
        places: by part, the folder or file that holds it.
        output: the folder to make; it must not exist, or be empty.

    Raises:
        InputError: a part that is missing, not whole, damaged, or of widths that do not fit the others; by name.
    """
    check_output(what, output)
    parts = {part: _part_of(places[part], part) for part in PARTS}
    _check_widths(places, parts)
    check_space(output, parts, None)
    made_of = {part: _made_of(places[part], network, progress) for part, network in parts.items()}
    with new_folder(output) as folder:
        for part, network in parts.items():
            write_part(folder / part, network, None, progress, part)
        (folder / NAME).write_text(json.dumps({"start_of": what, "parts": made_of}, indent=1) + "\n")
    lines = [f"{part}: from {places[part]}" for part in parts]
    return [*lines, f"{output}: written", f"to train, type: animate-anyone train {RECIPES[what]} init={output}"]


def _part_of(place: Path, part: str) -> MappedNetwork:
    if not place.exists():
        raise InputError(f"{place}: no such file or folder")
    found = find_part(place, part)
    if found is None:
        raise InputError(f"{place}: holds no {part}; give a folder with its config.json and its weights")
    return found


def _check_widths(places: Mapping[str, Path], parts: Mapping[str, MappedNetwork]) -> None:
    unet = parts[UNET_PART].config
    for part, setting, name in (
        (VAE_PART, "latent_channels", "in_channels"),
        (IMAGE_ENCODER_PART, "projection_dim", "cross_attention_dim"),
    ):
        got, want = parts[part].config[setting], unet[name]
        if got != want:
            raise InputError(f"{places[part]}: the {part} has {setting} {got}; the UNet's {name} is {want}")


def _made_of(place: Path, network: MappedNetwork, progress: Progress) -> dict[str, Any]:
    """Where a part comes from: files with their SHA-256, repositories and commits where it was pulled."""
    sources = {id(file): file for file, _ in network.tensors.values()}
    files = sorted(path for file in sources.values() for path in file.files)
    root = place if place.is_dir() else place.parent
    read = progress.track(files, len(files), "digest")
    out: dict[str, Any] = {
        "from": str(place),
        "files": {path.relative_to(root).as_posix(): f"sha256:{source.digests(path)[0]}" for path in read},
    }
    record = source.read(root)
    if record is not None:
        out["pulled"] = {pinned.repo: pinned.commit for pinned in record.pinned if _uses(pinned, out["files"])}
    return out


def _uses(pinned: source.Pinned, files: Iterable[str]) -> bool:
    return any(str(pinned.local(file)) in files for file in pinned.files)
