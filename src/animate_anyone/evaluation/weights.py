"""Which files the learned measures need, where they are looked for, and how to get them.

They are other people's and not shipped. Nothing is downloaded here: for a missing file the command to type is shown.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

FOLDER_VARIABLE = "ANIMATE_ANYONE_METRICS"


@dataclass(frozen=True)
class Source:
    """A file of weights: its name in the folder, and a public address of it."""

    name: str
    url: str


VGG = Source("vgg16-397923af.pth", "https://download.pytorch.org/models/vgg16-397923af.pth")
LPIPS = Source(
    "lpips_v0.1_vgg.pth",
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/vgg.pth",
)
INCEPTION = Source(
    "pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
)
I3D = Source(
    "i3d_pretrained_400.pt",
    "https://huggingface.co/spaces/LanguageBind/Open-Sora-Plan-v1.0.0/resolve/"
    "810fa8c4bdb3a4c8eec9bd57375c29bde6fb46de/opensora/eval/fvd/videogpt/i3d_pretrained_400.pt",
)
RESNET = Source(
    "resnet-50-kinetics.pth",
    "https://github.com/yjh0410/YOWOF/releases/download/yowof-weight/resnet-50-kinetics.pth",
)

SOURCES = {"lpips": (VGG, LPIPS), "fid": (INCEPTION,), "fid_vid": (RESNET,), "fvd": (I3D,)}


def weights_folder(given: Path | None = None) -> Path:
    """Where weights are looked for: ``given``, else ``ANIMATE_ANYONE_METRICS``, else a folder of the cache."""
    if given is not None:
        return given
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "animate-anyone" / "metrics"


def needed(metric: str, folder: Path) -> str | None:
    """What ``metric`` lacks in ``folder`` and the line that gets it; ``None`` where it lacks nothing."""
    missing = [source for source in SOURCES.get(metric, ()) if not (folder / source.name).is_file()]
    if not missing:
        return None
    lines = " && ".join(get_line(source, folder) for source in missing)
    return f"needs {' and '.join(source.name for source in missing)}; type: {lines}"


def get_line(source: Source, folder: Path) -> str:
    """The command that brings a file to its place."""
    return f'curl -L --fail --create-dirs -o "{folder / source.name}" {source.url}'


def sha256(file: Path) -> str:
    """Digest of a file, read piece by piece."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
