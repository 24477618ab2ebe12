"""The jobs of a page: a queue, one job a device at a time, each in a process that can be ended; and their results.

A job works in ``FOLDER/work/ID``, which goes when the job is over, however it ends. What it made is moved to
``FOLDER/results/ID``; of a video that is kept in the history, ``job.json`` there says how it was made.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from animate_anyone.engines.job_process import EndedError, JobProcess, Work
from animate_anyone.errors import InputError
from animate_anyone.system.whole_files import whole_file
from animate_anyone.web.limits import Limits

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
OVER = (DONE, FAILED, CANCELLED)
_REMEMBERED = 30  # jobs that are over and not in the history
_IDLE_SECONDS = 300.0  # after so long without a job a process ends, and gives the device back
_JOB = "job.json"
_LOCK = ".animate-anyone-web.lock"


@dataclass(frozen=True)
class Job:
    """A job, as it is at one moment.

    Attributes:
        id: 16 hexadecimal letters, not to be guessed.
        kind: what is done: a name in ``work``.
        verb: ``animate`` or ``replace``.
        names: what the visitor's files were called, to be shown.
        settings: JSON values, by the names of the command's options.
        created: seconds since 1970.
        status: a word above.
        stage, done, total: how far it is; ``total`` may not be known.
        previews: how often the preview was renewed.
        lines: for the user.
        error: why it failed, one line.
        files: the results' paths, by what they are.
        seconds: that it took.
        found: what else came out.
    """

    id: str
    kind: str
    verb: str
    names: dict[str, str]
    settings: dict[str, Any]
    created: float
    status: str = WAITING
    stage: str = ""
    done: int = 0
    total: int | None = None
    previews: int = 0
    lines: tuple[str, ...] = ()
    error: str = ""
    files: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status in OVER


@dataclass(frozen=True)
class Order:
    """What is to be done.

    Attributes:
        kind, verb, settings: as a job's.
        files: uploads, by what they are; they are copied.
        names: what they were called.
        more: further fields of the job.
    """

    kind: str
    verb: str
    settings: Mapping[str, Any]
    files: Mapping[str, Path]
    names: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)


class JobQueue:
    """Takes jobs, does them in order, and keeps their results.

    Args:
        folder: of work and results; made where it is not there.
        work: does a job, in another process.
        limits: on jobs that wait and results that are kept.
        devices: for each device, what the environment of its process says.
    """

    def __init__(
        self, folder: Path, work: Work, limits: Limits | None = None, devices: Sequence[Mapping[str, str]] = ({},)
    ) -> None:
        self.limits = limits or Limits()
        self.folder = folder.resolve()
        self.work_folder, self.results_folder = self.folder / "work", self.folder / "results"
        self._own = _own_folder(self.folder, (self.work_folder, self.results_folder))
        self._changed = threading.Condition()
        self._closed = False
        self._waiting: list[str] = []
        self._jobs: dict[str, Job] = {}
        self._orders: dict[str, dict[str, Any]] = {}
        self._at_work: dict[str, JobProcess] = {}
        self._tidy()
        processes = [JobProcess(work, environment) for environment in devices]
        self._threads = [threading.Thread(target=self._serve, args=(one,), daemon=True) for one in processes]
        for thread in self._threads:
            thread.start()

    def submit(self, order: Order) -> str:
        """Put a job at the end; returns its id.

        Raises:
            InputError: too many wait, or there is no room for its files.
        """
        with self._changed:
            if len(self._waiting) >= self.limits.waiting:
                raise InputError(f"{len(self._waiting)} jobs are waiting; try again when some of them are done")
        name = secrets.token_hex(8)
        place = self.work_folder / name
        try:
            place.mkdir()
            stored = {what: f"{what}{path.suffix.lower()}" for what, path in order.files.items()}
            for what, path in order.files.items():
                shutil.copyfile(path, place / stored[what])
        except OSError as error:
            shutil.rmtree(place, ignore_errors=True)
            raise InputError(f"the files cannot be stored ({error.strerror}); make room on the server") from None
        told = {"kind": order.kind, "verb": order.verb, "settings": dict(order.settings), "folder": str(place)}
        job = Job(name, order.kind, order.verb, dict(order.names), dict(order.settings), time.time())
        with self._changed:
            self._jobs[name] = job
            self._orders[name] = {**told, **stored, **order.more, "limits": asdict(self.limits)}
            self._waiting.append(name)
            self._changed.notify_all()
        return name

    def job(self, name: str) -> Job:
        """How a job is now. Raises :class:`InputError` where there is none of this id."""
        with self._changed:
            if name not in self._jobs:
                raise InputError("there is no such job; it may have been removed")
            return self._jobs[name]

    def jobs(self) -> list[Job]:
        """All jobs that are known, the newest first."""
        with self._changed:
            return sorted(self._jobs.values(), key=lambda job: -job.created)

    def history(self) -> list[Job]:
        """Videos that were made, the newest first."""
        return [job for job in self.jobs() if job.kind == "make" and job.status == DONE]

    def ahead(self, name: str) -> int:
        """How many jobs are waiting before this one."""
        with self._changed:
            return self._waiting.index(name) if name in self._waiting else 0

    def cancel(self, name: str) -> Job:
        """Take a job out of the queue, or end its process; when this returns, its files are gone."""
        with self._changed:
            if self.job(name).is_over:
                return self.job(name)
            self._change(name, status=CANCELLED)
            if name in self._waiting:
                self._waiting.remove(name)
            while name in self._at_work:  # it may be about to start its process
                self._at_work[name].end()
                self._changed.wait(0.1)
        self._forget_work(name)
        return self.job(name)

    def preview(self, name: str, file: str) -> Path | None:
        """A file that a job has at work, such as its newest frame; ``None`` where it has none."""
        path = self.work_folder / self.job(name).id / file
        return path if path.is_file() else None

    def wait(self, name: str, seconds: float) -> Job:
        """The job, as soon as it is over, or after so many seconds."""
        end = time.monotonic() + seconds
        with self._changed:
            while not self.job(name).is_over and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            return self.job(name)

    def close(self) -> None:
        """End all processes, and remove what is not in the history."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            at_work = list(self._jobs)
        for name in at_work:
            self.cancel(name)
        for thread in self._threads:
            thread.join()
        self._tidy()
        self._own.release()

    def _serve(self, process: JobProcess) -> None:
        """What the thread of a device does."""
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    if not self._changed.wait(_IDLE_SECONDS):
                        process.end()
                if self._closed:
                    break
                name = self._waiting.pop(0)
                self._at_work[name] = process
                self._change(name, status=RUNNING)
                order = self._orders[name]
            self._run(name, order, process)
            with self._changed:
                del self._at_work[name]
                self._changed.notify_all()
        process.end()

    def _run(self, name: str, order: dict[str, Any], process: JobProcess) -> None:
        """Do a job; when it is told to be over, its work is gone, and its result is where it is served from."""
        try:
            if self.job(name).is_over:
                return
            end = self._end_of(name, process.run(order, lambda said: self._hear(name, said)))
        except InputError as error:
            end = {"status": FAILED, "error": str(error)}
        except EndedError:
            end = {"status": FAILED, "error": "its process died; it may want more memory: try a smaller size"}
        except (RuntimeError, OSError) as error:
            end = {"status": FAILED, "error": " ".join(str(error).split())}
        finally:
            self._forget_work(name)
        with self._changed:
            self._change(name, **end)
            self._save(self._jobs[name])
            self._prune()

    def _end_of(self, name: str, done: Mapping[str, Any]) -> dict[str, Any]:
        files = self._keep(name, done["files"])
        found = {key: value for key, value in done.items() if key not in ("lines", "files", "seconds")}
        said = {"lines": tuple(done["lines"]), "seconds": done["seconds"], "files": files, "found": found}
        return {"status": DONE, **said}

    def _hear(self, name: str, said: Mapping[str, Any]) -> None:
        with self._changed:
            if "preview" in said:
                self._change(name, previews=self._jobs[name].previews + 1)
            else:
                self._change(name, stage=str(said["stage"]), done=int(said["done"] or 0), total=said["total"])

    def _change(self, name: str, **fields: Any) -> None:
        """Change a job that is not over."""
        with self._changed:
            if name in self._jobs and not self._jobs[name].is_over:
                self._jobs[name] = replace(self._jobs[name], **fields)
                self._changed.notify_all()

    def _keep(self, name: str, files: Mapping[str, str]) -> dict[str, str]:
        """Move results to where they are served from; their paths."""
        place = self.results_folder / name
        with self._changed:
            if self._jobs[name].is_over:  # cancelled at the last moment
                return {}
            place.mkdir(exist_ok=True)
            for file in files.values():
                os.replace(self.work_folder / name / file, place / file)
        return {what: str(place / file) for what, file in files.items()}

    def _save(self, job: Job) -> None:
        if job.kind == "make" and job.status == DONE:
            about = asdict(job) | {"files": {what: Path(path).name for what, path in job.files.items()}}
            with suppress(InputError), whole_file(self.results_folder / job.id / _JOB) as part:
                part.write_text(json.dumps(about, indent=1), encoding="utf-8")

    def _forget_work(self, name: str) -> None:
        with self._changed:
            self._orders.pop(name, None)
        shutil.rmtree(self.work_folder / name, ignore_errors=True)

    def _prune(self) -> None:
        """Forget the oldest of the history, and of the other jobs that are over."""
        with self._changed:
            over = [job for job in self.jobs() if job.is_over]
            history = [job for job in over if job.kind == "make" and job.status == DONE]
            others = [job for job in over if job not in history]
            for job in (*history[self.limits.kept :], *others[_REMEMBERED:]):
                del self._jobs[job.id]
                shutil.rmtree(self.results_folder / job.id, ignore_errors=True)

    def _tidy(self) -> None:
        """Read the history, and remove all else: what a server that is gone has left."""
        for place in self.work_folder.iterdir():
            shutil.rmtree(place, ignore_errors=True)
        for place in self.results_folder.iterdir():
            try:
                about = json.loads((place / _JOB).read_text(encoding="utf-8"))
                files = {what: str(place / Path(file).name) for what, file in about["files"].items()}
                job = Job(**{**about, "files": files, "lines": tuple(about["lines"]), "id": place.name})
                self._jobs[place.name] = job
            except (OSError, ValueError, TypeError, KeyError, AttributeError):
                shutil.rmtree(place, ignore_errors=True)


def _own_folder(folder: Path, places: Sequence[Path]) -> FileLock:
    """Make a folder of a page and what is in it; the lock that says that it is in use.

    Raises:
        InputError: it cannot be made, holds something else, or another page uses it.
    """
    lock = folder / _LOCK
    try:
        if folder.is_dir() and any(folder.iterdir()) and not lock.exists():
            raise InputError(f"{folder}: holds other files; give a new folder, for the page removes what it made")
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
        own = FileLock(lock)
        own.acquire(timeout=0)
    except Timeout:
        raise InputError(f"{folder}: another page uses it; give another folder") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); give another folder") from None
    return own
