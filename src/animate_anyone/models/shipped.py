"""The small models that come with the package; the heavy libraries are not needed to know."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

SHIPPED = ("puppet", "puppet-environment")
INDEX = "model_index.json"
"""The file that makes a folder a model folder."""


def shipped_folder(model: str) -> Path:
    """Where a shipped model lies, whether or not it is there."""
    return Path(str(files("animate_anyone") / "weights" / model))
