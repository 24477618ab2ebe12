"""benchmarks/gpu.py at tiny size on the CPU: all parts run, the time is kept, one failure does not end the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from conftest import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"
NOT_THERE = ("av", "typer", "mediapipe", "cv2", "rich", "rtmlib")


@pytest.fixture
def gpu(load_benchmark: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/gpu.py; packages that a GPU machine may not have cannot be imported."""
    for name in NOT_THERE:
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    return load_benchmark("gpu")


@pytest.fixture
def machine(gpu: ModuleType) -> Any:
    from gpu_parts.measure import Machine

    return Machine(torch.device("cpu"), tiny=True)


def run(parts: list[Any], file: Path, now: list[float], seconds: float) -> list[str]:
    """The lines of a report, measured by a clock that stands unless a unit moves it."""
    from gpu_parts.report import Clock, Report
    from gpu_parts.report import run as run_parts

    clock = Clock(seconds, now=lambda: now[0])
    run_parts(parts, Report(file, lambda _: None), clock)
    return file.read_text().splitlines()


def test_the_time_is_kept(gpu: ModuleType, tmp_path: Path) -> None:
    """What does not fit any more is skipped with a line, and what is shorter is measured all the same."""
    from gpu_parts.report import Part, Unit

    now = [100.0]

    def unit(name: str, expected: float, takes: float) -> Unit:
        def rows() -> Iterator[list[str]]:
            now[0] += takes
            yield [name, "measured"]

        return Unit(name, expected, rows)

    units = [unit("first", 5, 6), unit("too long", 5, 5), unit("short", 3, 3)]
    lines = run(
        [Part("A", "What.", ["of", "figure"], units), Part("B", "Else.", ["of", "figure"], [unit("b", 1.5, 9)])],
        tmp_path / "out.md",
        now,
        10,
    )
    assert [line for line in lines if line.startswith("| ")] == [
        "| of | figure |",
        "| --- | ---: |",
        "| first | measured |",
        "| too long | skipped: about 5 s, and 4 s are left |",
        "| short | measured |",
        "| of | figure |",
        "| --- | ---: |",
        "| b | skipped: about 2 s, and 1 s are left |",
    ]


def test_what_comes_first_does_not_starve_what_follows(gpu: ModuleType, tmp_path: Path) -> None:
    """A part with a share of the time stops at it; the next has what is left."""
    from gpu_parts.report import Part, Unit

    now = [0.0]

    def slow() -> Iterator[list[str]]:
        now[0] += 25
        yield ["slow", "measured"]

    def quick() -> Iterator[list[str]]:
        now[0] += 5
        yield ["quick", "measured"]

    first = Part("A", "What.", ["of", "figure"], [Unit("slow", 20, slow), Unit("again", 20, slow)], share=0.3)
    lines = run([first, Part("B", "Else.", ["of", "figure"], [Unit("quick", 5, quick)])], tmp_path / "out.md", now, 100)
    assert [line for line in lines if line.startswith("| ") and "---" not in line and "figure" not in line] == [
        "| slow | measured |",
        "| again | skipped: about 20 s, and 5 s are left |",
        "| quick | measured |",
    ]


def test_a_failure_is_told_and_the_next_goes_on(gpu: ModuleType, tmp_path: Path) -> None:
    """Rows that were there before stay; so they do where the timer rings in the midst of a unit."""
    from gpu_parts.report import Part, Unit

    def out_of_memory() -> Iterator[list[str]]:
        yield ["first half", "measured"]
        raise torch.OutOfMemoryError("Tried to allocate\n 9 GiB | of 8")

    def too_long() -> Iterator[list[str]]:
        yield ["long", "measured"]
        signal.raise_signal(signal.SIGALRM)
        yield ["never", "reached"]

    def fine() -> Iterator[list[str]]:
        yield ["fine", "measured"]

    units = [Unit("memory", 1, out_of_memory), Unit("long", 1, too_long), Unit("fine", 1, fine)]
    lines = run([Part("A", "What.", ["of", "figure"], units)], tmp_path / "out.md", [0.0], 1000)
    assert [line for line in lines if line.startswith("| ")][2:] == [
        "| first half | measured |",
        "| memory | failed: OutOfMemoryError: Tried to allocate 9 GiB / of 8 |",
        "| long | measured |",
        "| long | cut off: its time is over |",
        "| fine | measured |",
    ]


def test_the_report_is_whole_at_every_moment(gpu: ModuleType, tmp_path: Path) -> None:
    from gpu_parts.report import Report

    report = Report(tmp_path / "new" / "out.md", lambda _: None)
    for number, text in enumerate(("one", "two", "three")):
        report.add(text)
        assert report.file.read_text().split() == ["one", "two", "three"][: number + 1]
        assert list(report.file.parent.iterdir()) == [report.file]


def test_operations_count_attention_forward_and_backward(gpu: ModuleType) -> None:
    from gpu_parts.measure import operations, operations_of_attention

    counted, least = operations_of_attention(torch.device("cpu"), torch.float32)
    assert least <= counted <= 2 * least
    a = torch.ones(3, 5)
    assert operations(lambda: a @ a.T) == 2 * 3 * 5 * 3


def test_a_difference_of_frames(gpu: ModuleType) -> None:
    from gpu_parts.frames import compare

    want = np.zeros((1, 2, 2, 3), np.uint8)
    got = want.copy()
    got[0, 0, 0] = (255, 1, 0)
    assert compare(got, want) == ["255", "21.3333", "8.333%", "10.8"]
    assert compare(want, want)[-1] == "inf"


@pytest.mark.parametrize("name", ["aa1_stage1", "aa1_stage2", "aa2"])
def test_made_batches_are_as_the_stage_makes_them(gpu: ModuleType, name: str) -> None:
    """Names, shapes and types."""
    from gpu_parts.training import build, made_batch

    stage, recipe = build(name, torch.device("cpu"), narrow=True, frames=2)
    assert recipe.data.size == 64
    made, real = made_batch(stage, 1, stage.targets, torch.device("cpu")), stage.batch(0, 0, 64)
    assert {k: (v.shape, v.dtype) for k, v in made.tensors().items()} == {
        k: (v.shape, v.dtype) for k, v in real.tensors().items()
    }


def test_what_runs_out_of_memory_is_tried_with_less(
    gpu: ModuleType, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpu_parts import training

    right, calls = training.operations, []

    def short_of_memory(call: Any) -> int:
        calls.append(call)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return right(call)

    monkeypatch.setattr(training, "operations", short_of_memory)
    first, second = training.rows(machine, "aa1_stage2")
    assert first[:2] == ["aa1_stage2, 1 x 4, 64x64", "does not fit: OutOfMemoryError: CUDA out of memory"]
    assert second[0] == "aa1_stage2, 1 x 4, 64x64, recomputed"
    assert float(second[1]) > 0


def test_the_whole_runs_on_the_cpu(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part has figures; nothing fails, nothing is skipped."""
    output = tmp_path / "gpu.md"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--minutes", "60", "--device", "cpu", "--output", str(output)])
    gpu.main()
    text = output.read_text()
    for word in ("failed", "skipped", "cut off", "does not fit", "**no**"):
        assert word not in text, text
    assert text.count("\n## ") == 10
    assert "no figures of full size" in text
    assert text.splitlines()[-1].startswith("The run came to its end after ")
    for name in ("puppet, cpu", "puppet-environment, cpu", "aa1_stage1", "aa1_stage2", "aa2"):
        assert name in text
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.endswith("| yes |")]
    errors = {
        kind: [float(error) for name, error, *_ in cells if name.startswith(f"{kind}, ")]
        for kind in ("float32", "float16", "bfloat16")
    }
    assert len(errors["float32"]) > 5
    assert max(errors["float32"]) < max(errors["float16"]) < max(errors["bfloat16"])


def test_it_starts_without_packages_that_a_gpu_machine_may_lack(tmp_path: Path) -> None:
    """In a process of its own, from the source tree; without time all units are skipped, and the report says so."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({NOT_THERE}))"
    code = f"{blocked}; import runpy; runpy.run_path({str(BENCHMARKS / 'gpu.py')!r}, run_name='__main__')"
    output = tmp_path / "gpu.md"
    runs = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); {code}"]
    options = ["--minutes", "0.01", "--device", "cpu", "--output", str(output)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    subprocess.run([*runs, *options], check=True, env=environment, stdout=subprocess.DEVNULL)
    text = output.read_text()
    assert text.count("skipped") > 10
    assert "failed" not in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_make_bench_measures_nothing_without_a_gpu(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "gpu.md"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--only-on-gpu", "--output", str(output)])
    gpu.main()
    assert capsys.readouterr().out.startswith("no GPU here")
    assert not output.exists()
