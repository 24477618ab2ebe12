"""Who may open the page."""

from __future__ import annotations

from pathlib import Path

from animate_anyone.errors import InputError


def read_auth(text: str | None) -> tuple[tuple[str, str], ...]:
    """Names and passwords: ``USER:PASSWORD``, or a file with one such line each.

    Raises:
        InputError: it is neither.
    """
    if text is None:
        return ()
    lines = [text]
    if ":" not in text:
        try:
            lines = [line for line in Path(text).read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, ValueError):
            raise InputError("--auth: give USER:PASSWORD, or a file with one such line each") from None
    found = []
    for line in lines:
        name, _, password = line.partition(":")
        if not name.strip() or not password:
            raise InputError("--auth: give USER:PASSWORD, or a file with one such line each")
        found.append((name.strip(), password))
    return tuple(found)
