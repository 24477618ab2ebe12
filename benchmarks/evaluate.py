"""What measuring videos costs: whole processes of `animate-anyone evaluate --generated`, time and memory.

python benchmarks/evaluate.py [--videos 10] [--frames 100] [--runs 3]

PSNR, SSIM and L1 of videos of 256x256 pixels, generated and true in mp4. Memory is shown for a tenth of the videos
and for the same frames in one video too: it must not grow with either. No network's weights are needed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from animate import run
from machine import add_output, describe, table, write

SIDE, LIMIT = 256, 60.0
MAKE = """
import sys
from pathlib import Path
import numpy as np
from animate_anyone.media import VideoWriter
folder, videos, frames, side = Path(sys.argv[1]), *map(int, sys.argv[2:])
y, x = np.mgrid[0:side, 0:side] / side
for who, noise in (("generated", 12), ("truth", 0)):
    (folder / who).mkdir(parents=True)
    for video in range(videos):
        generator = np.random.default_rng(video)
        with VideoWriter(folder / who / f"{video:03}.mp4", (side, side), 24) as out:
            for frame in range(frames):
                waves = np.stack([np.sin(6 * (x + k * y) + video + frame / 10) for k in (1, 2, 3)], axis=-1)
                out.write(np.clip(127 + 90 * waves + generator.normal(0, noise, waves.shape), 0, 255).astype(np.uint8))
"""


def measure(folder: Path, videos: int, frames: int, runs: int) -> tuple[float, float, float]:
    """Median seconds of wall and processor time, and MiB at the peak, of measuring so many videos."""
    subprocess.run([sys.executable, "-c", MAKE, str(folder), str(videos), str(frames), str(SIDE)], check=True)
    command = ["evaluate", "--generated", str(folder / "generated"), "--truth", str(folder / "truth")]
    costs = [run([*command, "--metrics", "psnr,ssim,l1"]) for _ in range(runs)]
    wall, processor = (statistics.median(getattr(cost, kind) for cost in costs) for kind in ("wall", "processor"))
    return wall, processor, max(cost.peak for cost in costs) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=10)
    parser.add_argument("--frames", type=int, default=100, help="of each video")
    parser.add_argument("--runs", type=int, default=3, help="of each; times are medians, memory the most")
    add_output(parser, "evaluate.md")
    asked = parser.parse_args()
    cases = (
        (asked.videos, asked.frames),
        (max(1, asked.videos // 10), asked.frames),
        (1, asked.videos * asked.frames),
    )
    rows, times = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number, (videos, frames) in enumerate(cases):
            wall, processor, peak = measure(Path(folder) / str(number), videos, frames, asked.runs)
            times.append(wall)
            rows.append([f"{videos} of {frames} frames", f"{wall:.1f}", f"{processor:.1f}", f"{peak:.0f}"])
    write(
        asked.output,
        "Measuring videos",
        f"`evaluate --generated --truth --metrics psnr,ssim,l1`, {SIDE}x{SIDE} pixels, mp4 on both sides; {asked.runs} "
        "runs each, median of the times, most of the memory.",
        table(["videos", "wall time, s", "processor time, s", "peak memory, MiB"], rows),
        f"The bar: 10 videos of 100 frames in less than {LIMIT:.0f} s on two cores.",
        f"Machine: {describe()}.",
    )
    if (asked.videos, asked.frames) == (10, 100) and times[0] >= LIMIT:
        sys.exit(f"{times[0]:.1f} s: over the bar")


if __name__ == "__main__":
    main()
