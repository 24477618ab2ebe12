"""A result as a piece of HTML that stands alone, for a notebook: the video itself, and what was said of it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

MOST_BYTES = 32 << 20
"""A larger video is named and not shown: a notebook keeps what it shows."""
KINDS = {".mp4": "video/mp4", ".mov": "video/mp4"}  # a browser plays no other of those that are written


def result_page(path: Path | None, lines: Sequence[str]) -> str:
    """The video in ``path`` as it is now, and below it the lines, one each."""
    return f"<div>{'' if path is None else _video(path)}<pre>{escape(chr(10).join(lines))}</pre></div>"


def _video(path: Path) -> str:
    name, kind = escape(str(path)), KINDS.get(path.suffix.lower())
    try:
        size = path.stat().st_size
        if kind is None or size > MOST_BYTES:
            return f"<p>{name}, {size / 1e6:.1f} MB: open it in a player</p>"
        content = base64.b64encode(path.read_bytes()).decode()
    except OSError:
        return f"<p>{name}: is not there any more</p>"
    attributes = "controls loop autoplay muted playsinline"
    return f'<video {attributes} style="max-width: 100%" src="data:{kind};base64,{content}" title="{name}"></video>'
