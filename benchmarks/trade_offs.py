"""What each trade-off of `--speed` gains and costs, beside the exact frames of the same model.

python benchmarks/trade_offs.py                                    the shipped model at 20 steps
python benchmarks/trade_offs.py --model FOLDER --student FOLDER    another, and what it was distilled into

Characters of the studio that no model has been trained on move by their own poses. Times are of the whole call (the
reference, all steps, decoding, mending), then of the denoising UNet alone. The model should sample in 20 steps
(recipes/puppet_steps.yaml): of one that needs no more than a few, fewer steps cost nothing, whatever makes them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from gpu_parts.measure import Machine
from machine import add_output, describe, table, write
from numpy.typing import NDArray

from animate_anyone.evaluation.image_metrics import psnr, psnr_masked
from animate_anyone.evaluation.suites import SuiteClip, animate_clip, puppet_clip
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.placement import choose_device
from animate_anyone.sampling.speed import Speed

COLUMNS = ["--speed", "steps", "s", "times as fast", "denoising, s", "times as fast", "from the exact frames, dB",
           "the person alone, dB", "person beside the truth, dB"]  # fmt: skip
SIDE = 128
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Made:
    """Frames of every clip, the seconds that they took, and those of the denoising UNet among them."""

    frames: list[Frames]
    seconds: float
    denoising: float


class Model:
    """A pipeline, and the seconds that its denoising UNet computes."""

    def __init__(self, pipeline: AnimateAnyonePipeline, machine: Machine) -> None:
        self.pipeline, self._machine = pipeline, machine
        self._denoising, self._since = 0.0, 0.0
        pipeline.denoising_unet.register_forward_pre_hook(lambda *_: self._begin())
        pipeline.denoising_unet.register_forward_hook(lambda *_: self._end())

    @classmethod
    def load(cls, name: str, machine: Machine) -> Model:
        """A shipped model's name or a folder."""
        pipeline: AnimateAnyonePipeline = load_pipeline(name, device=str(machine.device))
        pipeline.set_progress_bar_config(disable=True)
        return cls(pipeline, machine)

    def make(self, clips: list[SuiteClip], words: str, steps: int, guidance: float | None) -> Made:
        """All clips by some trade-offs."""
        call = partial(animate_clip, self.pipeline, grid=(SIDE, SIDE), guidance=guidance)
        call(clips[0], steps=1)  # what is slow once
        since, self._denoising = time.perf_counter(), 0.0
        frames = [call(clip, steps=steps, speed=Speed.of(words)) for clip in clips]
        return Made(frames, time.perf_counter() - since, self._denoising)

    def _begin(self) -> None:
        self._machine.wait()
        self._since = time.perf_counter()

    def _end(self) -> None:
        self._machine.wait()
        self._denoising += time.perf_counter() - self._since


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


def rows(model: Model, student: Model | None, clips: list[SuiteClip], steps: int, guidance: float) -> list[list[str]]:
    """Of every trade-off, and of a few-step student where there is one."""
    exact = model.make(clips, "exact", steps, guidance)
    words = ["guidance"] if guidance != 1 else []
    asks = [*words, "solver", "features", "reference", "solver,features", *(f"{w},solver,features" for w in words)]
    fewer = Speed.of("solver").steps(steps)
    trials = [("exact", model, "exact", steps), ("exact, in fewer steps", model, "exact", fewer)]
    trials += [(f"`{ask}`", model, ask, steps) for ask in (*asks, "all")]
    if student is not None:
        trials.append(("a student's own", student, "exact", student.pipeline.config["num_inference_steps"]))
    cells = []
    for name, by, ask, count in trials:
        made = exact if name == "exact" else by.make(clips, ask, count, guidance if by is model else None)
        frame, person, truth = distances(made, exact, clips)
        far = ["", ""] if made is exact else [f"{frame:.1f}", f"{person:.1f}"]
        times = [f"{made.seconds:.1f}", f"{exact.seconds / made.seconds:.2f}"]
        times += [f"{made.denoising:.1f}", f"{exact.denoising / made.denoising:.2f}"]
        cells.append([name, str(Speed.of(ask).steps(count)), *times, *far, f"{truth:.2f}"])
        print(*cells[-1], sep=" | ", flush=True)
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="puppet", help="a shipped model's name or a folder")
    parser.add_argument("--student", help="a folder: a few-step student of the model (recipes/puppet_distil.yaml)")
    parser.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda or cuda:N")
    parser.add_argument("--characters", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="of the exact frames")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0], help="scales; 1 turns it off")
    add_output(parser, "trade_offs.md")
    asked = parser.parse_args()
    machine = Machine(choose_device(asked.device), tiny=False)
    model = Model.load(asked.model, machine)
    student = None if asked.student is None else Model.load(asked.student, machine)
    drawn = model.pipeline.pose_picture_size((SIDE, SIDE)), model.pipeline.config["skeleton_style"]
    clips = [puppet_clip(seed, (SIDE, SIDE), *drawn) for seed in range(asked.characters)]
    text = []
    for guidance in asked.guidance:
        text += [f"## Guidance {guidance:g}", table(COLUMNS, rows(model, student, clips, asked.steps, guidance))]
    write(
        asked.output,
        "Trade-offs of --speed",
        f"`{Path(asked.model).name}`: {asked.characters} characters that it was not trained on, {len(clips[0].frames)} "
        f"frames of {SIDE}x{SIDE} each, {asked.steps} steps. Seconds of the whole call, then of the UNet alone. "
        "Distances are mean PSNR (99 at most).",
        *text,
        f"Machine: {describe()}.",
    )


if __name__ == "__main__":
    main()
