"""Our figures among published ones, as a table in Markdown. Published rows and their sources: ``published.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from animate_anyone.errors import InputError

COLUMNS = {
    "ssim": ("SSIM", 3),
    "psnr_disco": ("PSNR (DisCo's, overflowing)", 2),
    "psnr": ("PSNR (true)", 2),
    "l1": ("L1", 4),
    "lpips": ("LPIPS", 3),
    "fvd": ("FVD", 2),
}
PUBLISHED_PROTOCOL = "disco-legacy"  # what the published rows follow
_ABSENT = "–"


@cache
def published() -> dict[str, Any]:
    """The published tables by name: ``title``, ``source``, and ``rows`` of figures by :data:`COLUMNS`."""
    text = files("animate_anyone.evaluation").joinpath("published.json").read_text(encoding="utf-8")
    return json.loads(text)["tables"]


def read_result(file: Path) -> dict[str, Any]:
    """What ``evaluate --generated`` wrote. Raises :class:`InputError` for anything else."""
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); give a file that evaluate --json wrote") from None
    except ValueError:
        raise InputError(f"{file}: is no JSON; give a file that evaluate --json wrote") from None
    if isinstance(result, dict) and "suite" in result:
        raise InputError(f"{file}: is of a suite, which nobody else has figures of; give one of evaluate --generated")
    try:
        protocol, figures = result["protocol"]["name"], result["metrics"]
        known = isinstance(protocol, str) and all(
            value is None or isinstance(value, (int, float)) for value in figures.values()
        )
    except (KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise InputError(f"{file}: no result of evaluate --generated; give a file that it wrote with --json")
    return result


def choose_table(asked: str | None, results: Sequence[dict[str, Any]]) -> str:
    """The published table to stand in: ``asked``, else the one that all results, or their layouts, name."""
    tables = {str(result.get("table", result.get("layout"))) for result in results}
    name = asked if asked is not None else tables.pop() if len(tables) == 1 else ""
    if name not in published():
        given = f"--table {asked}: not known" if asked is not None else "which published table is not clear"
        raise InputError(f"{given}; give --table and one of {', '.join(published())}")
    return name


def markdown(results: Sequence[tuple[str, dict[str, Any]]], table: str) -> str:
    """Published rows and ours, ours in bold and last.

    Results of ``clean`` give their true PSNR alone: the other figures are made in another way than the published.

    Args:
        results: names of rows, and results as :func:`read_result` returns them; all of one protocol.
        table: of :func:`published`.

    Raises:
        InputError: results of several protocols.
    """
    protocols = sorted({result["protocol"]["name"] for _, result in results})
    if len(protocols) > 1:
        raise InputError(
            f"results of several protocols ({', '.join(protocols)}) do not compare; give those of one at a time"
        )
    comparable = protocols == [PUBLISHED_PROTOCOL]
    chosen = published()[table]
    rows = [(row["method"], row) for row in chosen["rows"]]
    for name, result in results:
        figures = result["metrics"]
        shown = figures if comparable else {"psnr": figures.get("psnr")}
        rows.append((f"**{_escaped(name)} (ours)**" + ("" if comparable else " [^1]"), shown))
    lines = [
        f"## {chosen['title']}",
        "",
        "| method | " + " | ".join(title for title, _ in COLUMNS.values()) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for name, figures in rows:
        found = [(figures.get(key), digits) for key, (_, digits) in COLUMNS.items()]
        cells = [_ABSENT if figure is None else f"{figure:.{digits}f}" for figure, digits in found]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", f"Published rows: {chosen['source']}. {_measured(results)}"]
    if not comparable:
        lines += [
            "",
            f"[^1]: Protocol {protocols[0]}: only the true PSNR is shown, at the resolution that was given and without "
            "a crop. For the other columns: evaluate --protocol disco-legacy.",
        ]
    return "\n".join(lines)


def _measured(results: Sequence[tuple[str, dict[str, Any]]]) -> str:
    sentences = []
    for name, result in results:
        alike = result["metrics"].get("frames_alike") or 0
        digests = [f"{m}: {b['file']} {b['sha256'][:12]}" for m, of in result.get("backbones", {}).items() for b in of]
        sentences.append(
            f"{_escaped(name)}: protocol {result['protocol']['name']}, {result.get('num_videos')} videos, "
            f"{result.get('num_frames')} frames"
            + (f", {alike} alike and left out of PSNR (true)" if alike else "")
            + (f", weights {'; '.join(digests)}" if digests else "")
            + "".join(f"; {metric.replace('_', '-')} not measured" for metric in result.get("needs", {}))
        )
    return f"Ours: {'. '.join(sentences)}."


def _escaped(name: str) -> str:
    return name.replace("|", "\\|")
