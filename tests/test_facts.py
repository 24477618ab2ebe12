"""A fact stands once: no two modules hold the same table."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import animate_anyone

SOURCE = Path(animate_anyone.__file__).parent


def tables(code: str) -> Iterator[tuple[str, str]]:
    """Name and content of every constant of a module that is a mapping or row of at least three things."""
    for line in ast.parse(code).body:
        if not isinstance(line, ast.Assign | ast.AnnAssign) or line.value is None:
            continue
        value = line.value
        length = len(value.keys) if isinstance(value, ast.Dict) else len(getattr(value, "elts", ()))
        if length >= 3:
            target = line.targets[0] if isinstance(line, ast.Assign) else line.target
            yield ast.unparse(target), ast.dump(value)


def test_no_table_stands_twice() -> None:
    where: dict[str, str] = {}
    twice = []
    for file in sorted(SOURCE.rglob("*.py")):
        for name, content in tables(file.read_text()):
            here = f"{file.relative_to(SOURCE)}: {name}"
            if where.setdefault(content, here) != here:
                twice.append(f"{here} is {where[content]}")
    assert not twice


def test_a_table_that_stands_twice_is_seen() -> None:
    one, two = (
        'A = {"a": 1, "b": 2, "c": 3}',
        'from x import y\nB: dict[str, int] = {"a": 1, "b": 2, "c": 3}\nC = (1, 2)',
    )
    assert [content for _, content in tables(one)] == [content for _, content in tables(two)] != []
