"""What became of each job of ``batch``: a small file each, written whole when it is done, which later calls read."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import animate_anyone
from animate_anyone.models.folder import model_folder
from animate_anyone.models.shipped import SHIPPED
from animate_anyone.system.stamps import stamp
from animate_anyone.system.whole_files import whole_file, writing
from animate_anyone.workflows.batch_jobs import Job

FOLDER = "records"


class Records:
    """The records of a folder of results.

    Args:
        folder: the results'; the records are in :data:`FOLDER` there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._models: dict[str, list[int]] = {}

    def of_done(self, job: Job) -> dict[str, Any] | None:
        """The record of a job whose result is there, made of what it is made of now; else ``None``.

        The result is the file that was written then: another one in its place is not taken for it.
        """
        try:
            record = json.loads(self._file(job).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(record, dict) or record.get("status") != "made":
            return None
        if record.get("made_of") != self.made_of(job) or not (written := stamp(job.output)):
            return None
        return record if record.get("output") == written else None

    def made_of(self, job: Job) -> str:
        """A digest of all that a result depends on, hexadecimal.

        That is the verb, the settings, the size and the time of the last change of each input and of the model's files
        (the shipped ones are the package's), and the version of this package. The folder from which the command is
        typed does not matter.
        """
        model = job.settings.model
        if model not in self._models:
            self._models[model] = [] if model in SHIPPED else stamp(model_folder(model))
        settings = {field.name: getattr(job.settings, field.name) for field in fields(job.settings)}
        content = {
            "version": animate_anyone.__version__,
            "verb": job.verb,
            "settings": {name: _absolute(name, value) for name, value in settings.items()},
            "inputs": [[os.path.abspath(path), stamp(path)] for path in job.inputs()],
            "model": self._models[model],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def write(self, job: Job, record: dict[str, Any]) -> None:
        """Raises :class:`InputError` where it cannot be written."""
        file = self._file(job)
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part:
            part.write_text(json.dumps({"job": job.name, **record}, indent=1), encoding="utf-8")

    def _file(self, job: Job) -> Path:
        place = os.path.abspath(job.output)
        digest = hashlib.sha256(os.fsencode(place)).hexdigest()[:8]
        return self._folder / f"{job.output.name[:60]}.{digest}.json"


def _absolute(name: str, value: Any) -> str:
    """A setting as text; paths are absolute."""
    may_be_path = name in ("model", "objects") and value is not None and value not in SHIPPED
    is_path = isinstance(value, Path) or (may_be_path and os.path.exists(value))
    return os.path.abspath(value) if is_path else str(value)
