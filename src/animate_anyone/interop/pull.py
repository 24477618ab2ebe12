"""Published weights to a folder here: first what will be done, then the download.

    what = plan(catalog.find("moore"), folder)
    print(*what.lines, sep="\\n")
    fetch(what)

A file appears under its name only when it is whole and has the digest that the hub states. What is underway lies
in ``.pulling/``, named by its digest, so that a later pull goes on from there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from animate_anyone.errors import InputError
from animate_anyone.interop import hub, source, web_file
from animate_anyone.interop.catalog import Entry, WebFile, shown_size
from animate_anyone.interop.source import File, Pinned, Record
from animate_anyone.progress import SILENT, Progress

UNDERWAY = ".pulling"
ATTEMPTS = 5  # in a row that bring nothing new
PAUSE = 1.0  # seconds after the first of them; twice as long after each further one
SPARE = 64 * 10**6  # bytes left free on the disk


@dataclass(frozen=True)
class Plan:
    """What a pull will do.

    Attributes:
        entry: what is pulled.
        folder: where to.
        record: repositories, commits and files, as they will be recorded.
        missing: files, by their place in ``folder``, that are not there yet.
        partial: bytes of the missing ones that an earlier pull left.
        download: bytes that must come.
        free: bytes free on the disk.
        lines: all this for people.
    """

    entry: Entry
    folder: Path
    record: Record
    missing: frozenset[str]
    partial: int
    download: int
    free: int

    @property
    def lines(self) -> list[str]:
        """What will be downloaded, from where, to where, and under which licence."""
        lines = [f"{self.entry.name}: {self.entry.about}"]
        if self.entry.warning:
            lines.append(f"warning: {self.entry.warning}")
        licences = {s.repo: s.licence for s in self.entry.sources}
        for pinned in self.record.pinned:
            at = f" at {pinned.commit[:12]}" if pinned.commit else ""
            lines.append(f"  {pinned.repo}{at}, licence: {licences[pinned.repo]}")
            for file in pinned.files:
                here = "" if str(pinned.local(file)) in self.missing else ", is here"
                lines.append(f"    {pinned.local(file)}  {shown_size(file.size)}{here}")
        if not self.missing:
            return [*lines, f"all of it is in {self.folder}, {_checked(self.entry)}; nothing to download"]
        before = f" ({shown_size(self.partial)} of them came before)" if self.partial else ""
        return [
            *lines,
            f"to download: {len(self.missing)} files, {shown_size(self.download)}{before}, from {self.record.endpoint}",
            f"into {self.folder}, where {shown_size(self.free)} are free",
        ]


def plan(entry: Entry, folder: Path, revision: str | None = None, progress: Progress = SILENT) -> Plan:
    """Find out what a pull has to do. Asks the hub only for what the folder does not record; writes nothing.

    Args:
        entry: what to pull.
        folder: where to; it may hold all, some or nothing of it.
        revision: of the entry's own repository, in place of what the folder records.
        progress: of checking the files that are there.

    Raises:
        InputError: offline, unreachable, something else in the folder, or too little room on the disk.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give another --output")
    recorded = source.read(folder)
    if recorded and recorded.name != entry.name:
        raise InputError(f"{folder}: holds {recorded.name}; give another --output for {entry.name}")
    pinned = []
    for number, wanted in enumerate(entry.sources):
        old = recorded.of(wanted) if recorded else None
        if isinstance(wanted, WebFile):
            pinned.append(old if old and _is_of(old, wanted) else web_file.look(wanted, entry.name))
            continue
        asked = revision if number == 0 else None
        if old and old.holds(wanted) and asked in (None, old.commit):
            pinned.append(old)
        else:
            pinned.append(hub.list_files(wanted, asked or (old.commit if old else wanted.revision), entry.name))
    if revision is not None and isinstance(entry.sources[0], WebFile):
        raise InputError(
            f"{entry.name}: is of files with addresses of their own and has no revisions; leave --revision out"
        )
    on_hub = any(not isinstance(wanted, WebFile) for wanted in entry.sources)
    record = Record(entry.name, hub.endpoint() if on_hub else "the addresses above", tuple(pinned))
    ours = {str(place) for _, place in source.files_of(recorded, folder)} if recorded else set()
    missing, partial, needed = set(), 0, 0
    files = list(source.files_of(record, folder))
    for file, place in progress.track(files, description="check"):
        if source.is_that(place, file):
            continue
        if place.exists() and str(place) not in ours:
            raise InputError(f"{place}: is there, and is another file than {entry.name}'s; give another --output")
        missing.add(place.relative_to(folder).as_posix())
        part = _part(folder, file)
        have = min(part.stat().st_size, file.size) if part.is_file() else 0
        partial, needed = partial + have, needed + file.size - have
    if missing:
        hub.check_online(entry.name)
    elif recorded:
        record = replace(record, endpoint=recorded.endpoint)  # nothing came from another one
    above = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(above).free
    if missing and needed + SPARE > free:
        raise InputError(
            f"{folder}: {shown_size(needed)} are to come and {shown_size(free)} are free there; "
            f"make room, or give an --output on another disk"
        )
    return Plan(entry, folder, record, frozenset(missing), partial, needed, free)


def fetch(what: Plan, progress: Progress = SILENT) -> list[str]:
    """Download what is missing. May be stopped at any time; a new :func:`plan` and :func:`fetch` go on from there.

    Returns:
        Lines that say what is there now.

    Raises:
        InputError: the connection does not come back, a digest is wrong (the file is not kept), or the
            folder cannot be written.
    """
    try:
        if what.missing:
            what.folder.mkdir(parents=True, exist_ok=True)
            source.write(what.folder, what.record)  # first: a stopped pull must go on with the same commit
        pinned = tuple(_fetch_repository(what, p, progress) for p in what.record.pinned)
        done = replace(what.record, pinned=pinned)
        if source.read(what.folder) != done:
            source.write(what.folder, done)
        shutil.rmtree(what.folder / UNDERWAY, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"{what.folder}: cannot be written ({error.strerror or error}); make room or give another --output"
        ) from None
    return [f"{what.entry.name}: whole, {_checked(what.entry)}, in {what.folder}"]


def _checked(entry: Entry) -> str:
    """Whether digests are known for all of it."""
    unknown = [wanted.name for wanted in entry.sources if isinstance(wanted, WebFile) and wanted.sha256 is None]
    return "digests checked" if not unknown else f"nobody states a digest of {', '.join(unknown)}: checked when read"


def _is_of(old: Pinned, wanted: WebFile) -> bool:
    """Whether what is recorded of a file is what the catalogue knows."""
    return old.holds(wanted) and wanted.sha256 in (None, old.files[0].sha256)


def _fetch_repository(what: Plan, pinned: Pinned, progress: Progress) -> Pinned:
    """Bring the missing files of a repository; returns it with the SHA-256 of all of its files."""
    files = []
    for file in pinned.files:
        place = what.folder / pinned.local(file)
        if str(pinned.local(file)) in what.missing:
            sha256 = _fetch_file(what, pinned, file, place, progress)
        else:
            sha256 = file.sha256 or source.digests(place)[0]
        files.append(replace(file, sha256=sha256))
    return replace(pinned, files=tuple(files))


def _fetch_file(what: Plan, pinned: Pinned, file: File, place: Path, progress: Progress) -> str:
    """Bring one file, check it, put it in its place; returns its SHA-256."""
    part = _part(what.folder, file)
    part.parent.mkdir(exist_ok=True)
    if part.is_file() and part.stat().st_size > file.size:
        part.unlink()
    total = ceil(file.size / source.CHUNK)
    for _ in progress.track(_come(what, pinned, file, part), total=total, description=f"{place.name}, MiB"):
        pass
    sha256, git_sha1 = source.digests(part)
    stated, came = (file.sha256, sha256) if file.sha256 else (file.git_sha1, git_sha1)
    if stated is not None and came != stated:
        part.unlink()
        who, other = ("the hub states", ", with another HF_ENDPOINT if it happens twice")
        if file.url is not None:
            who, other = ("known is", "; if it happens twice, another file lies there now")
        raise InputError(
            f"{pinned.repo}: {file.path} came with digest {came[:12]}…, {who} {stated[:12]}…; it was not kept; type "
            f"the command again{other}"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    part.replace(place)
    return sha256


def _come(what: Plan, pinned: Pinned, file: File, part: Path) -> Iterator[int]:
    """Bytes of a file into its part, over as many connections as it takes; yields once per MiB."""
    part.touch()
    best, failures, shown = part.stat().st_size, 0, 0
    while (have := part.stat().st_size) < file.size:
        reason: Exception = hub.CutError("it ends too early")
        try:
            bring = web_file.append(file, part) if file.url else hub.append(pinned.repo, pinned.commit, file, part)
            for now in bring:
                while shown * source.CHUNK < now:
                    yield shown
                    shown += 1
        except hub.CutError as error:
            reason = error
        if (now := part.stat().st_size) > best:
            best, failures = now, 0
            continue
        failures += 1
        if failures >= ATTEMPTS:
            came = f"{shown_size(have)} of {shown_size(file.size)} of {file.path} came and are kept"
            name = what.entry.name
            why = (
                web_file.unreachable(file.url, reason, name)
                if file.url
                else hub.unreachable(hub.endpoint(), reason, name)
            )
            raise InputError(f"{came}; {why}") from None
        time.sleep(PAUSE * 2 ** (failures - 1))


def _part(folder: Path, file: File) -> Path:
    """Where a file lies while it comes. Its name is its digest: another content never goes on from it."""
    return folder / UNDERWAY / f"{file.digest.replace(':', '-')}.part"
