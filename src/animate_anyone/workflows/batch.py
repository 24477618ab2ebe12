"""Many videos, in one process or many: each job is one call of ``animate`` or ``replace``, and leaves a record.

jobs file ──batch_jobs──▶ jobs ──engines──▶ processes, each with the model that it loaded ──▶ videos and records
"""

from __future__ import annotations

import itertools
import time
import traceback
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from animate_anyone.engines.engine import ONE_MODEL, Engine, Lost, SpoiltProcessError
from animate_anyone.engines.local_pool import LocalPool
from animate_anyone.errors import InputError
from animate_anyone.media import check_folder, probe, read_picture
from animate_anyone.progress import SILENT, Progress
from animate_anyone.sampling.kept_model import KeptModel
from animate_anyone.sampling.quiet import quiet_model_libraries
from animate_anyone.structures import PoseSequence
from animate_anyone.system.silence import quiet_libraries
from animate_anyone.system.stamps import stamp
from animate_anyone.system.whole_files import writing
from animate_anyone.workflows.batch_jobs import WORKFLOWS, Job
from animate_anyone.workflows.batch_records import Records
from animate_anyone.workflows.driving import open_driver

MADE, WAS_THERE, FAILED = "made", "was there", "failed"
_LONGEST_REASON = 300  # letters
_model = KeptModel()  # of this process, from job to job


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: the job.
        result: :data:`MADE`, :data:`WAS_THERE` or :data:`FAILED`.
        frames, seconds: of the video, and that it took; 0 where it failed.
        reason: why it failed, one line.
        is_input: whether that is its inputs' or its settings' fault, as far as is known.
    """

    job: Job
    result: str
    frames: int = 0
    seconds: float = 0.0
    reason: str = ""
    is_input: bool = False


@dataclass(frozen=True)
class Summary:
    """What became of all jobs, in the order of their file."""

    outcomes: Sequence[Outcome]

    def lines(self) -> list[str]:
        """A table for the user, and the numbers of each result."""
        rows = [("job", "line", "result", "frames", "seconds", "reason")]
        for one in self.outcomes:
            figures = (f"{one.frames}", f"{one.seconds:.1f}") if one.result != FAILED else ("", "")
            rows.append((one.job.name, f"{one.job.line}", one.result, *figures, one.reason))
        counts = ", ".join(f"{self.count(result)} {result}" for result in (MADE, WAS_THERE, FAILED))
        return [*table(rows), f"{len(self.outcomes)} jobs: {counts}"]

    def count(self, result: str) -> int:
        """How many have this result."""
        return sum(one.result == result for one in self.outcomes)

    @property
    def status(self) -> int:
        """The exit status: 0 when all videos are there, 2 where inputs alone kept some from it, 1 for other faults."""
        failed = [one for one in self.outcomes if one.result == FAILED]
        return 0 if not failed else 2 if all(one.is_input for one in failed) else 1


def batch(jobs: Sequence[Job], folder: Path, engine: Engine | None = None, progress: Progress = SILENT) -> Summary:
    """Make the videos of many jobs, or go on with them.

    What is done already, of the same inputs with the same settings, is not done again. A job that fails, or whose
    process dies, stops no other; the next call tries it again.

    Args:
        jobs: as :func:`~animate_anyone.workflows.batch_jobs.read_jobs` reads them.
        folder: where records are written, and outputs that are relative.
        engine: where the work is run; ``None``: a process on this machine for each of its GPUs, one in all without any.
        progress: shown how far it is, in jobs.

    Raises:
        InputError: ``folder`` cannot be written, or no process can be started.
    """
    check_folder(folder, "--output", ())
    engine = engine or LocalPool(0)
    records = Records(folder)
    there = [outcome for job in jobs if (outcome := _done(job, records)) is not None]
    known = {outcome.job.output for outcome in there}
    # Jobs with one model follow each other: a process seldom loads another.
    todo = sorted((job for job in jobs if job.output not in known), key=_model_of)
    with closing(_outcomes(engine, [Task(job, folder, records.made_of(job)) for job in todo])) as made:
        outcomes = {one.job.output: one for one in progress.track(itertools.chain(there, made), len(jobs), "jobs")}
    return Summary([outcomes[job.output] for job in jobs])


def _model_of(job: Job) -> tuple[str, str]:
    return job.settings.model, repr(job.settings.placement)


@dataclass(frozen=True)
class Task:
    """What a process is given.

    Attributes:
        job: the job.
        folder: of its record.
        made_of: what it is made of, for its record: as it was before anything was read.
    """

    job: Job
    folder: Path
    made_of: str


def make(task: Task) -> Outcome:
    """Make the video of a job and leave its record; whatever goes wrong is in the outcome."""
    quiet_libraries()
    quiet_model_libraries()
    job, records, began = task.job, Records(task.folder), time.perf_counter()
    try:
        lines = _run(job)
        outcome = Outcome(job, MADE, probe(job.output).num_frames, round(time.perf_counter() - began, 1))
        about = {"made_of": task.made_of, "output": stamp(job.output), "lines": lines}
        records.write(job, {"status": MADE, "frames": outcome.frames, "seconds": outcome.seconds, **about})
        return outcome
    except InputError as error:
        return _failed(records, job, str(error), is_input=True)
    except Exception as error:
        if _has_lost_gpu():
            raise SpoiltProcessError(str(error)) from error
        _model.drop()  # in which state it is, is not known
        return _failed(records, job, f"{type(error).__name__}: {error}", trace=traceback.format_exc())


def _run(job: Job) -> list[str]:
    """What the workflow says of it."""
    with writing(job.output):
        job.output.parent.mkdir(parents=True, exist_ok=True)
    known = None if job.character_pose is None else PoseSequence.load(job.character_pose)[:1]
    workflow = getattr(WORKFLOWS[job.verb], job.verb)
    report = workflow(job.character, job.video, job.output, job.settings, character_pose=known, load=_model)
    return list(report.lines)


def _has_lost_gpu() -> bool:
    """Whether the GPU refuses all further work of this process, as after an illegal access there."""
    if not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except Exception:
        return True
    return False


def _outcomes(engine: Engine, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
    for result in engine.each(make, tasks, ONE_MODEL) if tasks else ():
        if isinstance(result, Lost):
            task = result.job
            yield _failed(Records(task.folder), task.job, result.reason)
        else:
            yield result


def _failed(records: Records, job: Job, why: str, is_input: bool = False, trace: str = "") -> Outcome:
    """The outcome of a job that failed; its record is for whoever looks for the cause, and is no reason to end."""
    reason = " ".join(why.split())[:_LONGEST_REASON]
    with suppress(InputError):
        records.write(job, {"status": FAILED, "reason": reason, **({"trace": trace} if trace else {})})
    return Outcome(job, FAILED, reason=reason, is_input=is_input)


def _done(job: Job, records: Records) -> Outcome | None:
    record = records.of_done(job)
    return None if record is None else Outcome(job, WAS_THERE, record["frames"], record["seconds"])


def plan(jobs: Sequence[Job], folder: Path) -> list[str]:
    """What :func:`batch` would do, in lines: inputs are looked at, nothing is computed or written."""
    records = Records(folder)
    rows = [("job", "line", "verb", "model", "to do", "reason")]
    for job in jobs:
        is_done = records.of_done(job) is not None
        reason = "" if is_done else _fault(job)
        todo = "is there" if is_done else "would fail" if reason else "make"
        rows.append((job.name, f"{job.line}", job.verb, job.settings.model, todo, reason))
    return table(rows)


def _fault(job: Job) -> str:
    """What is wrong with a job's inputs, as far as opening them tells; empty where nothing is."""
    try:
        read_picture(job.character)
        open_driver(job.video, job.settings.frames, job.settings.fps, job.settings.driving_kind)
        if job.character_pose is not None:
            PoseSequence.load(job.character_pose)
    except InputError as error:
        return str(error)
    return ""


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of equally many cells as lines, with columns of equal width."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
