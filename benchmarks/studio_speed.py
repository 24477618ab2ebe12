"""How fast the puppet studio renders: clips with all ground truth, frames per second.

python benchmarks/studio_speed.py [--threads 1] [--clips 8] [--device cpu]
"""

from __future__ import annotations

import argparse
import time

import torch

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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for side in (128, 256):
        for frames in (2, 24):
            seconds = measure(side, frames, asked.clips, asked.device)
            print(
                f"{side}x{side}, {frames:2d} frames a clip: {seconds * 1e3:.1f} ms a frame, {1 / seconds:.1f} a second"
            )


if __name__ == "__main__":
    main()
