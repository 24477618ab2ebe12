"""The ablation of Animate Anyone 2 at the smallest size: what is taken out of the environment, spatial blending, pose
modulation; the masks on another body than the source's; and pose modulation's convolution over time.

python benchmarks/environment_ablations.py                   train what is not trained, measure all, write the table
python benchmarks/environment_ablations.py --characters 6    a quicker look; --measure-only trains nothing

The variants are recipes/ablation_environment/*.yaml, which begin with the same autoencoder as those of ablations.py.
Report and contact sheet of each go into its recipe's output; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ablations import REPOSITORY, best, comparison, figures, keep, options, ready, trained_precision
from machine import describe, table, write

from animate_anyone.conditions.environment import formulate
from animate_anyone.evaluation.environment_suite import (
    MEASURES,
    SCENES,
    TITLES,
    SuiteScene,
    evaluate_environment,
    put_back,
)
from animate_anyone.evaluation.environment_suite import measure as measure_scene
from animate_anyone.evaluation.suites import mean_of
from animate_anyone.progress import SILENT, Progress, TerminalProgress
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
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
    "without_objects": "without objects",
    "without_modulation": "without pose modulation",
}
BESIDE = {WITHOUT_BLENDING: "merging them with the noise latents", "without_objects": "no object guider"}
MASKS = (METHOD, "box", "exact")
# Trained on clips in a row: a table of their own.
IN_A_ROW = {"in_a_row": "the method", "in_a_row_without_conv3d": "without its Conv3D"}
JITTER = 0.012
"""Standard deviation of what is added to estimated keypoints, of the frame's height: about what estimators err by."""


def measure(recipe: Recipe, characters: int, progress: Progress = SILENT) -> dict[str, Any]:
    """The report of suite puppet-environment on a recipe's result; kept with the contact sheet."""
    pipeline = load_pipeline(Path(recipe.output) / "model", "cpu", "float32")
    report, sheet = evaluate_environment(pipeline, characters=characters, progress=progress)
    if recipe.data.consecutive:
        report["jittered"] = jittered(pipeline, characters, progress)
    else:
        other, _ = evaluate_environment(pipeline, characters=characters, another_body=True, progress=progress)
        report |= {"another_body": other["model"], "another_body_copied": other["copy_source"]}
    keep(recipe, report, sheet)
    return report


def jittered(pipeline: AnimateAnyonePipeline, characters: int, progress: Progress) -> dict[str, float | None]:
    """The suite's figures where every keypoint of every frame is off by chance, as estimated ones are."""
    assert isinstance(pipeline, AnimateAnyone2Pipeline)
    width, height = pipeline.config["size"]
    figures = []
    for seed in progress.track(range(characters), characters, "jittered"):
        scene = SuiteScene.of(seed, (width, height), pipeline.config["formulation"])
        keypoints = scene.truth.pose.keypoints
        off = np.random.default_rng(seed).normal(0, JITTER * height, keypoints.shape).astype(np.float32)
        pose = replace(scene.truth.pose, keypoints=keypoints + off)
        made = put_back(pipeline, replace(scene, truth=replace(scene.truth, pose=pose)), seed=seed)
        figures.append(measure_scene(made, scene))
    return {m: mean_of(one[m] for one in figures) for m in MEASURES}


def mask_table(reports: dict[str, dict[str, Any]]) -> str:
    """The forms of the mask, with the source's own character and with one of another body; dB."""
    rows = []
    for name in MASKS:
        if name in reports and "another_body" in reports[name]:
            report = reports[name]
            own, other = report["model"], report["another_body"]
            shown = [own["person"], other["person"], other["person"] - own["person"], own["edge"], other["edge"]]
            copied = report["another_body_copied"]["person"]
            rows.append([ROWS[name], *(f"{value:.2f}" for value in shown), f"{copied:.2f}"])
    titles = ["", "person, own body", "person, another body", "difference", "edge, own", "edge, another", "copy_source"]
    return table(titles, rows)


def row_table(reports: dict[str, dict[str, Any]]) -> str:
    """Clips in a row: with true poses and with poses that are off by chance; dB."""
    rows = []
    for name, title in IN_A_ROW.items():
        if name in reports:
            true, off = reports[name]["model"]["person"], reports[name]["jittered"]["person"]
            rows.append([title, f"{true:.2f}", f"{off:.2f}", f"{off - true:+.2f}"])
    return table(["", "person, true poses", "person, jittered poses", "difference"], rows)


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
    """By how much objects are better with spatial blending than merged at the input and than not known, by scene."""
    told = [_gain(reports, other, beside) for other, beside in BESIDE.items()]
    return " ".join(told)


def _gain(reports: dict[str, dict[str, Any]], other: str, beside: str) -> str:
    if not {METHOD, other} <= reports.keys():
        return f"What objects gain from spatial blending beside {beside} is not said: that needs both variants."
    scenes = list(zip(reports[METHOD]["scenes"], reports[other]["scenes"], strict=True))

    def gains(measure: str) -> dict[int, float]:
        pairs = {a["seed"]: (a["model"][measure], b["model"][measure]) for a, b in scenes}
        return {seed: a - b for seed, (a, b) in pairs.items() if a is not None and b is not None}

    everywhere, inside = gains("objects"), gains("objects_inside")
    if not inside:
        return f"What objects gain from spatial blending is not said: the region hides none in {len(scenes)} scenes."
    return (
        f"Spatial blending gives objects, beside {beside}, {np.mean(list(inside.values())):+.2f} dB inside the region "
        "that was emptied, where the environment does not show them: mean over the "
        f"{len(inside)} of {len(scenes)} scenes that have such pixels (seeds {', '.join(map(str, inside))}), better in "
        f"{sum(gain > 0 for gain in inside.values())} of them. Over all pixels of objects, also those that the "
        f"environment shows: {np.mean(list(everywhere.values())):+.2f} dB, mean over {len(everywhere)} scenes."
    )


def conditions(recipe: Recipe, report: dict[str, Any]) -> str:
    """Size, steps, seeds and suite, which all variants share."""
    size, settings = recipe.data.size, report["settings"]
    return (
        f"Each variant: {size}x{size} pixels, {recipe.steps} steps of {recipe.batch} clips with "
        f"{recipe.objective.targets_per_reference} target frames each, same seed ({recipe.seed}), same clips, same "
        f"start, {trained_precision(recipe)}: small enough for a CPU. Single frames, no temporal layers; no weights of "
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
    titles = ROWS | {name: f"clips in a row, {title}" for name, title in IN_A_ROW.items()}
    missing = [title for name, title in titles.items() if name not in reports]
    return [f"**Not trained, left out:** {', '.join(missing)}."] if missing else []


def main() -> None:
    """Train, measure, write."""
    asked = options(__doc__, SCENES, "puppet-environment", "environment_ablations.md")
    os.chdir(REPOSITORY)  # the recipes name their folders from here
    recipes = {name: load_recipe(RECIPES / f"{name}.yaml") for name in (*ROWS, *IN_A_ROW)}
    with TerminalProgress() as progress:
        recipes = ready(recipes, asked.measure_only, progress)
        if not recipes:
            print(f"nothing is trained in {RUNS}, nothing measured: python benchmarks/environment_ablations.py")
            return
        reports = {name: measure(recipe, asked.characters, progress) for name, recipe in recipes.items()}
    one = next((name for name in ROWS if name in reports), next(iter(recipes)))
    width, height = reports[one]["settings"]["size"]
    boxes = box_share(asked.characters, (width, height))
    write(
        asked.output,
        "Ablation of Animate Anyone 2: environment, objects, motion",
        "PSNR in dB; more is better, best of the variants bold.",
        result_table({name: report for name, report in reports.items() if name in ROWS}),
        *left_out(reports),
        blending_gain(reports),
        "`copy_source` is the source with the region left grey; the region is that of the variant's own mask. Person, "
        "the same in frames in which something hides part of it (occluded), all of it there with what stands in front "
        "(front), and objects are the same pixels in every row. Environment (outside the region), objects in the "
        "region (inside) and edge (a band about its outline) "
        "are other pixels under another mask: there compare with the `copy_source` of that mask, not across masks. "
        "An exact mask hides no object, so inside it there is none to measure.",
        conditions(recipes[one], reports[one]),
        "## Masks, where the character has another body than the source's person",
        "The same scenes, acted by a character of about the same height and another girth, in other clothes: what a "
        "mask shows of the source's outline misleads. The truth is rendered so.",
        mask_table(reports),
        "## Clips in a row: pose modulation's convolution over time",
        "Clips of 8 frames in a row, with temporal layers, otherwise as above. Jittered: every keypoint of every frame "
        f"is off by a normal error of {JITTER:.1%} of the frame's height.",
        row_table(reports),
        "**What this cannot say.** In the first table every character is put back where it was, so that an exact mask "
        "gives its outline away and is paid for it; the second one has other bodies. "
        f"Blocks of 10 pixels are coarse here: in {boxes:.0%} of the frames the shape-agnostic region is the bounding "
        "box, so that those two variants differ in what they were trained on more than in what they are given. One "
        "seed of training each: small differences may be chance. Small networks from nothing: the order says nothing "
        "about absolute quality, nor surely about the order at the paper's size.",
        f"Measured on: {describe()}.",
    )


if __name__ == "__main__":
    main()
