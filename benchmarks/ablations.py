"""The paper's ablation (Animate Anyone, table 3) at the smallest size: how the reference's looks get in.

python benchmarks/ablations.py                   train what is not trained, measure all, print the table
python benchmarks/ablations.py --characters 6    a quicker look; --measure-only trains nothing, as in `make bench`

The variants are recipes/ablation/*.yaml; they stand on the autoencoder of the same folder, trained first. Models,
reports and contact sheets go to runs/ablations; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import add_output, describe, table, write
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.evaluation.image_metrics import psnr_masked
from animate_anyone.evaluation.suites import CHARACTERS, evaluate_puppet, puppet_clip
from animate_anyone.models.folder import model_folder
from animate_anyone.progress import SILENT, Progress, TerminalProgress
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.training.config import Recipe
from animate_anyone.training.loop import train
from animate_anyone.training.recipe_file import load_recipe
from animate_anyone.training.removed_settings import without_removed
from animate_anyone.training.stages import build_stage

REPOSITORY = Path(__file__).resolve().parent.parent
RECIPES = REPOSITORY / "recipes" / "ablation"
RUNS = Path("runs/ablations")
# Recipe -> row; those that differ in how the reference gets in, then what is compared with the method alone.
PATHS = {
    "clip": "CLIP features",
    "controlnet": "ControlNet",
    "both": "CLIP features + ControlNet",
    "reference_net": "ReferenceNet",
}
ROWS = {**PATHS, "temporal": "ReferenceNet, temporal layers"}
HIGHER = ("person_psnr", "psnr", "ssim", "limb_found", "identity", "identity_rank1")
LOWER = ("colour", "limb_px", "flicker", "flicker_person", "flicker_still", "identity_drift")


def start(folder: Path, autoencoder: Recipe, model: str = "puppet", progress: Progress = SILENT) -> None:
    """What all variants begin with, where it is not there yet: a VAE of their own and a model's image encoder, no more.

    Their VAE does not follow the shipped model's: another one would be another ablation.
    """
    if not (folder / "vae").is_dir():
        train_missing({"autoencoder": autoencoder}, progress)
        _take(Path(autoencoder.output) / "model" / "vae", folder)
    if not (folder / "image_encoder").is_dir():
        _take(model_folder(model) / "image_encoder", folder)


def _take(part: Path, folder: Path) -> None:
    # Under its name only when it is whole.
    unfinished = folder / f"{part.name}.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(part, unfinished)
    unfinished.rename(folder / part.name)


def is_trained(recipe: Recipe) -> bool:
    """Whether the recipe's output holds its result: all steps of these settings."""
    history = Path(recipe.output) / "model" / "training.json"
    if not history.is_file():
        return False
    last = json.loads(history.read_text())[-1]
    now = json.loads(json.dumps(recipe.to_dict()))
    return last["steps_done"] == recipe.steps and _agrees(without_removed(last["recipe"], str(history)), now)


def _agrees(before: dict[str, Any], now: dict[str, Any]) -> bool:
    # Settings that came after the run was made do not count against it.
    return all(
        _agrees(value, now[key])
        if isinstance(value, dict) and isinstance(now.get(key), dict)
        else value == now.get(key)
        for key, value in before.items()
    )


def train_missing(recipes: dict[str, Recipe], progress: Progress = SILENT) -> None:
    """Train every recipe whose result is not there, in order."""
    for recipe in recipes.values():
        if not is_trained(recipe):
            train(recipe, build_stage(recipe, progress), resume=True, progress=progress)


def ready(recipes: dict[str, Recipe], measure_only: bool, progress: Progress = SILENT) -> dict[str, Recipe]:
    """The recipes whose results can be measured: all, what is missing trained now; or only those that are trained."""
    if measure_only:
        return {name: recipe for name, recipe in recipes.items() if is_trained(recipe)}
    start(RUNS / "start", load_recipe(RECIPES / "autoencoder.yaml"), progress=progress)
    train_missing(recipes, progress)
    return recipes


def keep(recipe: Recipe, report: dict[str, Any], sheet: NDArray[np.uint8]) -> None:
    """Write a report and its contact sheet ``(H, W, 3)`` into the recipe's output."""
    output = Path(recipe.output)
    (output / "report.json").write_text(json.dumps(report, indent=1))
    Image.fromarray(sheet).save(output / "sheet.png")


def measure(recipe: Recipe, characters: int, progress: Progress = SILENT) -> dict[str, Any]:
    """The puppet suite's report on a recipe's result, with ``moved_reference``; kept with the contact sheet."""
    pipeline = load_pipeline(Path(recipe.output) / "model", "cpu", "float32")
    report, sheet = evaluate_puppet(pipeline, characters=characters, progress=progress)
    report["moved_reference"] = moved_reference(pipeline, characters)
    keep(recipe, report, sheet)
    return report


def moved_reference(pipeline: AnimateAnyonePipeline, characters: int) -> list[float]:
    """Whether looks are found or copied from their place: the reference as it is, and moved sideways by a quarter.

    Returns:
        PSNR over the person, then over the background, of every fourth frame, in dB: with the reference as it is;
        then the same two with it moved (its edges wrap; what should come out does not move).
    """
    width, height = pipeline.config["size"]
    sums = np.zeros(4)
    for seed in range(characters):
        size, style = (width, height), pipeline.config["skeleton_style"]
        clip = puppet_clip(seed, size, pipeline.pose_picture_size(size), style)
        truth, masks = clip.frames[::4], clip.masks[::4]
        for column, shift in ((0, 0), (2, width // 4)):
            picture = np.roll(clip.reference, shift, 1)
            made = pipeline(picture, clip.poses[::4], generator=torch.Generator().manual_seed(seed), progress=SILENT)[0]
            for plane, part in enumerate((masks, ~masks)):
                pairs = [psnr_masked(a, b, m) for a, b, m in zip(made, truth, part, strict=True) if m.any()]
                sums[column + plane] += np.mean(pairs)
    return [float(value) for value in sums / characters]


def figures(report: dict[str, Any], who: str) -> dict[str, float]:
    """The measures of a report that are single numbers."""
    return {name: value for name, value in report[who].items() if isinstance(value, int | float)}


def best(results: dict[str, dict[str, float]], measure: str, higher: Sequence[str] = HIGHER) -> str | None:
    """The row that is best at a measure; ``None`` where it is not said which way is better."""
    having = {row: values[measure] for row, values in results.items() if measure in values}
    if not having or measure not in (*higher, *LOWER):
        return None
    return max(having, key=lambda row: having[row] if measure in higher else -having[row])


def comparison(
    titles: dict[str, str],
    baselines: dict[str, dict[str, float]],
    results: dict[str, dict[str, float]],
    first: dict[str, str | None],
    digits: int = 3,
) -> str:
    """Measures in columns; baselines, then results in rows; in each column the result that ``first`` names is bold."""

    def cell(values: dict[str, float], measure: str, bold: bool) -> str:
        text = f"{values[measure]:.{digits}f}" if measure in values else "-"
        return f"**{text}**" if bold else text

    rows = [[name, *(cell(values, m, bold=False) for m in titles)] for name, values in baselines.items()]
    rows += [[name, *(cell(values, m, bold=first[m] == name) for m in titles)] for name, values in results.items()]
    return table(["", *titles.values()], rows)


def result_table(reports: dict[str, dict[str, Any]]) -> str:
    """Measures in columns, variants in rows, what copying the reference gives first; the best path is bold."""
    results = {ROWS[name]: figures(reports[name], "model") for name in ROWS if name in reports}
    baseline = figures(next(iter(reports.values())), "copy_reference")
    measures = list(dict.fromkeys(m for values in results.values() for m in values))
    paths = {row: values for row, values in results.items() if row in PATHS.values()}
    marks = {m: f"{m} {'↑' if m in HIGHER else '↓' if m in LOWER else ''}".strip() for m in measures}
    return comparison(marks, {"the reference, repeated": baseline}, results, {m: best(paths, m) for m in measures})


def standing(reports: dict[str, dict[str, Any]]) -> str:
    """Where ReferenceNet is first among the paths, and where it is not."""
    results = {name: figures(reports[name], "model") for name in PATHS if name in reports}
    measures = [m for m in HIGHER + LOWER if any(m in values for values in results.values())]
    won = [m for m in measures if best(results, m) == "reference_net"]
    lost = [f"{m} ({ROWS[str(best(results, m))]})" for m in measures if m not in won]
    return f"ReferenceNet is first on: {', '.join(won) or 'nothing'}. Not on: {', '.join(lost) or 'nothing'}."


def options(description: str | None, characters: int, suite: str, output: str) -> argparse.Namespace:
    """What an ablation is asked on the command line: ``characters``, ``measure_only``, ``output``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, default=characters, help=f"of the suite {suite}")
    parser.add_argument("--measure-only", action="store_true", help="leave out what is not trained")
    add_output(parser, output)
    asked = parser.parse_args()
    if asked.characters < 1:
        parser.error(f"--characters {asked.characters}: give 1 or more")
    return asked


def main() -> None:
    asked = options(__doc__, CHARACTERS, "puppet", "ablations.md")
    os.chdir(REPOSITORY)  # the recipes name their folders from here
    recipes = {name: load_recipe(RECIPES / f"{name}.yaml") for name in ROWS}
    with TerminalProgress() as progress:
        recipes = ready(recipes, asked.measure_only, progress)
        if not recipes:
            print(f"nothing is trained in {RUNS}, nothing measured: python benchmarks/ablations.py")
            return
        reports = {name: measure(recipe, asked.characters, progress) for name, recipe in recipes.items()}
    one = next(iter(recipes.values()))
    more = recipes["temporal"].steps if "temporal" in recipes else 0
    size = one.data.size
    write(
        asked.output,
        "Ablation: how the reference's looks get in",
        result_table(reports),
        standing(reports),
        "The same over the person and the background apart, and with the reference moved sideways by a quarter of the "
        "picture (PSNR in dB; what should come out does not move): what was found stays, what was copied from its "
        "place is lost.",
        table(
            ["", "person", "background", "person, moved", "background, moved"],
            [[ROWS[name], *(f"{value:.2f}" for value in r["moved_reference"])] for name, r in reports.items()],
        ),
        f"As the paper's table 3, at the smallest size that a CPU trains in minutes: {size}x{size} pixels, "
        f"{one.steps} steps of {one.batch} clips with {one.objective.targets_per_reference} target frames each for "
        "every variant, same seed, same clips, all parts together (the paper finetunes Stable Diffusion first and "
        f"trains the ControlNet after it); temporal layers: {more} steps more. Puppet suite, {asked.characters} "
        f"characters, {next(iter(reports.values()))['settings']['steps']} denoising step. Bold: best of the four "
        "paths. Small networks from nothing: the order says nothing about absolute quality. "
        "Read in docs/training.md, Ablations.",
        f"Measured on: {describe()}.",
    )


if __name__ == "__main__":
    main()
