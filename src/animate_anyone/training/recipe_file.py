"""Recipes read from YAML files: every key and type is checked. A recipe may say what it changes of another."""

from __future__ import annotations

import dataclasses
import types
import typing
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from animate_anyone.errors import InputError, shortened
from animate_anyone.training.config import Recipe
from animate_anyone.training.removed_settings import without_removed
from animate_anyone.training.shipped_recipes import find_recipe, recipe_names

Record = TypeVar("Record")


def load_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: YAML file, or a shipped recipe's name.
        overrides: ``KEY=VALUE`` with dots for nesting, e.g. ``optimizer.lr=1e-4``; values are YAML.

    Raises:
        InputError: for a file that is not there or no YAML, an unknown key, a value of a wrong type.
    """
    tree = read_settings_file(path)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise InputError(f"{override!r} is not KEY=VALUE, e.g. optimizer.lr=1e-4")
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise InputError(f"{override!r}: {parent} holds a value, not settings")
        try:
            node[leaf] = yaml.safe_load(value)
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise InputError(f"{shortened(override)!r}: the value is no YAML: {' '.join(str(error).split())}") from None
    return build_record(Recipe, without_removed(tree, "recipe"))


def read_settings_file(path: str | Path) -> dict[str, Any]:
    """What a YAML file of settings holds; raises :class:`InputError` where it is none.

    Where it has a ``base``, another such file (beside it, or a shipped recipe's name), that one's settings count where
    it has none of its own; those of sections are put together, lists are not.

    Args:
        path: as :func:`load_recipe`.
    """
    files, tree = [find_recipe(path)], _read_tree(path)
    while "base" in tree:
        base = tree.pop("base")
        if not isinstance(base, str):
            raise InputError(f"{files[-1]}: base is {base!r}; give a file beside it, or a shipped recipe's name")
        beside = files[-1].parent / base
        files.append(beside if beside.is_file() else find_recipe(base))
        if files[-1] in files[:-1]:
            raise InputError(f"{files[-1]}: it is its own base, by way of {files[-2]}; give another base")
        tree = _over(_read_tree(files[-1] if files[-1].is_file() else base), tree)
    return tree


def _over(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings with changes, section by section."""
    both = {k: _over(base[k], v) for k, v in changes.items() if isinstance(v, dict) and isinstance(base.get(k), dict)}
    return base | changes | both


def _read_tree(path: str | Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(find_recipe(path).read_text())
    except FileNotFoundError:
        names = recipe_names()
        close = get_close_matches(Path(path).stem, names, 1)
        hint = f"did you mean {close[0]}?" if close else f"give a file, or one of: {', '.join(names)}"
        raise InputError(f"{path}: no such recipe; {hint}") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not a recipe: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path}: not a recipe; give a YAML mapping, see: animate-anyone train puppet_image --show")
    return tree


def build_record(cls: type[Record], tree: dict[str, Any], where: str = "") -> Record:
    """A record of settings from plain dictionaries; ``where``: the place of its keys, for errors.

    Raises:
        InputError: an unknown key, a value of a wrong type, or one that is missing.
    """
    hints = typing.get_type_hints(cls)
    for key in tree:
        if key not in hints:
            close = get_close_matches(str(key), hints, 1)
            hint = f"; did you mean {where}{close[0]}?" if close else f"; there are: {', '.join(hints)}"
            raise InputError(f"recipe: unknown setting {where}{key}{hint}")
    values = {key: _convert(hints[key], value, f"{where}{key}") for key, value in tree.items()}
    missing = [
        f.name
        for f in dataclasses.fields(cls)  # type: ignore[arg-type]
        if f.name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"recipe: {where}{missing[0]} is not given and has no default")
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise InputError(f"recipe: {where} is {value!r}; it holds settings, give a mapping")
        return build_record(typing.cast(type, hint), value, f"{where}.")
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal and value in args:
        return value
    if origin is types.UnionType:  # X | None
        return None if value is None else _convert(args[0], value, where)
    if origin is tuple and args[-1] is Ellipsis and isinstance(value, list | tuple):
        return tuple(_convert(args[0], v, where) for v in value)
    if origin is tuple and isinstance(value, list | tuple) and len(value) == len(args):
        return tuple(_convert(a, v, where) for a, v in zip(args, value, strict=True))
    if origin is dict and isinstance(value, dict):
        return value
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            return float(value)  # YAML reads 1e-4 as text
    if hint in (int, bool, str) and type(value) is hint:
        return value
    allowed = " or ".join(map(repr, args)) if origin is Literal else getattr(hint, "__name__", str(hint))
    raise InputError(f"recipe: {where} is {value!r}; it must be {allowed}")
