"""Where objects join the noise (Animate Anyone 2), objects left out of the first guess: spatial blending of the
hidden state on all levels or at the paper's, before the residual, merged at the input, and none.

python benchmarks/blending_ablations.py                    train what is not trained, measure all, write the table
python benchmarks/blending_ablations.py --measure-only     train nothing; --characters 8 is a quicker look
python benchmarks/blending_ablations.py --steps 150        fewer steps than recipes/ablation_blending.yaml has
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ablations import REPOSITORY, keep, options, train_missing
from ablations import is_trained as has_result
from machine import describe, table, write

from animate_anyone.evaluation.environment_suite import SCENES, evaluate_environment
from animate_anyone.progress import SILENT, Progress, TerminalProgress
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.training.config import Recipe
from animate_anyone.training.recipe_file import load_recipe

RECIPE = REPOSITORY / "recipes" / "ablation_blending.yaml"
RUNS = Path("runs/ablation_blending")
# Row -> what of the recipe is another: of its ``environment``, and the shares of parts that the row has not.
ROWS: dict[str, dict[str, Any]] = {
    "all_levels": {},
    "hidden": {"environment.blending_levels": "attention"},
    "attention": {"environment.blending_levels": "attention", "environment.blending_place": "attention"},
    "input": {"environment.object_blending": "input", "optimizer.shares": {"object_": 10}},
    "none": {"environment.object_blending": "none", "optimizer.shares": {}},
}
TITLES = {
    "all_levels": "spatial blending of the hidden state, on the finest level too",
    "hidden": "spatial blending of the hidden state, at levels with attention (the paper)",
    "attention": "spatial blending of what attention adds, there",
    "input": "merged with the noise latents (the paper's ablation)",
    "none": "no objects",
}
SHOWN = {"objects_inside": "objects, inside", "objects": "objects", "person": "person", "environment": "environment"}


def recipes(steps: int | None) -> dict[str, Recipe]:
    """The recipe of every row."""
    made = {}
    for name, changes in ROWS.items():
        told = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
        told += [] if steps is None else [f"steps={steps}"]
        made[name] = load_recipe(RECIPE, [f"output={RUNS / name}", *told])
    return made


def measure(recipe: Recipe, characters: int, progress: Progress = SILENT) -> dict[str, Any]:
    """The report of suite puppet-environment without objects in the first guess; kept with the contact sheet."""
    pipeline = load_pipeline(Path(recipe.output) / "model", "cpu", "float32")
    report, sheet = evaluate_environment(pipeline, characters=characters, guess_objects=False, progress=progress)
    keep(recipe, report, sheet)
    return report


def result_table(reports: dict[str, dict[str, Any]]) -> str:
    """dB by row; the first guess, which holds no objects, last."""
    rows = [[TITLES[name], *cells(report["model"])] for name, report in reports.items()]
    first = next(iter(reports.values()))
    return table(["", *SHOWN.values()], [*rows, ["the first guess", *cells(first["collage"])]])


def cells(figures: dict[str, float | None]) -> list[str]:
    """The figures that are shown."""
    return ["-" if figures[name] is None else f"{figures[name]:.2f}" for name in SHOWN]


def gain(reports: dict[str, dict[str, Any]]) -> str:
    """By how much objects are better with spatial blending, on all levels, than without objects."""
    if not {"all_levels", "none"} <= reports.keys():
        return "What blending gains is not said: that needs blending on all levels and no objects."
    with_it, without = (reports[name]["model"]["objects_inside"] for name in ("all_levels", "none"))
    return f"Objects inside the emptied region: {with_it - without:+.2f} dB with spatial blending on all levels."


def main() -> None:
    """Train, measure, write."""
    asked = options(__doc__, SCENES, "puppet-environment", "blending_ablations.md", with_steps=True)
    os.chdir(REPOSITORY)  # the recipe names its folders from here
    rows = recipes(asked.steps)
    with TerminalProgress() as progress:
        if not asked.measure_only:
            train_missing(rows, progress)
        rows = {name: recipe for name, recipe in rows.items() if has_result(recipe)}
        if not rows:
            print(f"nothing is trained in {RUNS}, nothing measured: python benchmarks/blending_ablations.py")
            return
        reports = {name: measure(recipe, asked.characters, progress) for name, recipe in rows.items()}
    recipe = next(iter(rows.values()))
    missing = [TITLES[name] for name in ROWS if name not in reports]
    write(
        asked.output,
        "Where objects join the noise, the first guess holding none",
        "PSNR in dB, suite puppet-environment.",
        result_table(reports),
        *([f"**Not trained, left out:** {', '.join(missing)}."] if missing else []),
        gain(reports),
        f"Each row: the shipped puppet-environment with a new object guider goes on for {recipe.steps} steps of "
        f"{recipe.batch} clips with {recipe.objective.targets_per_reference} target frames each, {recipe.data.size}x"
        f"{recipe.data.size} pixels, same seed ({recipe.seed}), same clips; {asked.characters} held-out scenes. "
        "Outside the region all pixels are the source's own.",
        "The small networks have no attention at their finest level, 32x32 cells: at levels with attention blending "
        "works on 16x16 and 8x8 cells, of 8 and 16 pixels a side, and most objects inside the region are sticks and "
        "strings, thinner than that. Networks of the paper's size have attention on their finest level. In every row "
        "with objects the object guider is given what they change of the first guess.",
        f"Measured on: {describe()}.",
    )


if __name__ == "__main__":
    main()
