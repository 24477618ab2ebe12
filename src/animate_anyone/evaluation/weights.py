"""Which files the learned measures need, where they are looked for, and how to get them.

They are other people's and not shipped. Nothing is downloaded here: for a missing file the command to type is shown.
What is known of them stands in :mod:`animate_anyone.interop.catalog`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from animate_anyone.interop import catalog, source
from animate_anyone.interop.catalog import I3D, INCEPTION, LPIPS, RESNET, VGG, WebFile

__all__ = ["I3D", "INCEPTION", "LPIPS", "RESNET", "SOURCES", "VGG"]

FOLDER_VARIABLE = "ANIMATE_ANYONE_METRICS"
SOURCES = {"lpips": (VGG, LPIPS), "fid": (INCEPTION,), "fid_vid": (RESNET,), "fvd": (I3D,)}


def weights_folder(given: Path | None = None) -> Path:
    """Where weights are: ``given``, else ``ANIMATE_ANYONE_METRICS``, else where ``models pull`` puts them."""
    if given is not None:
        return given
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else source.home() / catalog.METRICS


def file_of(wanted: WebFile, folder: Path) -> Path:
    """Where a file lies: in ``folder``, else in the folder of its measure there, as ``models pull`` puts it."""
    pulled = folder / _entry_of(wanted) / wanted.name
    direct = folder / wanted.name
    return pulled if pulled.is_file() and not direct.is_file() else direct


def needed(metric: str, folder: Path) -> str | None:
    """What ``metric`` lacks in ``folder`` and the line that gets it; ``None`` where it lacks nothing."""
    missing = [wanted for wanted in SOURCES.get(metric, ()) if not file_of(wanted, folder).is_file()]
    if not missing:
        return None
    return f"needs {' and '.join(wanted.name for wanted in missing)}; type: {get_line(missing[0], folder)}"


def get_line(wanted: WebFile, folder: Path) -> str:
    """The command that brings a file, with what its measure needs besides, to where ``folder`` is looked through."""
    name = _entry_of(wanted)
    entry = catalog.find(name)
    place = folder / name
    return f"animate-anyone models pull {name}" + ("" if place == source.default_folder(entry) else f' -o "{place}"')


def _entry_of(wanted: WebFile) -> str:
    """The name of a file's measure in the catalogue."""
    return next(entry.name for entry in catalog.ENTRIES if wanted in entry.sources)


def sha256(file: Path) -> str:
    """Digest of a file, read piece by piece."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
