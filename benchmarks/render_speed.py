"""How fast training clips are rendered by several processes, on the CPU or a GPU: clips and frames per second.

python benchmarks/render_speed.py [--device cpu --device cuda] [--workers 4 --workers 16] [--seconds 10]

Each row renders for about so many seconds, with all that training keeps of a clip; starting the processes is left out.
"""

from __future__ import annotations

import argparse
import time

import torch
from machine import add_output, describe, table, write

from animate_anyone.training.clip_cache import Render
from animate_anyone.training.clips import render_clip, render_scene
from animate_anyone.training.config import Data
from animate_anyone.training.render_pool import RenderPool

KINDS: dict[str, tuple[Render, Data]] = {
    "6 frames": (render_clip, Data(size=128)),
    "6 frames, wide": (render_clip, Data(size=128, domain="wide")),
    "24 in a row": (render_clip, Data(size=128, frames_per_clip=24, consecutive=True)),
    "scene, 6 frames": (render_scene, Data(size=128)),
}


def measure(pool: RenderPool, kind: str, device: str, workers: int, seconds: float) -> float:
    """Clips per second; the first round, which loads code and the GPU's kernels, does not count."""
    render, data = KINDS[kind]

    def rendered(first: int, count: int) -> float:
        began = time.perf_counter()
        for _ in pool.each(render, [(data, number, device) for number in range(first, first + count)], in_order=False):
            pass
        return count / (time.perf_counter() - began)

    rendered(0, 2 * workers)
    rate = rendered(1000, 2 * workers)
    return rendered(2000, max(2 * workers, int(rate * seconds)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", action="append")
    parser.add_argument("--workers", action="append", type=int)
    parser.add_argument("--seconds", type=float, default=10.0)
    add_output(parser, "render_speed.md")
    asked = parser.parse_args()
    devices = asked.device or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows = []
    for device in devices:
        for workers in asked.workers or [4, 16]:
            with RenderPool(workers) as pool:
                for kind in KINDS:
                    rate = measure(pool, kind, device, workers, asked.seconds)
                    frames = rate * KINDS[kind][1].frames_per_clip
                    rows.append([device, str(workers), kind, f"{rate:.1f}", f"{frames:.0f}"])
                    print(*rows[-1], flush=True)
    write(
        asked.output,
        "How fast training clips are rendered",
        "128x128, supersampling 2, with masks, pose pictures and joints (scenes: environment, objects, keypoints).",
        table(["device", "processes", "clips", "clips a second", "frames a second"], rows),
        f"Machine: {describe()}.",
    )


if __name__ == "__main__":
    main()
