"""The paper's ablations (Animate Anyone, table 3, and those of the later text) at the smallest size, in one table.

python benchmarks/ablations.py                   train what is not trained, measure all, print the table
python benchmarks/ablations.py --characters 6    a quicker look; --measure-only trains nothing, as in `make bench`

The variants are recipes/ablation/*.yaml; they stand on the autoencoder of the same folder, trained first. The reference
is of the same character elsewhere, in training and here. Models, reports and contact sheets go to runs/ablations; a run
that was stopped goes on where it was.
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
from machine import add_output, describe, table, write
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.evaluation.suites import CHARACTERS, evaluate_puppet
from animate_anyone.models.folder import model_folder
from animate_anyone.progress import SILENT, Progress, TerminalProgress
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.memory import parts_of
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.training.config import Recipe
from animate_anyone.training.loop import train
from animate_anyone.training.recipe_file import load_recipe
from animate_anyone.training.removed_settings import without_removed
from animate_anyone.training.stages import build_stage

REPOSITORY = Path(__file__).resolve().parent.parent
RECIPES = REPOSITORY / "recipes" / "ablation"
RUNS = Path("runs/ablations")
# Recipe -> row. All but the last two make single frames and are sampled frame by frame.
ROWS = {
    "clip": "CLIP features",
    "controlnet": "ControlNet (trained together)",
    "controlnet_after": "ControlNet (after finetuning)",
    "both": "CLIP features + ControlNet",
    "resnet": "ResNet for ReferenceNet",
    "concatenated": "features concatenated",
    "reference_net": "without temporal layers",
    "one_stage": "one stage",
    "temporal": "the method",
}
BASE = "reference_net"
"""The row that the others are compared with, character by character."""
BEFORE = {"controlnet_after": "finetuned"}
"""Row -> a recipe whose result it begins with and which has no row."""
# The later text of Animate Anyone, second hand: FVD on UBC fashion.
PAPER_FVD = {
    "clip": 208.5,
    "controlnet_after": 213.9,
    "both": 205.4,
    "resnet": 165.4,
    "concatenated": 132.8,
    "reference_net": 176.7,
    "one_stage": 89.3,
    "temporal": 81.6,
}
HIGHER = ("person_psnr", "psnr", "person_ssim", "ssim", "limb_found", "identity", "identity_rank1")
LOWER = ("colour", "limb_px", "flicker", "flicker_person", "flicker_still", "identity_drift")
SAME = "same_clip_person_psnr"
COLUMNS = {
    "person_psnr": "person PSNR",
    "person_ssim": "person SSIM",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "colour": "colour",
    "identity": "identity",
    "flicker_person": "flicker of the person",
    SAME: "person PSNR, same clip",
}


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
    if recipe.precision == "auto":  # what it was on the machine that trained is written down
        now["precision"] = last["recipe"]["precision"]
    return last["steps_done"] == recipe.steps and _agrees(without_removed(last["recipe"], str(history)), now)


def trained_precision(recipe: Recipe) -> str:
    """The number type that a recipe's result was trained with: of ``auto``, what the machine chose."""
    history = Path(recipe.output) / "model" / "training.json"
    if not history.is_file():
        return recipe.precision
    return str(json.loads(history.read_text())[-1]["recipe"]["precision"])


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
    """The puppet suite's report on a recipe's result, with the reference elsewhere; kept with the contact sheet.

    Beside it ``same_clip``, the means with the reference from the same clip, and ``made``, what it took to train.
    """
    folder = Path(recipe.output) / "model"
    pipeline = load_pipeline(folder, "cpu", "float32")
    report, sheet = evaluate_puppet(pipeline, characters=characters, reference="elsewhere", progress=progress)
    other, _ = evaluate_puppet(pipeline, characters=characters, long_clips=0, progress=progress)
    report["same_clip"] = {who: other[who] for who in ("model", "copy_reference")}
    report["made"] = made(pipeline, json.loads((folder / "training.json").read_text()))
    keep(recipe, report, sheet)
    return report


def made(pipeline: AnimateAnyonePipeline, history: list[dict[str, Any]]) -> dict[str, str]:
    """Parameters of a model but for those that all share; steps and frames of the stages that it was trained in."""
    networks = [getattr(pipeline, part) for part in parts_of(pipeline) if part not in ("vae", "image_encoder")]
    count = sum(parameter.numel() for network in networks for parameter in network.parameters())
    frames = 0
    for stage in history:
        recipe = stage["recipe"]
        in_a_row = recipe["stage"] == "motion"
        each = recipe["data"]["frames_per_clip"] if in_a_row else recipe["objective"]["targets_per_reference"]
        frames += stage["steps_done"] * recipe["batch"] * each
    steps = " + ".join(str(stage["steps_done"]) for stage in history)
    return {"parameters": f"{count / 1e6:.2f}", "steps": steps, "frames": f"{frames:,}"}


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
    """Measures in columns, designs in rows, what repeating the reference gives first; the best design is bold.

    What is not trained has its row, without figures.
    """
    results = {ROWS[name]: figures(reports[name], "model") if name in reports else {} for name in ROWS}
    some = next(iter(reports.values()))
    baseline = figures(some, "copy_reference") | {SAME: some["same_clip"]["copy_reference"]["person_psnr"]}
    for name, report in reports.items():
        results[ROWS[name]][SAME] = report["same_clip"]["model"]["person_psnr"]
    marks = {m: f"{title} {'↑' if m in (*HIGHER, SAME) else '↓'}" for m, title in COLUMNS.items()}
    first = {m: best(results, m, (*HIGHER, SAME)) for m in COLUMNS}
    lines = comparison(marks, {"the reference, repeated": baseline}, results, first).splitlines()
    more = [
        "parameters, M | steps | frames trained | the paper's FVD ↓ |",
        "---: | ---: | ---: | ---: |",
        "- | - | - | - |",
    ]
    for name in ROWS:
        told = reports[name]["made"] if name in reports else {}
        cells = [str(told.get(key, "not trained")) for key in ("parameters", "steps", "frames")]
        more.append(f"{' | '.join(cells)} | {PAPER_FVD.get(name, '-')} |")
    return "\n".join(f"{line} {end}" for line, end in zip(lines, more, strict=True))


def standing(reports: dict[str, dict[str, Any]]) -> str:
    """The designs by what they make of the person, and where the papers have it otherwise."""
    person = {name: reports[name]["model"]["person_psnr"] for name in ROWS if name in reports}
    order = sorted(person, key=lambda name: -person[name])
    told = ", ".join(f"{ROWS[name]} ({person[name]:.2f})" for name in order)
    known = [name for name in order if name in PAPER_FVD]
    behind = {
        one: [other for other in known[place + 1 :] if PAPER_FVD[one] > PAPER_FVD[other]]
        for place, one in enumerate(known)
    }
    against = [f"{ROWS[one]} before {', '.join(ROWS[o] for o in others)}" for one, others in behind.items() if others]
    pairs = len(known) * (len(known) - 1) // 2
    count = sum(map(len, behind.values()))
    return (
        f"By PSNR over the person: {told}. Of {pairs} pairs of designs that the later text's FVD on UBC ranks, {count} "
        f"stand the other way round here: {'; '.join(against) or 'none'}."
    )


def apart(reports: dict[str, dict[str, Any]]) -> str:
    """By how much designs differ from the method on single frames, with the standard error over the characters."""
    if BASE not in reports or len(reports) < 2:
        return f"How far designs are from {ROWS[BASE]!r} is not said: that needs it and another one."

    def person(name: str) -> NDArray[np.float64]:
        return np.array([clip["model"]["person_psnr"] for clip in reports[name]["clips"]])

    told = []
    for name in ROWS:
        if name in reports and name != BASE:
            gain = person(name) - person(BASE)
            error = gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else float("nan")
            told.append(f"{ROWS[name]} {gain.mean():+.2f} ± {error:.2f}")
    return (
        f"PSNR over the person beside {ROWS[BASE]!r}, character by character (mean ± standard error, dB): "
        f"{'; '.join(told)}."
    )


def left_out(reports: dict[str, dict[str, Any]]) -> list[str]:
    """A line about designs that are not trained; none where all are."""
    missing = [ROWS[name] for name in ROWS if name not in reports]
    return [f"**Not trained:** {', '.join(missing)}."] if missing else []


def options(
    description: str | None, characters: int, suite: str, output: str, with_steps: bool = False
) -> argparse.Namespace:
    """What is asked on the command line: ``characters``, ``measure_only``, ``output``; ``steps`` where wanted."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, default=characters, help=f"of the suite {suite}")
    parser.add_argument("--measure-only", action="store_true", help="leave out what is not trained")
    if with_steps:
        parser.add_argument("--steps", type=int, help="of training, in place of the recipe's")
    add_output(parser, output)
    asked = parser.parse_args()
    if asked.characters < 1:
        parser.error(f"--characters {asked.characters}: give 1 or more")
    return asked


def all_recipes() -> dict[str, Recipe]:
    """Those of the rows, each after the one whose result it begins with."""
    names = [name for row in ROWS for name in (BEFORE.get(row), row) if name is not None]
    return {name: load_recipe(RECIPES / f"{name}.yaml") for name in names}


def main() -> None:
    asked = options(__doc__, CHARACTERS, "puppet", "ablations.md")
    os.chdir(REPOSITORY)  # the recipes name their folders from here
    with TerminalProgress() as progress:
        recipes = ready(all_recipes(), asked.measure_only, progress)
        rows = {name: recipe for name, recipe in recipes.items() if name in ROWS}
        if not rows:
            print(f"nothing is trained in {RUNS}, nothing measured: python benchmarks/ablations.py")
            return
        reports = {name: measure(recipe, asked.characters, progress) for name, recipe in rows.items()}
    one = load_recipe(RECIPES / "reference_net.yaml")
    size, settings = one.data.size, next(iter(reports.values()))["settings"]
    write(
        asked.output,
        "Ablations of Animate Anyone",
        result_table(reports),
        *left_out(reports),
        standing(reports),
        apart(reports),
        f"At the smallest size that a CPU trains: {size}x{size} pixels; networks from nothing, same seed, same clips "
        f"(those of 24 frames of the last two rows apart). Puppet suite, {asked.characters} characters, "
        f"{settings['steps']} denoising step; the reference is {settings['reference']}, in training too. The truth's "
        "background is in no picture that the models are given: over whole frames, what is measured beside the person "
        "is a guess. In the last column of measures the reference is another frame of the same clip, which no design "
        "was trained with. Bold: the best design. All but the last two rows make single frames and are sampled frame "
        "by frame, each from noise of its own. Small networks from nothing: the order says nothing about absolute "
        "quality. One seed of training each: small differences may be chance. Read in docs/training.md, Ablations.",
        f"Measured on: {describe()}.",
    )


if __name__ == "__main__":
    main()
