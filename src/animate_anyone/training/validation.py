"""Videos of a model in training, made at intervals from fixed cases, and measured against what is true."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from animate_anyone.errors import InputError
from animate_anyone.evaluation.image_metrics import psnr, psnr_masked, ssim, ssim_masked
from animate_anyone.first_guess.frames import scaled
from animate_anyone.media import VideoWriter, contact_sheet, write_picture
from animate_anyone.structures import Picture
from animate_anyone.training.config import Recipe
from animate_anyone.training.monitor import RunMonitor
from animate_anyone.training.stage_denoising import DenoisingStage
from animate_anyone.training.validation_cases import SOURCES, Case

FOLDER, LOG = "validation", "validation.jsonl"
"""In a run's output."""
SHOWN = 3
"""Frames of a case on the contact sheet."""
MOST = 99.0
"""PSNR of pictures that are alike, dB."""

_LOG = logging.getLogger(__name__)


def _go_on() -> bool:
    return False


@dataclass
class Validation:
    """Makes and measures the cases of a recipe.

    It draws none of training's random numbers and leaves networks and their modes as they were.

    Attributes:
        recipe: the run's.
        device: on which networks compute.
        monitor: is told the figures.
        autocast: makes the context in which networks compute.
        stopped: asked between cases; true: the rest is left out, and nothing is recorded.
    """

    recipe: Recipe
    device: torch.device
    monitor: RunMonitor
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    stopped: Callable[[], bool] = _go_on
    _cases: dict[int, Case] = field(default_factory=dict)

    def run(self, stage: DenoisingStage[Any], step: int) -> None:
        """Try the model after so many steps: ``validation/STEP/`` has a video of each case and a contact sheet,
        ``validation.jsonl`` a line of figures. What goes wrong is told in a line; training goes on.

        Args:
            stage: its networks are used as they are at the moment, whole, and are on the device afterwards.
        """
        began = time.perf_counter()
        try:
            with torch.no_grad(), random_numbers_kept(self.device), evaluating(stage):
                made = self._make(stage.to(self.device))
            if made is not None:
                self._record(step, made, began)
        except (InputError, torch.OutOfMemoryError) as error:
            reason = " ".join(str(error).split())[:200]
            _LOG.warning("validation after step %d was left out: %s", step, reason)
        finally:
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()  # what training has no use for

    def _make(self, stage: DenoisingStage[Any]) -> list[tuple[Case, Picture]] | None:
        pipeline, made = stage.trained_pipeline(), []
        for number in range(self.recipe.monitor.validation_clips):
            if self.stopped():
                return None
            if number not in self._cases:
                self._cases[number] = SOURCES[self.recipe.data.source](self.recipe, number, stage.wanted)
            case = self._cases[number]
            with self.autocast():
                made.append((case, case.make(pipeline, self.recipe.monitor.validation_steps)))
        return made

    def _record(self, step: int, made: list[tuple[Case, Picture]], began: float) -> None:
        folder = Path(self.recipe.output) / FOLDER / f"{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        of_cases: list[dict[str, Any]] = []
        for case, frames in made:
            figures = {"model": measure(frames, case), "copy_reference": measure(_copied(case), case)}
            of_cases.append({"name": case.name, **figures})
            size = (case.frames.shape[2], case.frames.shape[1])
            with VideoWriter(folder / f"{case.name}.mp4", (3 * size[0], size[1]), case.fps) as video:
                for pose, one, true in zip(case.poses, frames, case.frames, strict=True):
                    video.write(np.concatenate([scaled(pose, size), one, true], axis=1))
        sheet = _sheet(made, of_cases)
        write_picture(folder / "sheet.png", sheet)
        means = {who: _means([figures[who] for figures in of_cases]) for who in ("model", "copy_reference")}
        line = {"step": step, **means, "seconds": round(time.perf_counter() - began, 1), "cases": of_cases}
        with (Path(self.recipe.output) / LOG).open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.monitor.write({"step": step, **means["model"]}, FOLDER)
        self.monitor.show(f"{FOLDER}/sheet", sheet, step)


def why_none(recipe: Recipe, stage: nn.Module, timed: bool = False) -> str | None:
    """Why a run that asks for validation does without, a line; ``None`` where nothing is in the way.

    Args:
        timed: whether the run has a time limit.
    """
    if not isinstance(stage, DenoisingStage):
        return f"stage {recipe.stage} makes no videos: no validation"
    if recipe.data.source not in SOURCES:
        return f"data.source {recipe.data.source} has no cases for validation: no validation"
    if timed:
        return "no validation in a run with a time limit (--minutes)"
    return None


@contextmanager
def random_numbers_kept(device: torch.device) -> Iterator[None]:
    """PyTorch's generators, of the CPU and of this device, are afterwards as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


@contextmanager
def evaluating(stage: nn.Module) -> Iterator[None]:
    """All modules are in evaluation mode; afterwards each is in its own again."""
    modes = {module: module.training for module in stage.modules()}
    stage.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def measure(result: Picture, case: Case) -> dict[str, float | None]:
    """PSNR (dB) and SSIM of whole frames and of the person in them, means over frames; ``None`` where none is seen."""
    pairs = list(zip(result, case.frames, case.masks, strict=True))
    seen = [(one, true, mask) for one, true, mask in pairs if mask.any()]
    return {
        "person_psnr": _mean([min(psnr_masked(one, true, mask), MOST) for one, true, mask in seen]),
        "person_ssim": _mean([ssim_masked(one, true, mask) for one, true, mask in seen]),
        "psnr": _mean([min(psnr(one, true), MOST) for one, true, _ in pairs]),
        "ssim": _mean([ssim(one, true) for one, true, _ in pairs]),
    }


def _copied(case: Case) -> Picture:
    """The baseline: the reference in every frame."""
    return np.repeat(case.reference[None], len(case.frames), 0)


def _mean(figures: list[float]) -> float | None:
    return round(float(np.mean(figures)), 4) if figures else None


def _means(figures: list[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Of each figure, over the cases that have it."""
    return {name: _mean([f for one in figures if (f := one[name]) is not None]) for name in figures[0]}


def _sheet(made: list[tuple[Case, Picture]], figures: list[dict[str, Any]]) -> Picture:
    """A row for each case: the reference, then of some frames pose, made and true."""
    rows, labels = [], []
    for (case, frames), told in zip(made, figures, strict=True):
        size = (case.frames.shape[2], case.frames.shape[1])
        shown = np.unique(np.linspace(0, len(frames) - 1, SHOWN).round().astype(int))
        pictures = [p for i in shown for p in (scaled(case.poses[i], size), frames[i], case.frames[i])]
        rows.append([case.reference, *pictures])
        labels.append(f"{case.name}: reference; pose, made, true: PSNR {told['model']['psnr']:.1f} dB")
    return contact_sheet(rows, labels)
