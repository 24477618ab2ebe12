"""Settings as JSON has them: sizes, frames and frame rates are written as on the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

from animate_anyone.errors import InputError, shortened
from animate_anyone.media import parse_fps, parse_range, parse_size


def parse_object(text: str) -> dict[str, Any]:
    """The fields of one JSON object, named as settings are. Raises :class:`InputError`, without the text's place."""

    def constant(name: str) -> None:
        raise ValueError(f"{name} is no number")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise ValueError(f"{shortened(name)} stands twice")
            found[name] = value
        return found

    try:
        given = json.loads(text, parse_constant=constant, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is no JSON ({shortened(str(error))}); give one object a line") from None
    if not isinstance(given, dict):
        raise InputError('is no JSON object; give {"character": ..., ...}')
    return {name.replace("-", "_"): value for name, value in given.items()}


def read_value(name: str, kind: Any, value: Any) -> Any:
    """A setting of type ``kind`` from its JSON value. Raises :class:`InputError` for one of another type."""
    kinds = get_args(kind) or (kind,)
    if value is None and type(None) in kinds:
        return None
    for wanted, read in _READERS.items():
        if any(one is wanted or getattr(one, "__origin__", None) is wanted for one in kinds):
            said, is_right, convert = read
            if not is_right(value):
                raise InputError(f"{name} {shown(value)}: give {said}")
            return convert(value)
    raise AssertionError(f"a setting of kind {kind}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_text(value: Any) -> bool:
    """Whether it is one that may be the name of a file."""
    try:
        return isinstance(value, str) and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


# Type of a setting -> what is to be given, whether a JSON value is that, how it is read.
_READERS: dict[Any, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool), bool),
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool), int),
    float: ("a number", _is_number, float),
    Fraction: (
        'frames per second, such as 24 or "30000/1001"',
        lambda value: _is_number(value) or is_text(value),
        lambda value: parse_fps(str(value)),
    ),
    tuple: ('"WIDTHxHEIGHT", such as "512x768"', is_text, parse_size),
    slice: ('"A:B", such as "0:48"', is_text, parse_range),
    Path: ("the name of a folder", is_text, Path),
    str: ("text in quotes", is_text, str),
}


def shown(value: Any) -> str:
    """A JSON value in an error, not too long."""
    return shortened(json.dumps(value))


def written(settings: Any) -> dict[str, Any]:
    """The fields of a record of settings as JSON values: what :func:`read_value` reads."""
    return {field.name: _written(getattr(settings, field.name)) for field in fields(settings)}


def _written(value: Any) -> Any:
    if isinstance(value, slice):
        ends = [value.start, value.stop, *([] if value.step is None else [value.step])]
        return ":".join("" if end is None else str(end) for end in ends)
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return str(value) if isinstance(value, Path | Fraction) else value
