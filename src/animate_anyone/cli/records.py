"""Commands whose options stand in records (dataclasses): typer is shown an option for every field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def takes_records(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` for typer: where it takes a record, its options are the record's fields, in their order.

    A record may hold records. A field is declared like a parameter of a command: ``Annotated``, with its default.
    """

    @wraps(command)
    def called(**given: Any) -> None:
        _call(command, given)

    options = list(_options(command))
    called.__signature__ = Signature(options)  # type: ignore[attr-defined]
    called.__annotations__ = {option.name: option.annotation for option in options}
    return called


def values(record: Any) -> dict[str, Any]:
    """The fields of a record, and of the records that it holds, by name."""
    out: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        out |= values(value) if is_dataclass(value) else {field.name: value}
    return out


@cache
def _types(takes: Callable[..., Any]) -> dict[str, Any]:
    # Of the parameters of a command or, which are the fields, of a record.
    hints = get_type_hints(takes, include_extras=True)
    return {name: hints[name] for name in signature(takes).parameters}


def _options(takes: Callable[..., Any]) -> Iterator[Parameter]:
    for name, kind in _types(takes).items():
        if is_dataclass(kind):
            yield from _options(kind)  # type: ignore[arg-type]
        else:
            default = signature(takes).parameters[name].default
            yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _call(takes: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    filled = {
        name: _call(kind, given) if is_dataclass(kind) else given[name]  # type: ignore[arg-type]
        for name, kind in _types(takes).items()
    }
    return takes(**filled)
