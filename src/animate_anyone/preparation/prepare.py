"""From videos to a data set: sources are looked through, clips are made, the manifest and a page are written."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from animate_anyone.engines.engine import Engine, InProcess, Lost
from animate_anyone.errors import InputError
from animate_anyone.media import check_folder, whole_file
from animate_anyone.preparation import reasons, records
from animate_anyone.preparation.cuts import load_detector
from animate_anyone.preparation.page import Page
from animate_anyone.preparation.pieces import Piece, source_stages
from animate_anyone.preparation.records import Records
from animate_anyone.preparation.settings import PrepareSettings
from animate_anyone.preparation.sources import Source, find_sources
from animate_anyone.preparation.stage import needs
from animate_anyone.preparation.work import (
    ClipJob,
    Seconds,
    SourceJob,
    clip_stages,
    leave_failed,
    look_through,
    make_clip,
)
from animate_anyone.progress import SILENT, Progress
from animate_anyone.system.whole_files import writing

MANIFEST, PAGE = "manifest.jsonl", "index.html"
_MOST_NAMED = 20  # broken files that are named on the terminal
_UNKNOWN = {"status": records.FAILED, "reason": "changed while the data set was made"}


@dataclass
class Summary:
    """What became of all.

    Attributes:
        kept, seconds_kept: clips, and how long they are together.
        dropped: how many pieces and files for each reason.
        broken: sources that cannot be read, with the reason.
        failed: sources that errors of the program or of its processes kept from being done, with the reason.
        others: files that are no videos by their names, counted by their endings.
        made: clips and sources that were worked on now; the others were there.
        seconds: of the stages, in all processes together.
    """

    kept: int = 0
    seconds_kept: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)
    made: int = 0
    seconds: Seconds = field(default_factory=dict)

    def add(self, entry: dict[str, Any]) -> None:
        """Count an entry of the manifest."""
        if entry["status"] == records.KEPT:
            self.kept += 1
            self.seconds_kept += entry["frames"] / _rate(entry["fps"])
        elif entry["status"] == records.DROPPED:
            self.dropped[entry["reason"]] += 1
        else:
            where = self.broken if entry["status"] == records.BROKEN else self.failed
            where.append((entry["source"], entry["reason"]))

    def lines(self) -> list[str]:
        """For the user: :meth:`table`, and the time of the stages."""
        times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())
        return [*self.table(), *([times] if times else [])]

    def table(self) -> list[str]:
        """What became of all, by numbers, then what cannot be read and what failed."""
        rows = [("kept", f"{self.kept}", f"{self.seconds_kept:.1f} s")]
        rows += [(f"dropped: {reason}", str(many), "") for reason, many in sorted(self.dropped.items())]
        rows += [("cannot be read", str(len(self.broken)), "")] if self.broken else []
        rows += [("failed, tried again by the next call", str(len(self.failed)), "")] if self.failed else []
        wide = max(len(row[0]) for row in rows)
        lines = [f"{name:<{wide}}  {many:>7}  {more}".rstrip() for name, many, more in rows]
        for listed in (self.broken, self.failed):
            lines += [f"{path}: {reason}" for path, reason in listed[:_MOST_NAMED]]
            if len(listed) > _MOST_NAMED:
                lines.append(f"and {len(listed) - _MOST_NAMED} more, see {MANIFEST}")
        if self.others:
            named = ", ".join(f"{ending} {many}" for ending, many in self.others.items())
            lines.append(f"left alone, no videos by their names: {named}")
        return lines


def prepare(
    inputs: Sequence[Path],
    output: Path,
    settings: PrepareSettings,
    layout: str = "plain",
    engine: Engine | None = None,
    progress: Progress = SILENT,
) -> Summary:
    """Make a data set of videos, or go on with one; see :func:`find_sources` for ``inputs`` and ``layout``.

    What is done already, with the same settings, is not done again. A source that cannot be read stops nothing.

    Args:
        output: its folder; made where it is not there.
        settings: of the clips.
        engine: where the work is run; ``None``: in this process.
        progress: shown how far it is.

    Raises:
        InputError: no videos, a package that is missing, or ``output`` cannot be written.
    """
    engine = engine or InProcess()
    found = find_sources(inputs, output, layout)
    check_folder(output, "--output", (MANIFEST, PAGE))
    load_detector()
    for_clips = needs(clip_stages(settings))  # what is missing is told now
    memory = Records(output, settings)
    summary = Summary(others=found.others)
    todo = [source for source in found.sources if memory.of_source(source) is None]
    looked = engine.each(look_through, (SourceJob(source, settings, output) for source in todo), needs(source_stages()))
    _follow(looked, len(todo), "videos", summary, progress)
    jobs = _Jobs(found.sources, memory, settings, output)
    _follow(engine.each(make_clip, iter(jobs), for_clips), jobs.count(), "clips", summary, progress)
    page = Page()
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        _replace(output / MANIFEST, (_line(entry, summary, page) for entry in _entries(found.sources, memory)))
        _replace(output / PAGE, page.html(summary.table()))
    return summary


class _Jobs:
    """The clips that are still to be made."""

    def __init__(self, sources: Sequence[Source], memory: Records, settings: PrepareSettings, output: Path) -> None:
        self._sources, self._memory, self._settings, self._output = sources, memory, settings, output

    def __iter__(self) -> Iterator[ClipJob]:
        for source, record, duplicate in _looked_through(self._sources, self._memory):
            for piece in [] if duplicate else _pieces(record):
                clip = _clip_id(record, piece)
                if not piece.too_short and self._memory.of_clip(clip) is None:
                    yield ClipJob(clip, source, piece, self._settings, self._output)

    def count(self) -> int:
        """How many."""
        return sum(1 for _ in self)


def _follow(
    results: Iterable[Seconds | Lost[Any]], count: int, what: str, summary: Summary, progress: Progress
) -> None:
    for seconds in progress.track(results, count, what):
        if isinstance(seconds, Lost):
            leave_failed(seconds.job, seconds.reason)
            continue
        summary.made += 1
        for name, more in seconds.items():
            summary.seconds[name] = summary.seconds.get(name, 0.0) + more


def _looked_through(
    sources: Sequence[Source], memory: Records
) -> Iterator[tuple[Source, dict[str, Any], Source | None]]:
    """Each source with its record, and the source before it that is the same file, if any."""
    seen: dict[str, Source] = {}
    for source in sources:
        record = memory.of_source(source)
        if record is None:  # failed, or changed since
            record = memory.failure_of_source(source) or _UNKNOWN
        same = seen.setdefault(record["sha256"], source) if record["status"] == records.KEPT else source
        yield source, record, None if same is source else same


def _pieces(record: dict[str, Any]) -> list[Piece]:
    return [Piece(**piece) for piece in record.get("pieces", [])]


def _clip_id(record: dict[str, Any], piece: Piece) -> str:
    return f"{record['sha256'][:16]}_{piece.first:06d}"


def _entries(sources: Sequence[Source], memory: Records) -> Iterator[dict[str, Any]]:
    """The manifest, in the order of the inputs."""
    for source, record, duplicate in _looked_through(sources, memory):
        about = {"source": source.path.as_posix()} | ({"split": source.split} if source.split else {})
        if record["status"] != records.KEPT:
            yield {"status": record["status"], **about, "reason": record["reason"]}
            continue
        about["source_sha256"] = record["sha256"]
        if duplicate is not None:
            detail = f"of {duplicate.path.as_posix()}"
            yield {"status": records.DROPPED, **about, "reason": reasons.DUPLICATE, "detail": detail}
            continue
        for piece in _pieces(record):
            if piece.too_short:
                frames = {"first": piece.first, "stop": piece.stop}
                yield {"status": records.DROPPED, **about, "reason": reasons.TOO_SHORT, "detail": "", **frames}
                continue
            clip = _clip_id(record, piece)
            made = memory.of_clip(clip) or memory.failure_of_clip(clip) or _UNKNOWN
            yield {"status": made["status"], "id": clip, **about, **{k: v for k, v in made.items() if k != "settings"}}


def _line(entry: dict[str, Any], summary: Summary, page: Page) -> str:
    summary.add(entry)
    page.add(entry)
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _replace(file: Path, lines: Iterable[str]) -> None:
    """Write a file whole; one that says the same already is left as it is."""
    with whole_file(file) as part:
        with part.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as out:
            out.writelines(lines)
        same = file.is_file() and file.read_bytes() == part.read_bytes()
        if same:  # its time stays too
            about = file.stat()
            os.utime(part, ns=(about.st_atime_ns, about.st_mtime_ns))


def _rate(fps: str) -> float:
    top, _, bottom = fps.partition("/")
    return int(top) / int(bottom or 1)


def read_manifest(dataset: Path) -> Iterator[dict[str, Any]]:
    """The entries of a data set's manifest, in order; ``status`` is ``kept`` for those that are clips.

    Raises :class:`InputError` where there is none, or a line is not one of its entries.
    """
    file = dataset / MANIFEST
    try:
        with file.open(encoding="utf-8", errors="surrogateescape") as lines:
            for number, line in enumerate(lines, 1):
                entry = json.loads(line)
                if not isinstance(entry, dict) or "status" not in entry:
                    raise ValueError(number)
                yield entry
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); give a folder that `prepare` wrote") from None
    except ValueError:
        raise InputError(f"{file}: damaged at line {number}; call `prepare` once more") from None
