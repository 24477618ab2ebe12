"""What was found out about each source and each clip, one small file each, written whole: the memory of a data set.

A call that was ended goes on from them, and the manifest is made of them.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from animate_anyone.preparation.settings import PrepareSettings
from animate_anyone.preparation.sources import Source
from animate_anyone.system.stamps import stamp
from animate_anyone.system.whole_files import whole_file, writing

FOLDER = "records"
KEPT, DROPPED, BROKEN, FAILED = "kept", "dropped", "broken", "failed"
"""What became of a source or a clip. ``failed``, by an error of the program, is tried again by the next call."""


class Records:
    """The records of a data set made with these settings; others are taken for missing.

    Args:
        dataset: its folder.
        settings: those asked for.
    """

    def __init__(self, dataset: Path, settings: PrepareSettings) -> None:
        self._dataset, self._digest = dataset, settings.digest

    def of_source(self, source: Source) -> dict[str, Any] | None:
        """The record of a source; ``None`` where there is none, it failed, or the file has changed since."""
        return _done(self._source(source))

    def failure_of_source(self, source: Source) -> dict[str, Any] | None:
        """The record of a source that failed, as it is now."""
        return _failed(self._source(source))

    def of_clip(self, clip: str) -> dict[str, Any] | None:
        """The record of a clip; ``None`` where there is none, it failed, or a file of it is gone."""
        record = _done(self._read(self._clip_file(clip)))
        if record is None or not all((self._dataset / f["path"]).is_file() for f in record.get("files", {}).values()):
            return None
        return record

    def failure_of_clip(self, clip: str) -> dict[str, Any] | None:
        """The record of a clip that failed."""
        return _failed(self._read(self._clip_file(clip)))

    def write_source(self, source: Source, record: dict[str, Any]) -> None:
        """Raises :class:`InputError` where it cannot be written."""
        self._write(self._source_file(source), record | {"stamp": stamp(source.path)})

    def write_clip(self, clip: str, record: dict[str, Any]) -> None:
        """Raises :class:`InputError` where it cannot be written."""
        self._write(self._clip_file(clip), record)

    def _source(self, source: Source) -> dict[str, Any] | None:
        record = self._read(self._source_file(source))
        return record if record is not None and record.get("stamp") == stamp(source.path) else None

    def _source_file(self, source: Source) -> Path:
        about = f"{os.path.abspath(source.path)}\0{source.fps}"
        name = hashlib.sha256(about.encode(errors="surrogateescape")).hexdigest()[:24]
        return self._dataset / FOLDER / "sources" / name[:2] / f"{name}.json"

    def _clip_file(self, clip: str) -> Path:
        return self._dataset / FOLDER / "clips" / clip[:2] / f"{clip}.json"

    def _read(self, file: Path) -> dict[str, Any] | None:
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(record, dict) or record.get("settings") != self._digest:
            return None
        return record

    def _write(self, file: Path, record: dict[str, Any]) -> None:
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part:
            part.write_text(json.dumps(record | {"settings": self._digest}), encoding="utf-8")


def _done(record: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if record is None or record.get("status") == FAILED else record


def _failed(record: dict[str, Any] | None) -> dict[str, Any] | None:
    return record if record is not None and record.get("status") == FAILED else None
