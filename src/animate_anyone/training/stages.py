"""Which class trains which stage."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from animate_anyone.errors import InputError
from animate_anyone.progress import SILENT, Progress
from animate_anyone.training.autoencoder import AutoencoderStage, ImageEncoderStage
from animate_anyone.training.checkpoint import as_it_began, last_checkpoint
from animate_anyone.training.config import Recipe
from animate_anyone.training.loop import Stage, train
from animate_anyone.training.stage_environment import EnvironmentStage
from animate_anyone.training.stage_image import ImageStage
from animate_anyone.training.stage_motion import MotionStage

STAGES: dict[str, type] = {
    "autoencoder": AutoencoderStage,
    "image_encoder": ImageEncoderStage,
    "image": ImageStage,
    "motion": MotionStage,
    "environment": EnvironmentStage,
}


def build_stage(recipe: Recipe, progress: Progress = SILENT) -> Stage:
    """The stage that a recipe names, with its networks built and its clips at hand."""
    return STAGES[recipe.stage](recipe, progress)


def run(recipe: Recipe, resume: bool = False, progress: Progress = SILENT) -> Path:
    """Train a recipe to its end and return the folder of the resulting model.

    Raises:
        InputError: the output folder cannot be made or holds another run, or what the stage starts from is not there.
    """
    output = Path(recipe.output)
    checkpoint = last_checkpoint(output)
    if checkpoint is not None and resume:
        recipe = as_it_began(recipe, checkpoint)
    elif checkpoint is not None:
        raise InputError(f"output {output}: holds a run already; type --resume to go on, or give another output=FOLDER")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output {output}: cannot be made ({error.strerror}); give a folder") from None
    try:
        stage = build_stage(recipe, progress)
    except InputError:
        with suppress(OSError):  # only if nothing is in it
            output.rmdir()
        raise
    return train(recipe, stage, resume=resume, progress=progress)
