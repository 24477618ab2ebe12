"""Several processes of one training run on this machine, as torchrun starts them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState

import forked
from conftest import REPOSITORY


def start_all(count: int, work: Callable[..., None], *given: Any) -> int:
    """``work(rank, *given)`` in so many processes, until they end; the largest exit status."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Forked where that is possible: everything is imported.
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("fork" if "fork" in methods else "spawn")
    started = [context.Process(target=_begin, args=(rank, count, port, work, *given)) for rank in range(count)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    return max(abs(process.exitcode or 0) for process in started)


def _begin(rank: int, count: int, port: int, work: Callable[..., None], *given: Any) -> None:
    torch.set_num_threads(1)
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ |= {name: str(number) for name, number in numbers.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true"}
    AcceleratorState._reset_state(reset_partial_state=True)  # that of the tests, a run of one process
    work(rank, *given)


def run_module(name: str, folder: Path, *given: Any) -> None:
    """Call ``main(*given)`` of a module of this folder in a process of its own; it must end well.

    A fork of this process where that is possible.
    """
    done: forked.Forked | subprocess.Popen[str]
    if forked.TRAINS:

        def work() -> int:
            return int(__import__(name).main(*given))

        done = forked.Forked(work, folder)
    else:
        command = [sys.executable, str(Path(__file__).with_name(f"{name}.py")), *map(str, given)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY / "src")}
        done = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _, errors = done.communicate(timeout=1500)  # it hangs; slow machines take minutes
    assert done.returncode == 0, errors
