"""A cache that several processes fill, cut short or damaged."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import forked
from animate_anyone.errors import InputError
from animate_anyone.progress import SILENT
from animate_anyone.system import processes
from animate_anyone.training import clip_cache, clips
from animate_anyone.training.clip_cache import SHARD, ClipArrays, ClipCache, make_whole
from animate_anyone.training.clips import StudioClips, render_clip
from animate_anyone.training.config import Data
from animate_anyone.training.render_pool import RenderPool, count_workers

SHARDS = 4
DATA = Data(clips=SHARDS * SHARD - 1, workers=1)
SETTINGS: dict[str, object] = {"size": 2}


def note(data: Data, number: int, device: str) -> ClipArrays:
    """A clip that is its number; every call leaves a line in a file beside the cache."""
    with (Path(str(data.cache)).parent / "rendered").open("a") as file:
        file.write(f"{number} {device}\n")
    return {"frames": np.full((1, 2, 2, 3), number, np.int64)}


def derived(data: Data) -> Callable[[NDArray], NDArray]:
    def double(frames: NDArray) -> NDArray:
        with (Path(str(data.cache)).parent / "derived").open("a") as file:
            file.write(f"{frames.flat[0]}\n")
        return 2 * frames

    return double


def fill(data: Data, rank: int, count: int, together: Any) -> None:
    """What one process of a run does; they begin together."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    together.wait()
    cache = ClipCache(data, SETTINGS)
    cache.fill(note, f"cpu:{rank}", SILENT)
    for number in range(data.clips):  # all of it, when filling is over
        assert cache.clip(number, ("frames",))["frames"].min() == number
    cache.derive("double", "once", derived(data), SILENT)
    for number in range(data.clips):
        assert cache.clip(number, ("frames",))["double"].min() == 2 * number


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_two_processes_share_the_work_of_one(tmp_path: Path) -> None:
    data = replace(DATA, cache=str(tmp_path / "two/clips"))
    started: list[Any] = []
    context = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    together = context.Barrier(2)
    for rank in range(2):
        if hasattr(os, "fork"):
            started.append(forked.Forked(partial(fill, data, rank, 2, together), tmp_path))
        else:
            started.append(context.Process(target=fill, args=(data, rank, 2, together)))
            started[-1].start()
    alone = ClipCache(replace(DATA, cache=str(tmp_path / "one/clips")), SETTINGS)
    alone.fill(note, "cpu", SILENT)
    alone.derive("double", "once", derived(alone.data), SILENT)
    for process in started:
        if isinstance(process, forked.Forked):
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
        else:
            process.join()
            assert process.exitcode == 0
    for file in ("one/rendered", "one/derived", "two/rendered", "two/derived"):
        numbers = sorted(int(line.split()[0]) for line in (tmp_path / file).read_text().splitlines())
        assert numbers == list(range(SHARDS * SHARD)), "each clip once, by whichever process"
    one, two = (contents(tmp_path / count / "clips") for count in ("one", "two"))
    assert one == two
    assert not [name for name in one if "partial" in name or "lock" in name]


def test_what_a_killed_process_left_is_made_anew(tmp_path: Path) -> None:
    data = replace(DATA, cache=str(tmp_path / "clips"), clips=SHARD)
    (tmp_path / "clips/shard_00000.partial").mkdir(parents=True)
    (tmp_path / "clips/shard_00000.partial/frames.npy").write_bytes(b"half")
    for name in ("shard_00000.lock", "index.json.lock", "index.json.partial"):
        (tmp_path / "clips" / name).write_text("")
    ClipCache(data, SETTINGS).fill(note, "cpu", SILENT)
    assert {f.name for f in (tmp_path / "clips").iterdir()} == {"index.json", "shard_00000"}


def test_a_piece_is_left_to_who_is_making_it(tmp_path: Path) -> None:
    inside, go_on, made = threading.Event(), threading.Event(), []

    def slowly(path: Path) -> None:
        inside.set()
        go_on.wait()
        path.write_text("whole")

    maker = threading.Thread(target=lambda: made.append(make_whole(tmp_path / "piece", slowly)))
    maker.start()
    inside.wait()
    assert not make_whole(tmp_path / "piece", lambda path: path.write_text("another"))
    go_on.set()
    maker.join()
    assert made == [True]
    assert make_whole(tmp_path / "piece", lambda path: path.write_text("another"))
    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == {"piece": "whole"}


def test_no_room_for_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = replace(DATA, cache=str(tmp_path / "clips"), clips=SHARD)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(clip_cache.np, "save", full)
    with pytest.raises(InputError, match=r"shard_00000: cannot be written .No space left on device."):
        ClipCache(data, SETTINGS).fill(note, "cpu", SILENT)
    assert not [f.name for f in (tmp_path / "clips").iterdir() if f.is_dir()]


@pytest.mark.parametrize("text", ["", "{", "\udcff"])
def test_a_damaged_index(tmp_path: Path, text: str) -> None:
    data = replace(DATA, cache=str(tmp_path))
    (tmp_path / "index.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"index.json: cannot be read; remove .* or give another data.cache"):
        ClipCache(data, SETTINGS)


def test_a_damaged_shard(tmp_path: Path) -> None:
    data = replace(DATA, cache=str(tmp_path / "clips"), clips=SHARD)
    cache = ClipCache(data, SETTINGS)
    cache.fill(note, "cpu", SILENT)
    file = tmp_path / "clips/shard_00000/frames.npy"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match=r"frames.npy: cannot be read .* remove .*shard_00000 to have it anew"):
        cache.clip(3, ("frames",))


def test_an_index_is_of_one_setting(tmp_path: Path) -> None:
    data = replace(DATA, cache=str(tmp_path / "clips"))
    ClipCache(data, SETTINGS)
    with pytest.raises(InputError, match="holds clips of other settings"):
        ClipCache(data, {"size": 3})
    assert json.loads((tmp_path / "clips/index.json").read_text()) == SETTINGS


# Which device renders


@pytest.mark.parametrize(("rank", "device"), [(None, "cuda:0"), ("1", "cuda:1"), ("2", "cuda:0")])
def test_every_process_renders_on_its_own_gpu(monkeypatch: pytest.MonkeyPatch, rank: str | None, device: str) -> None:
    """In whichever thread: two GPUs, as many processes as one likes."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    used: list[str] = []
    monkeypatch.setattr(clips, "render_clip", lambda data, number, device: used.append(device) or {})
    studio = StudioClips(Data(workers=1), 0)
    loader = threading.Thread(target=lambda: studio.clips(np.array([0, 1])))
    loader.start()
    loader.join()
    assert used == [device] * 2
    assert str(processes.device()) == device


def test_the_cpu_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert processes.device().type == "cpu"


# Processes that render


def test_clips_by_other_processes_are_the_same() -> None:
    data = Data(size=64, frames_per_clip=2, supersample=1, workers=2)
    studio, numbers = StudioClips(data, 0), (np.array([3, 1]), np.array([2]))
    assert count_workers(data) == 2
    made: dict[int, list[ClipArrays]] = {}
    askers = [threading.Thread(target=lambda k=k: made.update({k: studio.clips(numbers[k])})) for k in range(2)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    for number, clip in zip([3, 1, 2], made[0] + made[1], strict=True):
        for name, value in render_clip(data, number).items():
            assert np.array_equal(clip[name], value), name
    # They import what rendering needs; the model libraries take three times as long as all of that.
    assert studio._pool is not None
    told = "__import__('animate_anyone.training.clips') and list(__import__('sys').modules)"
    (imported,) = studio._pool.each(eval, [(told,)])
    assert {"torch", "animate_anyone.training.clips"} <= set(imported)
    assert not {"diffusers", "transformers", "accelerate", "scipy", "torch._dynamo"} & set(imported)


def test_a_killed_process_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: Future[int] = Future()
    killed.set_exception(BrokenProcessPool())
    pool = RenderPool(1)
    monkeypatch.setattr(pool._executor, "submit", lambda *job: killed)
    with pytest.raises(InputError, match="was killed, probably for want of memory"), pool:
        list(pool.each(abs, [(9,)]))


def test_as_many_processes_as_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)), raising=False)
    assert processes.share_of_cores() == 12
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert processes.share_of_cores() == 3
    assert count_workers(Data()) == 3
    assert count_workers(DATA) == 1


def test_a_pool_ends_though_a_result_was_cut_short() -> None:
    """A process that is ended while it sends a result leaves half of it, and nothing waits for the other half."""
    pool = RenderPool(1)
    assert list(pool.each(abs, [(-1,)])) == [1]
    waiting = pool._executor._executor_manager_thread
    results: Any = pool._executor._result_queue
    results._writer._send((100).to_bytes(4, "big"))  # the length of a message that never comes
    pool.close()
    waiting.join(60)
    assert not waiting.is_alive()


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signal masks as POSIX has them")
def test_processes_of_a_pool_never_see_ctrl_c() -> None:
    """From their first moment on: it is blocked where they are started, and not here afterwards."""
    with RenderPool(1) as pool:
        (blocked,) = pool.each(signal.pthread_sigmask, [(signal.SIG_BLOCK, ())])
    assert signal.SIGINT in blocked
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
