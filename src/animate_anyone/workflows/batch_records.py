"""What became of each job of ``batch``: a small file each, written whole when it is done, which later calls read."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from animate_anyone.system.stamps import stamp
from animate_anyone.system.whole_files import whole_file, writing
from animate_anyone.workflows.batch_jobs import Job
from animate_anyone.workflows.made_of import made_of

FOLDER = "records"


class Records:
    """The records of a folder of results.

    Args:
        folder: the results'; the records are in :data:`FOLDER` there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

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
        content = made_of(job.verb, job.inputs(), job.settings)
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
