"""On what it was measured: one line for every result, and the file that the result goes into.

python benchmarks/machine.py

PyTorch is not imported here: a process that measures others must be small (see animate.py).
"""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


def describe() -> str:
    """Processor, cores that may be used, memory, system and the versions that matter, in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    parts = [
        f"{_processor()}, {cores} cores",
        f"OMP_NUM_THREADS {threads}",
        *_memory(),
        f"{platform.system()} {platform.machine()}",
        versions(),
    ]
    return "; ".join(parts)


def versions() -> str:
    """The versions that matter."""
    packages = (f"{package} {_version(package)}" for package in ("torch", "diffusers", "animate-anyone"))
    return "; ".join((f"Python {platform.python_version()}", *packages))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(version not known)"  # run from a source tree


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> list[str]:
    try:
        return [f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB of memory"]
    except (AttributeError, ValueError, OSError):
        return []


def table(titles: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is left-aligned, the others right."""
    marks = ["---", *["---:"] * (len(titles) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (titles, marks, *rows))


def add_output(parser: argparse.ArgumentParser, name: str) -> None:
    """The option that says where the result goes; by default ``results/name``."""
    parser.add_argument("--output", type=Path, default=RESULTS / name, help="Markdown file to write")


def write(file: Path, title: str, *paragraphs: str) -> None:
    """Print a result and write it; the last paragraph says on what it was measured."""
    text = "\n\n".join((f"# {title}", *paragraphs)) + "\n"
    print(text)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


if __name__ == "__main__":
    print(describe())
