"""Processes that die while they work are replaced, their jobs tried again; GPUs and cores are shared out."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from animate_anyone.engines import local_pool
from animate_anyone.engines.engine import ONE_CORE, ONE_MODEL, Lost, SpoiltProcessError
from animate_anyone.engines.local_pool import LocalPool
from animate_anyone.engines.pool import Pool
from animate_anyone.errors import InputError


def _die_at_some(job: tuple[int, Path]) -> int:
    """Ends its process at 3 the first time, at 5 each time."""
    number, folder = job
    mark = folder / f"{number}_{os.getpid()}"
    tried = list(folder.glob(f"{number}_*"))
    mark.touch()
    if number == 5 or (number == 3 and not tried):
        os._exit(9)
    return number


def test_a_process_that_dies_is_replaced(tmp_path: Path) -> None:
    results = list(LocalPool(2).each(_die_at_some, ((number, tmp_path) for number in range(8))))
    assert sorted(r for r in results if isinstance(r, int)) == [0, 1, 2, 3, 4, 6, 7]
    assert [r for r in results if isinstance(r, Lost)] == [Lost((5, tmp_path), "with exit code 9")]
    assert len(list(tmp_path.glob("5_*"))) == 2


def _kill_itself(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def test_a_lost_job_says_what_its_process_died_of() -> None:
    """A crash of a library is another matter than memory that ran out."""
    segmentation, killed = (next(iter(LocalPool(1).each(_kill_itself, [s]))) for s in (signal.SIGSEGV, signal.SIGKILL))
    assert segmentation == Lost(signal.SIGSEGV, "of SIGSEGV") and "memory" not in segmentation.reason
    assert killed == Lost(signal.SIGKILL, "of SIGKILL")
    assert killed.reason == "the process that worked on it died of SIGKILL, 2 times; it may want more memory"


def _spoil(job: tuple[int, Path]) -> int:
    """Cannot go on in the first process that comes to 3."""
    number, folder = job
    if number == 3 and not (folder / "3").exists():
        (folder / "3").write_text(str(os.getpid()))
        raise SpoiltProcessError
    return os.getpid()


def test_a_process_that_can_do_no_more_is_replaced(tmp_path: Path) -> None:
    results = list(LocalPool(1).each(_spoil, ((number, tmp_path) for number in range(6))))
    spoilt = int((tmp_path / "3").read_text())
    assert len(results) == 6 and results[0] == spoilt
    assert spoilt not in results[3:]


def _abort(environment: Any) -> None:
    os.abort()


def test_processes_that_cannot_begin_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_pool, "begin_worker", _abort)
    with pytest.raises(InputError, match="end before they begin"):
        list(LocalPool(2).each(abs, [1, 2, 3]))


def test_each_process_has_a_number_of_its_own() -> None:
    """The one that takes the place of a dead one has its number."""
    numbers: list[int] = []
    died: list[int] = []

    class Numbered:
        def __init__(self, number: int) -> None:
            numbers.append(number)

        def begin(self) -> Future[Any]:
            return self.submit(abs, 0)

        def submit(self, function: Any, job: Any) -> Future[Any]:
            future: Future[Any] = Future()
            if job == 3 and not died:
                died.append(job)
                future.set_exception(ChildProcessError())
            else:
                future.set_result(function(job))
            return future

        def end(self) -> None: ...

        def wait_end(self, seconds: float) -> None: ...

    assert sorted(Pool(Numbered, 2, (ChildProcessError,)).each(abs, range(6))) == list(range(6))
    assert sorted(numbers[:2]) == [0, 1] and len(numbers) == 3 and numbers[2] in (0, 1)


def test_a_process_that_holds_a_model_sees_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_pool, "usable_gpus", lambda: ["5"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert list(LocalPool(0).each(os.getenv, ["CUDA_VISIBLE_DEVICES"], ONE_MODEL)) == ["5"]
    assert list(LocalPool(1).each(os.getenv, ["CUDA_VISIBLE_DEVICES"], ONE_CORE)) == ["5,7"]


def test_gpus_and_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(local_pool, "usable_cores", lambda: 8)
    shares = [local_pool.share_of_machine(number, 3, ["a", "b"]) for number in range(3)]
    assert shares == [{"CUDA_VISIBLE_DEVICES": name} for name in ("a", "b", "a")]
    assert local_pool.share_of_machine(0, 3, []) == {"OMP_NUM_THREADS": "2"}
    assert local_pool.share_of_machine(0, 1, []) == {}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert local_pool.share_of_machine(0, 3, []) == {}


def test_gpus_are_named_as_the_environment_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-8a")
    assert local_pool.usable_gpus() == ["4", "GPU-8a"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert local_pool.usable_gpus() == ["0", "1"]
