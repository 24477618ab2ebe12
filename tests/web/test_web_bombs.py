"""Small files that would be huge where they are believed: used, or refused in one line, within 2 GiB of memory."""

from __future__ import annotations

import json
import multiprocessing
import resource
import shutil
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from bombs import PICTURE_BOMBS, VIDEO_BOMBS

from animate_anyone.errors import InputError
from animate_anyone.media import write_picture
from animate_anyone.web.limits import Limits
from animate_anyone.web.work import do

MEMORY = 2 << 30
USED = ("more_data.png", "text.png")  # what is asked for is a small picture, and the rest is not read
KINDS = {"picture": ("plan", "poses"), "video": ("plan", "frame", "poses", "understand")}


def answer(connection: Connection) -> None:
    """Do the jobs that come, with no more than ``MEMORY`` beside what the process has; send what came of each."""
    import animate_anyone.workflows.animate  # noqa: F401

    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    while job := json.loads(connection.recv_bytes()):
        try:
            do(job, lambda said: None)
            told = ["used", ""]
        except InputError as error:
            told = ["refused", str(error)]
        except BaseException as error:
            told = [type(error).__name__, str(error)]
        connection.send_bytes(json.dumps(told).encode())


@pytest.fixture(scope="module")
def ask() -> Any:
    """Gives a job to a process of its own; what came of it."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is bounded where there is /proc")
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=answer, args=(there,), daemon=True)
    process.start()
    there.close()

    def asked(job: dict[str, Any]) -> list[str]:
        here.send_bytes(json.dumps(job).encode())
        return list(json.loads(here.recv_bytes()))

    yield asked
    here.send_bytes(b"null")
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("name", [*PICTURE_BOMBS, *VIDEO_BOMBS])
def test_it_is_used_or_refused_in_one_line(ask: Any, dancers: Path, tmp_path: Path, name: str) -> None:
    made = tmp_path / name
    kind = "picture" if name in PICTURE_BOMBS else "video"
    {**PICTURE_BOMBS, **VIDEO_BOMBS}[name](made)
    assert made.stat().st_size < 15_000_000
    shutil.copy(dancers / "me.png", tmp_path / "character.png")
    shutil.copy(dancers / "dance.npz", tmp_path / "video.npz")
    files = (
        {"character": name, "video": "video.npz"}
        if kind == "picture"
        else {"character": "character.png", "video": name}
    )
    job = {"verb": "animate", "settings": {}, "folder": str(tmp_path), "limits": asdict(Limits()), "frame": 0, **files}
    before = sorted(path.name for path in tmp_path.iterdir())
    for what in KINDS[kind]:
        looked_at = {"video": name, "is_picture": True} if (kind, what) == ("picture", "poses") else {}
        result, line = ask(job | {"kind": what} | looked_at)
        used = what == "plan" and name in USED
        assert result == ("used" if used else "refused"), (what, line)
        assert "\n" not in line and (used or line.startswith(name)), line
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "tmp") == before


def test_a_picture_at_the_limit_is_taken(ask: Any, dancers: Path, tmp_path: Path) -> None:
    """48 megapixels, within the same bound of memory."""
    import numpy as np

    write_picture(tmp_path / "large.png", np.zeros((6000, 8000, 3), np.uint8))
    shutil.copy(dancers / "dance.npz", tmp_path / "video.npz")
    job = {"verb": "animate", "settings": {}, "folder": str(tmp_path), "limits": asdict(Limits())}
    assert ask(job | {"kind": "plan", "character": "large.png", "video": "video.npz"})[0] == "used"
