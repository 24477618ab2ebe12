"""A long scene in segments that go on from each other: the person in each segment, and flicker where they meet.

python benchmarks/continuation.py --model FOLDER                   a model trained on frames before its clips
python benchmarks/continuation.py --model FOLDER --scenes 8        more scenes of the suite

Scenes of the suite of Animate Anyone 2, that no model has been trained on, 96 frames each, are made in segments of 16:
shown the last frames made (the temporal reference), shown nothing, and by temporal aggregation. Each scene is made
forwards and backwards: some of its segments are harder than others, and so the first and the last show the same frames.
Mistakes that add up show as a last segment that is worse than the first, seams as flicker there beside that of other
frames (``evaluation.flicker.seam_flicker``: 1 where they do not show).
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from machine import add_output, describe, table, write

from animate_anyone.errors import InputError
from animate_anyone.evaluation.environment_suite import MOST, SuiteScene, put_back
from animate_anyone.evaluation.flicker import seam_flicker
from animate_anyone.evaluation.image_metrics import psnr_masked
from animate_anyone.sampling.continuation import frames_before, segments
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.structures import Picture

FRAMES, SEGMENT = 96, 16


def ways(pipeline: AnimateAnyone2Pipeline, steps: int, length: int) -> dict[str, dict[str, Any]]:
    """How a model can make a long clip: name -> options of its call."""
    trained, alone = frames_before(pipeline.denoising_unet), {"window": length, "overlap": 0}
    overlap = min(4, length - 1)
    found: dict[str, dict[str, Any]] = {}
    if trained:
        found[f"segments, shown the last {trained} frames"] = {"window": length, "continuation": trained}
    elif steps > 1:
        found[f"segments, {overlap} frames overwritten"] = {"window": length, "continuation": overlap}
    return found | {
        "segments, shown nothing": alone,
        f"windows, overlap {overlap}": {"window": length, "overlap": overlap},
    }


def person_by_segment(made: Picture, scene: SuiteScene, length: int) -> list[float]:
    """PSNR of the person in each segment, dB, mean over the frames that show it; not a number where none does."""
    masks = scene.where()["person"]
    found = []
    for segment in segments(len(made), length):
        seen = [n for n in segment if masks[n].any()]
        figures = [min(psnr_masked(made[n], scene.frames[n], masks[n]), MOST) for n in seen]
        found.append(float(np.mean(figures)) if figures else float("nan"))
    return found


def measure(made: list[Picture], scenes: list[SuiteScene], length: int, plan: list[list[int]]) -> list[str]:
    """A row's cells: the person in each segment, the last less the first, flicker at seams, elsewhere, their ratio."""
    person = np.nanmean([person_by_segment(*pair, length) for pair in zip(made, scenes, strict=True)], axis=0)
    flickers = [
        seam_flicker(frames, scene.frames, scene.where()["person"], plan)
        for frames, scene in zip(made, scenes, strict=True)
    ]
    cells = [f"{value:.2f}" for value in (*person, person[-1] - person[0])]
    for name in ("at_seams", "elsewhere", "seam_ratio"):
        values = [value for one in flickers if (value := one[name]) is not None]
        cells.append(f"{np.mean(values):.2f}" if values else "")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="puppet-environment", help="a model of Animate Anyone 2")
    parser.add_argument("--scenes", type=int, default=4, help="of the suite, from the first on")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--segment", type=int, default=SEGMENT, help="frames of a segment")
    parser.add_argument("--steps", type=int, help="default: the model's own")
    parser.add_argument("--guidance", type=float, help="default: the model's own")
    parser.add_argument("--device", default="auto")
    add_output(parser, "continuation.md")
    given = parser.parse_args()
    pipeline = load_pipeline(given.model, given.device)
    if not isinstance(pipeline, AnimateAnyone2Pipeline):
        raise InputError(f"{given.model}: is a model of Animate Anyone; give one of Animate Anyone 2")
    pipeline.set_progress_bar_config(disable=True)
    width, height = pipeline.config["size"]
    formulation, steps = pipeline.config["formulation"], given.steps or pipeline.config["num_inference_steps"]
    scenes = [
        SuiteScene.of(number, (width, height), formulation, given.frames, backwards=backwards)
        for number in range(given.scenes)
        for backwards in (False, True)
    ]
    rows = []
    for name, options in ways(pipeline, steps, given.segment).items():
        call = {"steps": steps, "guidance": given.guidance, **options}
        # Both directions of a scene begin with the same noise.
        made = [put_back(pipeline, scene, seed=number // 2, **call) for number, scene in enumerate(scenes)]
        planned = pipeline.plan(given.frames, steps, given.guidance, **options)
        rows.append([name, *measure(made, scenes, given.segment, planned)])
        print(*rows[-1], sep=" | ", flush=True)
    pieces = segments(given.frames, given.segment)
    titles = ["made in", *(f"{one[0]}-{one[-1]}" for one in pieces), "last less first"]
    titles += ["flicker at seams", "elsewhere", "ratio"]
    write(
        given.output,
        "Continuation",
        f"`{given.model}`, {steps} step{'s' * (steps > 1)}, {given.scenes} scene{'s' * (given.scenes > 1)} of "
        f"{given.frames} frames of "
        f"{width}x{height}, forwards and backwards, in segments of {given.segment}. "
        "PSNR of the person, dB, by the frames of each segment; "
        "flicker of the person, 8-bit units; the ratio is of flicker at the seams to what is expected there of the "
        "movement, 1 where seams do not show.",
        table(titles, rows),
        describe(),
    )


if __name__ == "__main__":
    main()
