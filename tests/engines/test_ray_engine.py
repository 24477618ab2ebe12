"""Ray of two workers on this machine, started once."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("ray") is None:  # imported by the engine alone, which tells it to be quiet before
    pytest.skip("Ray is not installed", allow_module_level=True)
pytest.importorskip("scenedetect")

from animate_anyone.engines.engine import InProcess, Lost, Resources
from animate_anyone.engines.ray_engine import RayEngine, _Actor, _shares
from animate_anyone.errors import InputError
from animate_anyone.preparation import work
from animate_anyone.preparation.prepare import prepare, read_manifest
from animate_anyone.preparation.settings import PrepareSettings
from animate_anyone.progress import Item, Progress
from animate_anyone.system.whole_files import whole_file
from animate_anyone.workflows.batch import FAILED, WAS_THERE, batch
from animate_anyone.workflows.batch_jobs import read_jobs
from waving import Waving, video


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayEngine]:
    """What it runs is defined inside the tests: such functions are sent whole."""
    folder = tmp_path_factory.mktemp("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        with RayEngine("local", 2, folder) as engine:
            yield engine


class _WithWaving:
    """An engine whose processes have the estimator of the tests."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def each(self, function: Callable[[Any], Any], jobs: Iterable[Any], needs: Resources) -> Iterator[Any]:
        def with_waving(job: Any) -> Any:
            work.load_estimator = lambda name, device: Waving()  # type: ignore[assignment]
            return function(job)

        return self._engine.each(with_waving, jobs, needs)


def test_the_manifest_is_that_of_this_process(
    ray: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(work, "load_estimator", lambda name, device: Waving())
    work.clip_stages.cache_clear()
    (tmp_path / "in").mkdir()
    for number in range(3):
        video(tmp_path / "in" / f"{number}.mp4", 24, 30, first_seed=9 * number)
    (tmp_path / "in" / "text.mp4").write_text("no video")
    settings = PrepareSettings(min_height=64)
    prepare([tmp_path / "in"], tmp_path / "one", settings)
    prepare([tmp_path / "in"], tmp_path / "two", settings, engine=_WithWaving(ray))
    work.clip_stages.cache_clear()
    assert [entry["status"] for entry in read_manifest(tmp_path / "two")] == ["kept"] * 6 + ["broken"]
    manifests = [(tmp_path / name / "manifest.jsonl").read_bytes() for name in ("one", "two")]
    assert manifests[0] == manifests[1]
    assert capfd.readouterr() == ("", "")


class _Stopping(Progress):
    """Ctrl-C after so many items."""

    def __init__(self, after: int) -> None:
        self._after = after

    def track(self, items: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
        for number, item in enumerate(items, 1):
            yield item
            if number == self._after:
                raise KeyboardInterrupt


def test_a_batch_of_videos_is_that_of_this_process(
    ray: RayEngine, dancers: Path, tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Twelve jobs, two of them broken; stopped after eight, another engine goes on."""
    job = {"character": "me.png", "driving": "dance.npz", "character_pose": str(dancers / "me.npz")}
    job |= {"model": str(tiny_model), "size": "64x64", "steps": 1, "frames": "0:2", "device": "cpu"}
    lines = [{**job, "seed": number, "output": f"{number}.mp4"} for number in range(12)]
    lines[3]["driving"], lines[8]["character"] = "text.mp4", "gone.png"
    (tmp_path / "text.mp4").write_text("not a video")
    for name in ("me.png", "dance.npz"):
        (tmp_path / name).write_bytes((dancers / name).read_bytes())
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    one, two = (read_jobs(tmp_path / "jobs.jsonl", tmp_path / name) for name in ("one", "two"))
    batch(one, tmp_path / "one", InProcess())
    with pytest.raises(KeyboardInterrupt):
        batch(two, tmp_path / "two", ray, _Stopping(8))
    assert not list((tmp_path / "two").rglob("*.part"))
    assert capfd.readouterr() == ("", "")
    summary = batch(two, tmp_path / "two", InProcess())
    assert [outcome.job.name for outcome in summary.outcomes if outcome.result == FAILED] == ["3.mp4", "8.mp4"]
    assert 6 <= summary.count(WAS_THERE) <= 9 and summary.status == 2
    made = {file.name: file.read_bytes() for file in (tmp_path / "one").glob("*.mp4")}
    assert len(made) == 10
    assert made == {file.name: file.read_bytes() for file in (tmp_path / "two").glob("*.mp4")}


def test_jobs_are_read_as_it_goes(ray: RayEngine) -> None:
    begun: list[int] = []
    results = ray.each(lambda number: number**2, (begun.append(n) or n for n in range(40)))
    first = next(results)
    assert len(begun) < 10
    assert sorted([first, *results]) == [n**2 for n in range(40)]


def test_an_actor_that_dies_is_replaced(ray: RayEngine, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def die_at_some(number: int) -> int:
        tried = list(tmp_path.glob(f"{number}_*"))
        (tmp_path / f"{number}_{os.getpid()}").touch()
        if number == 5 or (number == 3 and not tried):
            os._exit(9)
        return number

    results = list(ray.each(die_at_some, range(8)))
    assert sorted(r for r in results if isinstance(r, int)) == [0, 1, 2, 3, 4, 6, 7]
    assert [r for r in results if isinstance(r, Lost)] == [Lost(5)]
    assert len(list(tmp_path.glob("5_*"))) == 2
    assert capfd.readouterr() == ("", "")


def test_a_clip_whose_process_dies_is_reported_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What any engine that loses a job leads to."""

    class Losing(InProcess):
        def each(self, function: Any, jobs: Iterable[Any], needs: Any = None) -> Iterator[Any]:
            for job in jobs:
                yield Lost(job) if getattr(job, "id", "").endswith("_000024") else function(job)

    monkeypatch.setattr(work, "load_estimator", lambda name, device: Waving())
    work.clip_stages.cache_clear()
    settings = PrepareSettings(min_height=64)
    source = video(tmp_path / "a.mp4", 24, 30)
    summary = prepare([source], tmp_path / "out", settings, engine=Losing())
    kept, failed = read_manifest(tmp_path / "out")
    assert kept["status"] == "kept"
    assert (failed["status"], failed["first"], failed["stop"]) == ("failed", 24, 54)
    assert failed["reason"] == "the process that worked on it died, 2 times; it may want more memory"
    assert summary.failed == [(source.as_posix(), failed["reason"])]
    assert prepare([source], tmp_path / "out", settings).made == 1
    work.clip_stages.cache_clear()
    assert [entry["status"] for entry in read_manifest(tmp_path / "out")] == ["kept", "kept"]


def test_what_a_job_raises_is_raised(ray: RayEngine) -> None:
    def wrong(number: int) -> None:
        raise InputError(f"{number}: wrong")

    with pytest.raises(InputError, match=r"^3: wrong$"):
        list(ray.each(wrong, [3]))


def test_stopped_it_ends_its_actors_and_leaves_nothing_half_written(ray: RayEngine, tmp_path: Path) -> None:
    def write(number: int) -> None:
        if number == 0:
            return
        with whole_file(tmp_path / "result") as part:
            part.write_bytes(b"half")
            (tmp_path / "process").write_text(str(os.getpid()))
            time.sleep(600)

    results = ray.each(write, itertools.chain([1], itertools.repeat(0)))
    for _ in results:
        if (tmp_path / "process").exists():
            break
    results.close()  # type: ignore[attr-defined]
    assert [file.name for file in tmp_path.iterdir()] == ["process"]
    _wait_until_gone(int((tmp_path / "process").read_text()))


def test_stopped_while_files_come_and_go(ray: RayEngine, tmp_path: Path) -> None:
    def write(number: int) -> None:
        if number:
            (tmp_path / "begun").touch()
        while number:
            with whole_file(tmp_path / "result") as part:
                part.write_bytes(b"half")

    for _ in range(3):
        results = ray.each(write, itertools.chain([1], itertools.repeat(0)))
        for _ in results:
            if (tmp_path / "begun").exists():
                break
        results.close()  # type: ignore[attr-defined]
        assert sorted(file.name for file in tmp_path.iterdir()) == ["begun", "result"]
        (tmp_path / "begun").unlink()


def _wait_until_gone(process: int) -> None:
    """Ray tells that an actor is dead once its connection is closed, while the kernel still frees its memory."""
    end = time.monotonic() + 60.0
    while _runs(process):
        assert time.monotonic() < end, f"process {process} still runs"
        time.sleep(0.05)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
        return "zombie" not in Path(f"/proc/{process}/status").read_text() if Path("/proc").is_dir() else True
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_resources_that_no_machine_has(ray: RayEngine) -> None:
    with pytest.raises(InputError, match="no machine there has 1 CPUs and 99 GPUs"):
        list(ray.each(abs, [1], Resources(gpus=99.0)))


def test_folders_that_are_not_shared_are_told(tmp_path: Path) -> None:
    (tmp_path / "trial").write_text("token")
    (tmp_path / "in").mkdir()
    _Actor().begin(os.getcwd(), {str(tmp_path / "in"): "", str(tmp_path / "trial"): "token"})
    with pytest.raises(InputError, match=f"^{tmp_path / 'gone'}: .* a folder that they share"):
        _Actor().begin(os.getcwd(), {str(tmp_path / "gone"): ""})
    for token, file in (("another", "trial"), ("token", "gone")):
        with pytest.raises(InputError, match=f"^{tmp_path}: .* a folder that they share"):
            _Actor().begin(os.getcwd(), {str(tmp_path / file): token})


def test_an_address_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("", "ray://here:1", "here", "http://here:80", "here:port"):
        with pytest.raises(InputError, match="give local, auto, or HOST:PORT"):
            RayEngine(address, 1, tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'pip install "animate-anyone\[ray\]"'):
        RayEngine("local", 1, tmp_path)


def test_a_cluster_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    engine = RayEngine(address, 1, tmp_path)
    monkeypatch.setattr(engine._ray, "is_initialized", lambda: False)
    monkeypatch.setattr(engine._ray, "shutdown", lambda: None)
    with pytest.raises(InputError, match=f"--ray {address}: no Ray answers there"):
        engine.__enter__()


def test_cores_are_shared_out_over_machines() -> None:
    """Without GPUs: one process a machine, or as many as are asked for."""
    assert [_shares([8.0, 8.0], workers).cpus for workers in (0, 2, 3, 4, 100)] == [8, 8, 4, 4, 1]
    assert _shares([4.0, 16.0, 0.0], 0).cpus == 4
    assert _shares([], 0).cpus == 1
