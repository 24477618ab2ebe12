"""What animating costs as the user has it: whole processes, from the command line to the finished file.

python benchmarks/animate.py [--runs 3] [--model puppet]

Wall time, and the processor time and peak memory that the system accounts to the finished child, as
``/usr/bin/time -v`` does. The system counts what the parent holds at the fork as the child's, so this process
stays small: it imports neither torch nor the package.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from machine import add_output, describe, table, write

MAX_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of ru_maxrss
CHARACTER, DANCE, FRAMES = 3, 11, 48  # what `animate-anyone demo` takes
# The pose that the demo knows of its character, for `animate` to be told it too.
POSE = """
import sys
from animate_anyone.synthetic.dataset import sample_clip
clip = sample_clip({seed}, split="held_out", num_frames={frames}, size=(256, 256), frame_indices=[0])
clip.pose.save(sys.argv[1])
"""


@dataclass(frozen=True)
class Cost:
    """What one process cost: seconds of wall and processor time, bytes of memory at its peak, and what it said."""

    wall: float
    processor: float
    peak: int
    told: list[str]


def run(arguments: list[str]) -> Cost:
    """Run ``animate-anyone`` in a process of its own. Ends this one where it fails."""
    command = [sys.executable, "-m", "animate_anyone.cli.main", *arguments]
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert child.stdout is not None
    told = child.stdout.read().splitlines()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit("\n".join([f"{' '.join(command)}: status {child.returncode}", *told]))
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * MAX_RSS_UNIT, told)


def measure(model: str, runs: int, folder: Path) -> tuple[list[list[str]], list[str]]:
    """The table's rows, and what ``animate`` said of its own parts in its last run."""
    pose = folder / "pose.npz"
    program = POSE.format(seed=CHARACTER, frames=FRAMES)
    subprocess.run([sys.executable, "-c", program, str(pose)], check=True)
    demo = ["demo", "-o", str(folder / "demo.mp4"), "--frames", str(FRAMES)]
    demo += ["--seed", str(CHARACTER), "--driver-seed", str(DANCE)]
    animate = ["animate", str(folder / "character.png"), "--driving", str(folder / "dance.npz"), "--model", model]
    animate += ["-o", str(folder / "out.mp4"), "--character-pose", str(pose)]
    rows, told = [], []
    for name, arguments in (
        ("start (`--help`)", ["--help"]),
        ("`demo`: render, animate, write", demo),  # writes what `animate` takes
        ("`animate`: the same, from files", animate),
    ):
        costs = [run(arguments) for _ in range(runs)]
        rows.append(
            [
                name,
                f"{statistics.median(cost.wall for cost in costs):.1f}",
                f"{statistics.median(cost.processor for cost in costs):.1f}",
                f"{max(cost.peak for cost in costs) / 2**20:.0f}",
            ]
        )
        told = costs[-1].told
    return rows, told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="of each; times are medians, memory the most")
    parser.add_argument("--model", default="puppet", help="of `animate`; `demo` takes the shipped one")
    add_output(parser, "animate.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, told = measure(asked.model, asked.runs, Path(folder))
    write(
        asked.output,
        "Animating, as whole processes",
        f"Model `{asked.model}`, {FRAMES} frames at the model's size, 20 steps; {asked.runs} runs each, median of the "
        "times, most of the memory.",
        table(["process", "wall time, s", "processor time, s", "peak memory, MiB"], rows),
        f"What `animate` says of its last run: {told[-1]}.",
        f"Machine: {describe()}.",
    )


if __name__ == "__main__":
    main()
