"""What the result of a job depends on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import animate_anyone
from animate_anyone.models.folder import model_folder
from animate_anyone.models.shipped import SHIPPED
from animate_anyone.system.stamps import stamp
from animate_anyone.workflows.settings import WorkflowSettings


def made_of(verb: str, inputs: Iterable[str | Path], settings: WorkflowSettings) -> dict[str, Any]:
    """All that a result depends on, but for the machine; JSON.

    That is the verb, the settings, the size and the time of the last change of each input and of the model's files (the
    shipped ones are the package's), and the version of this package. The folder from which a command is typed does not
    matter.
    """
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {
        "version": animate_anyone.__version__,
        "verb": verb,
        "settings": {name: _absolute(name, value) for name, value in values.items()},
        "inputs": [[os.path.abspath(path), stamp(Path(path))] for path in inputs],
        "model": [] if settings.model in SHIPPED else stamp(model_folder(settings.model)),
    }


def _absolute(name: str, value: Any) -> str:
    """A setting as text; paths are absolute."""
    may_be_path = name in ("model", "objects") and value is not None and value not in SHIPPED
    is_path = isinstance(value, Path) or (may_be_path and os.path.exists(value))
    return os.path.abspath(value) if is_path else str(value)
