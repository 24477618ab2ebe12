"""What is watched of a run beside loss and learning rate: work done a second, memory; all of it in TensorBoard too.

tensorboard --logdir runs
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from animate_anyone.errors import InputError
from animate_anyone.optional import require
from animate_anyone.structures import Picture
from animate_anyone.system import processes
from animate_anyone.training.config import Monitor, Recipe
from animate_anyone.training.peak_memory import peak_of_gpu, peak_of_process
from animate_anyone.training.step_memory import step_memory

FOLDER = "tensorboard"
"""In a run's output."""

_LOG = logging.getLogger(__name__)


def check_monitor(settings: Monitor) -> None:
    """Raises :class:`InputError` where a package that the settings need is not there."""
    if settings.tensorboard:
        require("tensorboard", extra="tensorboard")
        require("torch.utils.tensorboard", extra="tensorboard")
    if settings.validate_every is not None and find_spec("av") is None:
        raise InputError("monitor.validate_every: av, which writes videos, is not installed; type: pip install av")


class RunMonitor:
    """Watches the process that it is in. One of a run's processes writes, the first.

    Args:
        recipe: ``recipe.precision`` is not ``auto``.
        device: on which training computes.
        done: steps that earlier parts of the run did; what TensorBoard has of later ones is dropped.
    """

    def __init__(self, recipe: Recipe, device: torch.device, done: int) -> None:
        self._device, self._writer = device, None
        self._flops = 0  # of a step, on this process
        if recipe.monitor.tensorboard and processes.rank() == 0:
            self._flops = _step_flops(recipe, device)
            library = require("torch.utils.tensorboard", extra="tensorboard")
            self._writer = library.SummaryWriter(str(Path(recipe.output) / FOLDER), purge_step=done + 1)

    def measures(self, steps: int, seconds: float) -> dict[str, float]:
        """For the log: ``memory_gb``, the process's peak so far (of the GPU's where that computes), in 1e9 bytes; and
        ``tflops``, 1e12 operations a second in these steps, where they were counted.
        """
        figures = {}
        peak = peak_of_gpu(self._device) or peak_of_process()
        if peak is not None:
            figures["memory_gb"] = round(peak / 1e9, 3)
        if self._flops:
            figures["tflops"] = float(f"{self._flops * steps / max(seconds, 1e-9) / 1e12:.4g}")
        return figures

    def write(self, line: Mapping[str, Any], group: str = "run") -> None:
        """A line of the log, ``step`` among its keys, as points of curves."""
        if self._writer is None:
            return
        for name, value in line.items():
            if name not in ("step", "seconds") and isinstance(value, int | float):
                tag = f"loss/{name}" if name.startswith("loss") else f"{group}/{name}"
                self._writer.add_scalar(tag, value, line["step"])
        self._writer.flush()

    def show(self, name: str, picture: Picture, step: int) -> None:
        """A picture under a name."""
        if self._writer is not None:
            self._writer.add_image(name, picture, step, dataformats="HWC")
            self._writer.flush()

    def close(self) -> None:
        """Write no more."""
        if self._writer is not None:
            self._writer.close()


def _step_flops(recipe: Recipe, device: torch.device) -> int:
    """What one process computes in a step, all micro-batches, see ``step_flops``; 0 where it cannot be counted."""
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):  # building a stage seeds all generators
            return step_memory(recipe, device, processes.count()).flops.total * recipe.accumulate
    except InputError:
        raise
    except Exception as error:  # training does not depend on it
        _LOG.warning("TFLOP/s are not recorded: a step cannot be counted (%s)", " ".join(str(error).split())[:200])
        return 0
