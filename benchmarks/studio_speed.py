"""How fast the puppet studio renders: clips with all ground truth, frames per second.

python benchmarks/studio_speed.py [--threads 1] [--clips 8] [--device cpu]

Seconds are wall time in this process, imports and one clip to warm up left out.
"""

from __future__ import annotations

import argparse
import time

import torch
from machine import add_output, describe, table, write

from animate_anyone.synthetic.dataset import sample_clip


def measure(side: int, frames: int, clips: int, device: str) -> float:
    """Seconds per frame over ``clips`` clips of ``frames`` frames of ``side`` x ``side``, supersample 2."""
    chosen = list(range(0, 24, 24 // frames))[:frames]
    sample_clip(0, size=(side, side), frame_indices=chosen, device=device)
    start = time.perf_counter()
    for seed in range(1, clips + 1):
        sample_clip(seed, size=(side, side), frame_indices=chosen, device=device)
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / (clips * frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    add_output(parser, "studio.md")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    rows = []
    for side in (128, 256):
        for frames in (2, 24):
            seconds = measure(side, frames, asked.clips, asked.device)
            rows.append([f"{side}x{side}", str(frames), f"{seconds * 1e3:.1f}", f"{1 / seconds:.1f}"])
    where = torch.cuda.get_device_name(asked.device) if asked.device.startswith("cuda") else f"threads: {asked.threads}"
    write(
        asked.output,
        "The studio's speed",
        f"Clips with all their ground truth, supersampling 2; {asked.clips} clips each, on {asked.device} ({where}).",
        table(["size", "frames a clip", "ms a frame", "frames a second"], rows),
        f"Machine: {describe()}.",
    )


if __name__ == "__main__":
    main()
