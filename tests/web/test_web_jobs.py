"""The queue of the page: one job a process, each ended when it is cancelled, nothing left but results."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import quick_work

from animate_anyone.errors import InputError
from animate_anyone.web.jobs import CANCELLED, DONE, FAILED, RUNNING, WAITING, Job, JobQueue, Order
from animate_anyone.web.limits import Limits

LONG = 60.0


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[JobQueue]:
    queue = JobQueue(tmp_path / "page", quick_work.do, Limits(waiting=5, kept=3))
    yield queue
    queue.close()
    assert not list(queue.work_folder.iterdir())


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    file = tmp_path / "me.PNG"
    file.write_bytes(b"a picture")
    return file


def order(upload: Path, seed: int = 0, kind: str = "make") -> Order:
    return Order(kind, "animate", {"seed": seed}, {"character": upload}, {"character": upload.name})


def until(queue: JobQueue, name: str, status: str, previews: int = 0) -> Job:
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        job = queue.job(name)
        if job.status == status and job.previews >= previews:
            return job
        time.sleep(0.02)
    raise AssertionError(queue.job(name))


def test_a_job_leaves_its_result_and_nothing_else(queue: JobQueue, upload: Path) -> None:
    job = queue.wait(queue.submit(order(upload)), LONG)
    assert (job.status, job.stage, job.done, job.total) == (DONE, "denoise", 1, quick_work.FRAMES)
    assert job.found["frames"] == quick_work.FRAMES
    place = queue.results_folder / job.id
    assert sorted(file.name for file in place.iterdir()) == ["job.json", "result.mp4", "result.mp4.json"]
    assert job.files == {"video": str(place / "result.mp4"), "settings": str(place / "result.mp4.json")}
    assert upload.read_bytes() == b"a picture"


def test_a_running_job_that_is_cancelled_is_gone_when_that_is_answered(queue: JobQueue, upload: Path) -> None:
    name = queue.submit(order(upload, quick_work.NEVER))
    until(queue, name, RUNNING, previews=1)
    assert queue.preview(name, quick_work.PREVIEW) is not None
    (process,) = queue._at_work.values()
    assert queue.cancel(name).status == CANCELLED
    assert not process.is_alive
    assert not (queue.work_folder / name).exists()
    assert queue.preview(name, quick_work.PREVIEW) is None
    assert queue.wait(queue.submit(order(upload)), LONG).status == DONE


def test_one_at_a_time_in_order_and_a_waiting_one_can_be_cancelled(queue: JobQueue, upload: Path) -> None:
    first, second, third = (queue.submit(order(upload, seed)) for seed in (quick_work.NEVER, 0, 0))
    until(queue, first, RUNNING, previews=1)
    assert [queue.job(name).status for name in (second, third)] == [WAITING, WAITING]
    assert (queue.ahead(second), queue.ahead(third)) == (0, 1)
    assert queue.cancel(second).status == CANCELLED
    assert not (queue.work_folder / second).exists()
    queue.cancel(first)
    assert queue.wait(third, LONG).status == DONE
    assert queue.cancel(third).status == DONE  # it is over


@pytest.mark.parametrize(
    ("seed", "why"), [(quick_work.BAD, "character.png: not a picture"), (quick_work.DIES, "its process died")]
)
def test_a_job_that_fails_says_why_in_one_line_and_the_next_one_is_done(
    queue: JobQueue, upload: Path, seed: int, why: str
) -> None:
    job = queue.wait(queue.submit(order(upload, seed)), LONG)
    assert job.status == FAILED
    assert job.error.startswith(why) and "\n" not in job.error
    assert queue.wait(queue.submit(order(upload)), LONG).status == DONE
    assert [path.name for path in queue.results_folder.iterdir()] == [queue.history()[0].id]


def test_only_so_many_wait(queue: JobQueue, upload: Path) -> None:
    first = queue.submit(order(upload, quick_work.NEVER))
    until(queue, first, RUNNING)
    names = [queue.submit(order(upload)) for _ in range(5)]
    with pytest.raises(InputError, match="5 jobs are waiting"):
        queue.submit(order(upload))
    for name in (*names, first):
        queue.cancel(name)


def test_the_history_is_there_again_and_the_oldest_goes(queue: JobQueue, upload: Path) -> None:
    names = [queue.wait(queue.submit(order(upload)), LONG).id for _ in range(4)]
    assert [job.id for job in queue.history()] == names[:0:-1]
    assert not (queue.results_folder / names[0]).exists()
    stray = queue.results_folder / "stray"
    stray.mkdir()
    before = queue.history()
    queue.close()
    again = JobQueue(queue.folder, quick_work.do)
    try:
        assert again.history() == before
        assert not stray.exists()
    finally:
        again.close()


def test_a_folder_with_other_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        JobQueue(tmp_path, quick_work.do)
    assert (tmp_path / "results" / "mine.txt").read_text() == "mine"


def test_two_pages_do_not_share_a_folder(queue: JobQueue) -> None:
    with pytest.raises(InputError, match="another page uses it"):
        JobQueue(queue.folder, quick_work.do)


def test_a_record_that_names_another_place_serves_nothing_from_there(queue: JobQueue, upload: Path) -> None:
    job = queue.wait(queue.submit(order(upload)), LONG)
    file = queue.results_folder / job.id / "job.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"files": {"video": "/etc/passwd"}, "id": "../../x"}))
    queue.close()
    again = JobQueue(queue.folder, quick_work.do)
    try:
        (found,) = again.history()
        assert (found.id, found.files) == (job.id, {"video": str(queue.results_folder / job.id / "passwd")})
    finally:
        again.close()
