"""What each trade-off of `--speed` gains and costs, beside the exact frames of the same model.

python benchmarks/trade_offs.py                                the shipped model at 20 steps
python benchmarks/trade_offs.py --model FOLDER --guidance 2    another

Characters of the studio that no model has been trained on move by their own poses. Times are of the whole call: the
reference, all steps, decoding. The model should sample in 20 steps (recipes/puppet_steps.yaml): of one that needs no
more than a few, fewer steps cost nothing, whatever makes them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from machine import add_output, describe, table, write
from numpy.typing import NDArray

from animate_anyone.evaluation.image_metrics import psnr, psnr_masked
from animate_anyone.evaluation.suites import SuiteClip, animate_clip, puppet_clip
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.placement import choose_device
from animate_anyone.sampling.speed import Speed

COLUMNS = ["--speed", "steps", "s", "times as fast", "from the exact frames, dB", "the person alone, dB",
           "person beside the truth, dB"]  # fmt: skip
SIDE = 128
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Made:
    """Frames of every clip, and the seconds that they took."""

    frames: list[Frames]
    seconds: float


def make(pipeline: AnimateAnyonePipeline, clips: list[SuiteClip], words: str, steps: int, guidance: float) -> Made:
    """All clips by some trade-offs."""
    since = time.perf_counter()
    call = partial(animate_clip, pipeline, grid=(SIDE, SIDE), steps=steps, guidance=guidance, speed=Speed.of(words))
    return Made([call(clip) for clip in clips], time.perf_counter() - since)


def distances(made: Made, exact: Made, clips: list[SuiteClip]) -> list[float]:
    """Mean PSNR over all frames: from the exact ones, from these on the person, from the truth on the person."""

    def mean(measure: Callable[[Frames, Frames, NDArray[np.bool_]], float], others: list[Frames]) -> float:
        found = [
            measure(one, other, mask)
            for frames, other_frames, clip in zip(made.frames, others, clips, strict=True)
            for one, other, mask in zip(frames, other_frames, clip.masks, strict=True)
            if mask.any()
        ]
        return float(np.mean(np.minimum(found, 99)))

    return [
        mean(lambda one, other, _: psnr(one, other), exact.frames),
        mean(psnr_masked, exact.frames),
        mean(psnr_masked, [clip.frames for clip in clips]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="puppet", help="a shipped model's name or a folder")
    parser.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda or cuda:N")
    parser.add_argument("--characters", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="of the exact frames")
    parser.add_argument("--guidance", type=float, default=2.0, help="1 turns it off, and what `guidance` would gain")
    add_output(parser, "trade_offs.md")
    asked = parser.parse_args()
    pipeline: AnimateAnyonePipeline = load_pipeline(asked.model, device=str(choose_device(asked.device)))
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline.pose_picture_size((SIDE, SIDE)), pipeline.config["skeleton_style"]
    clips = [puppet_clip(seed, (SIDE, SIDE), *drawn) for seed in range(asked.characters)]
    make(pipeline, clips[:1], "exact", 1, asked.guidance)  # what is slow once
    exact = make(pipeline, clips, "exact", asked.steps, asked.guidance)
    words = ["guidance"] if asked.guidance != 1 else []
    asks = [*words, "solver", "features", "reference", "solver,features", *(f"{w},solver,features" for w in words)]
    trials = [
        ("exact", "exact", asked.steps),
        ("exact, in fewer steps", "exact", Speed.of("solver").steps(asked.steps)),
    ]
    trials += [(f"`{ask}`", ask, asked.steps) for ask in (*asks, "all")]
    cells = []
    for name, ask, steps in trials:
        made = exact if name == "exact" else make(pipeline, clips, ask, steps, asked.guidance)
        frame, person, truth = distances(made, exact, clips)
        far = ["", ""] if made is exact else [f"{frame:.1f}", f"{person:.1f}"]
        times = f"{exact.seconds / made.seconds:.2f}"
        cells.append([name, str(Speed.of(ask).steps(steps)), f"{made.seconds:.1f}", times, *far, f"{truth:.2f}"])
        print(*cells[-1], sep=" | ", flush=True)
    write(
        asked.output,
        "Trade-offs of --speed",
        f"`{asked.model}`: {asked.characters} characters that it was not trained on, {len(clips[0].frames)} frames of "
        f"{SIDE}x{SIDE} each, {asked.steps} steps, guidance {asked.guidance:g}. The whole call is timed. Distances are "
        "mean PSNR (99 at most).",
        table(COLUMNS, cells),
        f"Machine: {describe()}.",
    )


if __name__ == "__main__":
    main()
