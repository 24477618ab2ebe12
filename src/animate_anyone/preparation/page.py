"""A page to look at: thumbnails of clips and of what was dropped, and histograms. One file, no scripts, no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

import numpy as np

from animate_anyone.preparation import records

_MOST_KEPT, _MOST_DROPPED = 400, 24  # thumbnails of clips, and of each reason
_BINS, _BAR, _HEIGHT = 24, 12, 90  # of a histogram: how many, and pixels
_FIGURES = {
    "seconds": "length of clips, s",
    "person_height": "height of the person, pixels of the video",
    "motion": "motion, torso lengths",
    "confidence": "mean score of the body",
    "width": "width of clips, pixels",
    "height": "height of clips, pixels",
}
_STYLE = (
    "body{font:14px sans-serif;margin:2em;max-width:80em}figure{display:inline-block;margin:4px;vertical-align:top;"
    "max-width:170px}figcaption{font-size:11px;overflow-wrap:anywhere}svg{background:#f4f4f4;margin-right:1em}"
    "rect{fill:#36c}.h{display:inline-block;margin-bottom:1em}"
)


class Page:
    """Collects what is shown; of many clips only some, the first of every so many."""

    def __init__(self) -> None:
        self._kept: list[tuple[str, str]] = []
        self._dropped: dict[str, list[tuple[str, str]]] = {}
        self._figures: dict[str, list[float]] = {name: [] for name in _FIGURES}
        self._every, self._count = 1, 0

    def add(self, entry: dict[str, Any]) -> None:
        """An entry of the manifest."""
        thumbnail = entry.get("files", {}).get("thumbnail", {}).get("path", "")
        frames = f"{entry.get('first', 0)}–{entry.get('stop', 0)}"
        if entry["status"] == records.KEPT:
            top, _, bottom = entry["fps"].partition("/")
            seconds = entry["frames"] * int(bottom or 1) / int(top)
            for name, values in self._figures.items():
                values.append(seconds if name == "seconds" else float(entry[name]))
            if self._count % self._every == 0:
                self._kept.append((thumbnail, f"{entry['source']} {frames}, {seconds:.1f} s"))
                if len(self._kept) > _MOST_KEPT:
                    self._kept, self._every = self._kept[::2], 2 * self._every
            self._count += 1
        elif thumbnail:
            shown = self._dropped.setdefault(entry["reason"], [])
            if len(shown) < _MOST_DROPPED:
                shown.append((thumbnail, f"{entry['source']} {frames} {entry.get('detail', '')}"))

    def html(self, summary: Sequence[str]) -> Iterator[str]:
        """The page in pieces; ``summary`` stands at its top."""
        yield f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Data set</title><style>{_STYLE}'
        yield "</style></head><body>\n<h1>Data set</h1>\n<pre>"
        yield "\n".join(_safe(line) for line in summary)
        yield "</pre>\n"
        for name, title in _FIGURES.items():
            if self._figures[name]:
                yield _histogram(title, self._figures[name])
        if self._kept:
            yield f"<h2>Clips{'' if self._every == 1 else f': one of every {self._every}'}</h2>\n"
            yield from map(_figure, self._kept)
        for reason, shown in sorted(self._dropped.items()):
            yield f"<h2>Dropped: {_safe(reason)}</h2>\n"
            yield from map(_figure, shown)
        yield "</body></html>\n"


def _safe(text: str) -> str:
    return escape(text.encode(errors="replace").decode())


def _figure(shown: tuple[str, str]) -> str:
    picture, caption = shown
    image = f'<img src="{quote(picture)}" loading="lazy" alt="">'
    return f"<figure>{image}<figcaption>{_safe(caption)}</figcaption></figure>\n"


def _histogram(title: str, values: Sequence[float]) -> str:
    counts, edges = np.histogram(values, bins=_BINS)
    most = max(int(counts.max()), 1)
    bars = ""
    for k, count in enumerate(counts):
        tall = round(_HEIGHT * int(count) / most)
        bars += (
            f'<rect x="{k * _BAR}" y="{_HEIGHT - tall}" width="{_BAR - 1}" height="{tall}">'
            f"<title>{edges[k]:.4g} to {edges[k + 1]:.4g}: {count}</title></rect>"
        )
    return (
        f'<div class="h">{escape(title)}<br><svg width="{_BINS * _BAR}" height="{_HEIGHT}">{bars}</svg><br>'
        f"{edges[0]:.4g} to {edges[-1]:.4g}, median {float(np.median(values)):.4g}</div>\n"
    )
