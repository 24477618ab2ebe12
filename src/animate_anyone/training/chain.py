"""Several recipes one after the other, each from the model of the one before, in one call and within its time."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from animate_anyone.errors import InputError
from animate_anyone.progress import SILENT, Progress
from animate_anyone.system.whole_files import whole_file
from animate_anyone.training.check import check_lines, missing_start
from animate_anyone.training.config import Recipe
from animate_anyone.training.recipe_file import build_record, load_recipe, read_settings_file
from animate_anyone.training.shipped_recipes import find_recipe
from animate_anyone.training.stages import run
from animate_anyone.training.time_limit import TimeLimit, closing_line

DONE = "stages.json"
"""In a chain's output: the names of the stages that are done."""


@dataclass(frozen=True)
class Part:
    """A stage of a chain.

    Attributes:
        recipe: a file beside the chain's.
        share: of the time, against the other stages' shares.
        from_nothing: left out where the chain starts from a model, whose networks the later stages were trained with.
        settings: instead of the recipe's, keys with dots for nesting.
    """

    recipe: str
    share: float = 1.0
    from_nothing: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.share < float("inf"):
            raise InputError(f"recipe: a stage's share is {self.share}; it must be a number above 0")


@dataclass(frozen=True)
class Chain:
    """Recipes in their order.

    Attributes:
        output: folder in which each stage has its own.
        stages: by name.
        init: model folder to start from; ``None``: nothing.
    """

    output: str
    stages: dict[str, Any]
    init: str | None = None


def train_file(
    path: str | Path,
    settings: Sequence[str] = (),
    *,
    resume: bool = False,
    minutes: float | None = None,
    began: float | None = None,
    progress: Progress = SILENT,
    command: Sequence[str] = (),
) -> str:
    """Train by a recipe or a chain of recipes; returns a line that says what came.

    Args:
        path: a file, or a shipped recipe's name.
        settings: ``KEY=VALUE`` instead of the file's. In a chain a key begins with a stage's name, or it is of all
            stages; ``init`` and ``output`` are the chain's.
        resume: go on where an earlier call stopped.
        minutes: all of it ends in time; ``None``: the recipes' steps are all done.
        began: what ``time.monotonic()`` said when the program began.
        command: what was typed, without options.

    Raises:
        InputError: for everything that is the user's to mend.
    """
    tree = read_settings_file(path)
    if "stages" not in tree:
        limit = None if minutes is None else TimeLimit(minutes, began=began)
        recipe = load_recipe(path, list(settings))
        return closing_line(run(recipe, resume, progress, limit), recipe.steps, limit, list(command))
    whole = None if minutes is None else TimeLimit(minutes, began=began)
    output, recipes = load_chain(path, tree, settings)
    done: list[str] = json.loads((output / DONE).read_text()) if resume and (output / DONE).is_file() else []
    if not resume and (output / DONE).exists():
        raise InputError(f"output {output}: holds a run already; type --resume to go on, or give another output=FOLDER")
    left = {name: pair for name, pair in recipes.items() if name not in done}
    for number, (name, (recipe, share)) in enumerate(left.items()):
        limit = None
        if whole is not None:
            shares = sum(share for _, share in list(left.values())[number:])
            now = began if began is not None and not number else time.monotonic()
            limit = TimeLimit(max(whole.left * share / shares, 1e-3) / 60, began=now)
        folder = run(recipe, resume, progress, limit)
        if limit is not None and not (folder / "training.json").is_file():
            raise InputError(
                f"stage {name}: its share of the time, {limit.seconds:.0f} seconds, was over before its first step; "
                f"give more --minutes: {shlex.join([*command, '--resume', '--minutes', f'{2 * (minutes or 1):g}'])}"
            )
        done.append(name)
        with whole_file(output / DONE) as file:
            file.write_text(json.dumps(done))
    last = Path(list(recipes.values())[-1][0].output) / "model"
    return f"{last}: the model after the stages {', '.join(recipes)}"


def check_file(path: str | Path, settings: Sequence[str] = ()) -> str:
    """Lines that say what training by this recipe, or by each of this chain's, will train, need and find.

    Nothing is touched: no folder is made and no file written. ``settings``: as :func:`train_file`.

    Raises:
        InputError: as :func:`train_file`, where it can be known before the start.
    """
    tree = read_settings_file(path)
    if "stages" not in tree:
        return "\n".join(check_lines(load_recipe(path, list(settings))))
    _, recipes = load_chain(path, tree, settings)
    blocks = []
    before: str | None = None  # the stage before this one's output
    for name, (recipe, _) in recipes.items():
        waits = before is not None and not Path(before, "model").is_dir()
        blocks.append("\n".join(missing_start(recipe, name) if waits else check_lines(recipe, name)))
        before = recipe.output
    return "\n\n".join(blocks)


def load_chain(
    path: str | Path, tree: dict[str, Any], settings: Sequence[str]
) -> tuple[Path, dict[str, tuple[Recipe, float]]]:
    """The output folder of a chain, and its recipes by the stages' names, each with its share of the time.

    Args:
        tree: what the file holds.
        settings: as :func:`train_file`.
    """
    own = {key: value for key, _, value in (one.partition("=") for one in settings) if key in ("init", "output")}
    others = [one for one in settings if one.partition("=")[0] not in own]
    chain = build_record(Chain, tree | own)
    recipes: dict[str, tuple[Recipe, float]] = {}
    before = chain.init
    for name, values in chain.stages.items():
        part = build_record(Part, values if isinstance(values, dict) else {"recipe": values}, f"stages.{name}.")
        if part.from_nothing and chain.init is not None:
            continue
        given = [f"{key}={json.dumps(value)}" for key, value in part.settings.items()]
        for setting in others:
            first, _, rest = setting.partition(".")
            if first == name:
                given.append(rest)
            elif first not in chain.stages:
                given.append(setting)
        given += [f"output={json.dumps(str(Path(chain.output) / name))}", f"init={json.dumps(before)}"]
        recipes[name] = load_recipe(find_recipe(path).parent / part.recipe, given), part.share
        before = str(Path(chain.output) / name / "model")
    if not recipes:
        raise InputError(f"{path}: no stage is left to train; give stages, or leave init out")
    return Path(chain.output), recipes
