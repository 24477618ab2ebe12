"""How long drawing a skeleton takes, beside writing the same picture into a video.

python benchmarks/draw_speed.py [--size 256 512 1024] [--frames 48]

Both are timed in one process, so that their ratio says the same on slow and fast machines: below 1, drawing is not
what a video waits for. Body, hands and face; the best of five rounds, for other work may be going on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from machine import add_output, describe, table, write

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.media import VideoWriter
from animate_anyone.structures import PoseSequence
from animate_anyone.synthetic.dataset import sample_clip

STYLE = "scaled"
ROUNDS = 5


def best(act: Callable[[], object]) -> float:
    """Seconds of wall time that ``act`` takes at best."""
    took = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        act()
        took.append(time.perf_counter() - start)
    return min(took)


def measure(pose: PoseSequence, side: int) -> tuple[float, float]:
    """Seconds per frame of drawing at ``side`` x ``side``, and of encoding the drawings."""
    size = (side, side)
    drawn = draw_pose(pose, size, style=STYLE)

    def encode() -> None:
        with tempfile.TemporaryDirectory() as folder, VideoWriter(Path(folder) / "drawn.mp4", size, pose.fps) as video:
            for frame in drawn:
                video.write(frame)

    return best(lambda: draw_pose(pose, size, style=STYLE)) / len(pose), best(encode) / len(pose)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--frames", type=int, default=48)
    add_output(parser, "draw.md")
    asked = parser.parse_args()
    pose = sample_clip(0, num_frames=asked.frames, size=(128, 128), fps=Fraction(24), motion="dance").pose
    rows = []
    for side in asked.size:
        drawing, encoding = measure(pose, side)
        rows.append([f"{side}x{side}", f"{drawing * 1e3:.1f}", f"{encoding * 1e3:.1f}", f"{drawing / encoding:.2f}"])
    write(
        asked.output,
        "The speed of drawing skeletons",
        f"Style {STYLE}, {asked.frames} frames, the best of {ROUNDS} rounds each.",
        table(["size", "drawing, ms a frame", "writing the video, ms a frame", "ratio"], rows),
        f"Machine: {describe()}.",
    )


if __name__ == "__main__":
    main()
