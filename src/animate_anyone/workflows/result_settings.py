"""The settings of a result travel with it: as the comment of the video, and in a JSON file beside it.

Both hold one object: ``program``, ``version``, ``verb``, the names of the inputs, and ``settings``, which have the
names of the command's options. The file beside the video has the lines of the report too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import animate_anyone
from animate_anyone.errors import InputError, shortened
from animate_anyone.media import check_writable, read_comment, whole_file
from animate_anyone.workflows.setting_values import parse_object, read_value, shown, written

PROGRAM = "animate-anyone"
LARGEST = 1_000_000
"""Bytes of a file of settings."""
_NOT_OF_THE_RESULT = ("keep", "device", "offload", "vae_tiling", "attention", "compile")
# Settings that say where something is written, or how a machine does the work, not what is made.


def describe_result(verb: str, character: str | Path, video: str | Path, settings: Any) -> dict[str, Any]:
    """What the comment of a result says; inputs by their names without folders.

    Args:
        verb: ``animate`` or ``replace``.
        settings: a record of the verb's settings.
    """
    values = {name: value for name, value in written(settings).items() if name not in _NOT_OF_THE_RESULT}
    names = {"character": os.path.basename(character), "video": os.path.basename(video)}
    return {"program": PROGRAM, "version": animate_anyone.__version__, "verb": verb, **names, "settings": values}


def beside(output: str | Path) -> Path:
    """The file of settings beside a result: ``out.mp4.json``."""
    return Path(f"{output}.json")


def check_beside(output: Path, inputs: tuple[str | Path, ...]) -> None:
    """Raise :class:`InputError` where the file beside a result cannot be written, or one that is there is none of ours.

    Args:
        inputs: files that the work starts from.
    """
    file = check_writable(beside(output), (), inputs)
    if not file.exists():
        return
    try:
        read_record(file)
    except InputError:
        raise InputError(
            f"{file}: is there and holds no settings of a result, which would be written there; give another --output"
        ) from None


def write_beside(output: Path, record: Mapping[str, Any]) -> None:
    """Write the file beside a result. Raises :class:`InputError` where it cannot be written."""
    with whole_file(beside(output)) as part:
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_record(path: str | Path) -> dict[str, Any]:
    """What a result, or the file beside it, says of how it was made.

    Of a video without a comment of ours, as it is after somebody converted it, the file beside it is read.

    Raises:
        InputError: it cannot be read, or says nothing of that kind.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        return _parse(path, _text_of(path))
    comment = read_comment(path)
    if comment is not None:
        try:
            return _parse(path, comment)
        except InputError:
            if not beside(path).is_file():
                raise
    if not beside(path).is_file():
        raise InputError(f"{path}: holds no settings; give a result of {PROGRAM}, or the .json file beside it")
    return read_record(beside(path))


def read_settings(path: str | Path, verb: str, kind: type[Any]) -> dict[str, Any]:
    """The settings of a result, each as the record ``kind`` of the verb's settings has it.

    Raises:
        InputError: as :func:`read_record`; or it was made by another verb, or a setting is not known or not possible.
    """
    record = read_record(path)
    if record["verb"] != verb:
        raise InputError(f"{path}: was made by {shortened(record['verb'])}, not by {verb}; give another result")
    types = get_type_hints(kind)
    names = [field.name for field in fields(kind) if field.name not in _NOT_OF_THE_RESULT]
    unknown = [name for name in record["settings"] if name not in names]
    if unknown:
        version = shortened(str(record.get("version")))
        raise InputError(f"{path}: its setting {shortened(unknown[0])} is not known here; version {version} wrote it")
    try:
        values = {name: read_value(name, types[name], value) for name, value in record["settings"].items()}
        kind(**values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return values


def _text_of(path: Path) -> str:
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file; give a result of {PROGRAM}, or the .json file beside it")
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path}: is too large for settings; give a result of {PROGRAM}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a result of {PROGRAM}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text; give a result of {PROGRAM}, or the .json file beside it") from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        record = parse_object(text)
    except InputError:
        record = {}
    if record.get("program") != PROGRAM or not isinstance(record.get("settings"), dict):
        raise InputError(
            f"{path}: holds no settings of {PROGRAM}; give one of its results, or the .json file beside it"
        )
    if not isinstance(record.get("verb"), str):
        raise InputError(f"{path}: its verb is {shown(record.get('verb'))}; give another result")
    return record
