"""The ablation of Animate Anyone 2 at the smallest size: what is taken out of the environment, spatial blending, pose
modulation.

python benchmarks/environment_ablations.py                   train what is not trained, measure all, write the table
python benchmarks/environment_ablations.py --characters 6    a quicker look; --measure-only trains nothing

The variants are recipes/ablation_environment/*.yaml, which begin with the same autoencoder as those of ablations.py.
Report and contact sheet of each go into its recipe's output; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from ablations import REPOSITORY, best, comparison, figures, keep, options, ready
from machine import describe, write

from animate_anyone.conditions.environment import formulate
from animate_anyone.evaluation.environment_suite import MEASURES, SCENES, TITLES, SuiteScene, evaluate_environment
from animate_anyone.progress import SILENT, Progress, TerminalProgress
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.training.config import Recipe
from animate_anyone.training.recipe_file import load_recipe

RECIPES = REPOSITORY / "recipes" / "ablation_environment"
RUNS = Path("runs/ablations_environment")
METHOD, WITHOUT_BLENDING = "shape_agnostic", "without_blending"
# Recipe -> row.
ROWS = {
    METHOD: "the method",
    "box": "bounding box emptied",
    "exact": "exact mask emptied",
    WITHOUT_BLENDING: "without spatial blending",
    "without_modulation": "without pose modulation",
}


def measure(recipe: Recipe, characters: int, progress: Progress = SILENT) -> dict[str, Any]:
    """The report of suite puppet-environment on a recipe's result; kept with the contact sheet."""
    pipeline = load_pipeline(Path(recipe.output) / "model", "cpu", "float32")
    report, sheet = evaluate_environment(pipeline, characters=characters, progress=progress)
    keep(recipe, report, sheet)
    return report


def result_table(reports: dict[str, dict[str, Any]]) -> str:
    """dB in columns, variants in rows, the best of them bold; ``copy_source`` first, for every kind of region."""
    having = {row: reports[name] for name, row in ROWS.items() if name in reports}
    results = {row: figures(report, "model") for row, report in having.items()}
    # What is emptied decides what is left to copy.
    regions = {f"copy_source, {report['settings']['formulation']}": report for report in having.values()}
    baselines = {row: figures(report, "copy_source") for row, report in regions.items()}
    first = {m: best(results, m, higher=MEASURES) for m in MEASURES}
    return comparison(TITLES, baselines, results, first, digits=2)


def blending_gain(reports: dict[str, dict[str, Any]]) -> str:
    """By how much objects are better with spatial blending than without, and over which scenes."""
    if not {METHOD, WITHOUT_BLENDING} <= reports.keys():
        return "What objects gain from spatial blending is not said: that needs the method and the variant without it."
    scenes = list(zip(reports[METHOD]["scenes"], reports[WITHOUT_BLENDING]["scenes"], strict=True))

    def gains(measure: str) -> dict[int, float]:
        pairs = {a["seed"]: (a["model"][measure], b["model"][measure]) for a, b in scenes}
        return {seed: a - b for seed, (a, b) in pairs.items() if a is not None and b is not None}

    everywhere, inside = gains("objects"), gains("objects_inside")
    if not inside:
        return f"What objects gain from spatial blending is not said: the region hides none in {len(scenes)} scenes."
    return (
        f"Spatial blending (with the object guider, which goes with it) gives objects "
        f"{np.mean(list(inside.values())):+.2f} dB inside the region that was emptied, where the environment does not "
        f"show them: mean over the {len(inside)} of {len(scenes)} scenes that have such pixels (seeds "
        f"{', '.join(map(str, inside))}), better in {sum(gain > 0 for gain in inside.values())} of them. Over all "
        f"pixels of objects, also those that the environment shows: {np.mean(list(everywhere.values())):+.2f} dB, mean "
        f"over {len(everywhere)} scenes."
    )


def conditions(recipe: Recipe, report: dict[str, Any]) -> str:
    """Size, steps, seeds and suite, which all variants share."""
    size, settings = recipe.data.size, report["settings"]
    return (
        f"Each variant: {size}x{size} pixels, {recipe.steps} steps of {recipe.batch} clips with "
        f"{recipe.objective.targets_per_reference} target frames each, same seed ({recipe.seed}), same clips, same "
        f"start, {recipe.precision}: small enough for a CPU. Single frames, no temporal layers; no weights of "
        "Animate Anyone to begin with. Suite "
        f"puppet-environment: {settings['scenes']} held-out scenes of {settings['frames']} frames, "
        f"{settings['steps']} denoising steps, the same noise for every variant."
    )


def box_share(characters: int, size: tuple[int, int]) -> float:
    """In what share of the suite's frames at ``size`` (width, height) the shape-agnostic region is the bounding box."""
    boxes = [SuiteScene.of(seed, size, "box") for seed in range(characters)]
    same = [(formulate(scene.truth.mask.cpu().numpy()) == scene.region).all(axis=(1, 2)) for scene in boxes]
    return float(np.mean(same))


def left_out(reports: dict[str, dict[str, Any]]) -> list[str]:
    """A line about variants that are not trained; none where all are."""
    missing = [ROWS[name] for name in ROWS if name not in reports]
    return [f"**Not trained, left out:** {', '.join(missing)}."] if missing else []


def main() -> None:
    """Train, measure, write."""
    asked = options(__doc__, SCENES, "puppet-environment", "environment_ablations.md")
    os.chdir(REPOSITORY)  # the recipes name their folders from here
    recipes = {name: load_recipe(RECIPES / f"{name}.yaml") for name in ROWS}
    with TerminalProgress() as progress:
        recipes = ready(recipes, asked.measure_only, progress)
        if not recipes:
            print(f"nothing is trained in {RUNS}, nothing measured: python benchmarks/environment_ablations.py")
            return
        reports = {name: measure(recipe, asked.characters, progress) for name, recipe in recipes.items()}
    one = next(iter(recipes))
    width, height = reports[one]["settings"]["size"]
    boxes = box_share(asked.characters, (width, height))
    write(
        asked.output,
        "Ablation of Animate Anyone 2: environment, objects, motion",
        "PSNR in dB; more is better, best of the variants bold.",
        result_table(reports),
        *left_out(reports),
        blending_gain(reports),
        "`copy_source` is the source with the region left grey; the region is that of the variant's own mask. Person, "
        "the same in frames in which something hides part of it (occluded), all of it there with what stands in front "
        "(front), and objects are the same pixels in every row. Environment (outside the region), objects in the "
        "region (inside) and edge (a band about its outline) "
        "are other pixels under another mask: there compare with the `copy_source` of that mask, not across masks. "
        "An exact mask hides no object, so inside it there is none to measure.",
        conditions(recipes[one], reports[one]),
        "**What this cannot say.** Every character is put back where it was, so that an exact mask gives its outline "
        "away and is paid for it; what the paper holds against it, a character of another shape, is not measured. "
        f"Blocks of 10 pixels are coarse here: in {boxes:.0%} of the frames the shape-agnostic region is the bounding "
        "box, so that those two variants differ in what they were trained on more than in what they are given. "
        "Nor is anything that needs frames in a row: pose modulation's convolution over time, flicker, FVD. One seed "
        "of training each: small differences may be chance. Small networks from nothing: the order says nothing about "
        "absolute quality, nor surely about the order at the paper's size.",
        f"Measured on: {describe()}.",
    )


if __name__ == "__main__":
    main()
