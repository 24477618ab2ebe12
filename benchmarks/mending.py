"""How much of what the networks change is taken into the first guess: each share by itself, and what it does.

python benchmarks/mending.py                               puppet, at the networks' size
python benchmarks/mending.py --side 256                    on pictures twice as large
python benchmarks/mending.py --model puppet-environment    in scenes

Characters that no model was trained on and that the suites do not have, so that what is chosen here is not chosen by
the suites' figures. The networks' frames are made once and mended with each :class:`Trust`: the shipped one, and with
one of its fields changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from machine import add_output, describe, table, write
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.evaluation import environment_suite, suites
from animate_anyone.evaluation.identity import head_descriptors, identity
from animate_anyone.evaluation.image_metrics import psnr, psnr_masked, ssim_masked
from animate_anyone.evaluation.part_colour import colour_error
from animate_anyone.first_guess.frames import GuessedFrames, ScaledPictures, mended
from animate_anyone.first_guess.mending import TRUST, Trust
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.structures import Mask, Picture, Size

FIRST = 100
"""The first character: the suites have those before."""
OTHERS: dict[str, tuple[float, ...]] = {
    "body": (0.4, 0.6, 1.0),
    "head": (0.0, 0.4, 0.8),
    "coarse": (1.0, 4.0, 1000.0),
    "reach": (0.5, 4.0, 1000.0),
}
TITLES = ["person PSNR, dB", "frame PSNR, dB", "person SSIM", "identity", "colour dE"]


class Clip(NamedTuple):
    """A clip as the networks made it, beside its truth: arrays ``(frames, H, W, ...)``, ``made`` on their grid."""

    guess: GuessedFrames
    made: Picture
    grid: Size
    truth: Picture
    person: Mask
    labels: NDArray[np.uint8]


def make_clip(pipeline: AnimateAnyonePipeline, number: int, side: int | None) -> Clip:
    grid = tuple(pipeline.config["size"])
    size = grid if side is None else (side, side)
    if isinstance(pipeline, AnimateAnyone2Pipeline):
        if side is not None:
            raise InputError("--side: scenes are made at the networks' size; leave it out")
        scene = environment_suite.SuiteScene.of(number, size, pipeline.config["formulation"])
        guess = environment_suite.first_guess(scene)
        made = environment_suite.network_frames(pipeline, scene, guess, seed=number)
        person, labels = (plane.cpu().numpy() for plane in (scene.truth.mask, scene.truth.labels))
        return Clip(guess, made, size, scene.frames, person, labels)
    style = pipeline.config["skeleton_style"]
    clip = suites.puppet_clip(number, size, pipeline.pose_picture_size(grid), style)
    made = suites.network_frames(pipeline, clip, grid=grid)
    return Clip(clip.carried, made, grid, clip.frames, clip.masks, clip.labels)


def figures(frames: Picture, clip: Clip) -> list[float]:
    """As ``TITLES``, means over the frames that show the person."""
    pairs = [pair for pair in zip(frames, clip.truth, clip.person, strict=True) if pair[2].any()]
    heads, wanted = (head_descriptors(pictures, clip.labels) for pictures in (frames, clip.truth))
    alike = identity(heads, [wanted], 0)["identity"]
    colour = colour_error(frames, clip.truth, clip.labels)["all"]
    return [
        float(np.mean([psnr_masked(*pair) for pair in pairs])) if pairs else np.nan,
        float(np.mean([psnr(a, b) for a, b in zip(frames, clip.truth, strict=True)])),
        float(np.mean([ssim_masked(*pair) for pair in pairs])) if pairs else np.nan,
        *(np.nan if figure is None else figure for figure in (alike, colour)),
    ]


def ways() -> Iterator[tuple[str, Trust]]:
    """What is tried, by name."""
    yield "as shipped", TRUST
    for field, values in OTHERS.items():
        for value in values:
            yield f"{field} {value:g}", TRUST._replace(**{field: value})


def measure(clip: Clip) -> dict[str, list[float]]:
    """A row's figures for every way."""
    small = ScaledPictures(clip.guess, clip.grid)
    return {"first guess": figures(np.stack(list(clip.guess)), clip)} | {
        name: figures(np.stack(list(mended(clip.guess, small, clip.made, trust))), clip) for name, trust in ways()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="puppet", help="a model with a first guess: a shipped one's name, or a folder"
    )
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--side", type=int, help="of the pictures, pixels; default: as the networks'")
    parser.add_argument("--device", default="auto")
    add_output(parser, "mending.md")
    given = parser.parse_args()
    pipeline: Any = load_pipeline(given.model, given.device)
    pipeline.set_progress_bar_config(disable=True)
    found: dict[str, list[list[float]]] = {}
    for number in range(FIRST, FIRST + given.clips):
        for name, row in measure(make_clip(pipeline, number, given.side)).items():
            found.setdefault(name, []).append(row)
        print(number, flush=True)
    rows = [
        [name, *(f"{value:.{digits}f}" for value, digits in zip(np.nanmean(each, 0), (2, 2, 4, 3, 2), strict=True))]
        for name, each in found.items()
    ]
    grid = "x".join(str(side) for side in pipeline.config["size"])
    size = grid if given.side is None else f"{given.side}x{given.side}"
    write(
        given.output,
        "Mending",
        f"`{given.model}`, {given.clips} clips of characters from {FIRST} on, {size}, networks at {grid}. Shipped: "
        + ", ".join(f"{name} {value:g}" for name, value in TRUST._asdict().items())
        + ". The other rows change one of these.",
        table(["", *TITLES], rows),
        describe(),
    )


if __name__ == "__main__":
    main()
