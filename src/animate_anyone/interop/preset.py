"""What belongs to published weights besides the weights: how they were trained and are sampled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from animate_anyone.models.pipeline_options import ANIMATE_ANYONE

# DDIM as all published weights of the field have it; which betas differs.
SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": True,
}


MOTION_HEADS = 8
"""Heads of the temporal layers of all published weights; no file says it."""


@dataclass(frozen=True)
class Preset:
    """How one project's weights are sampled.

    Attributes:
        project: whose weights they are.
        beta_schedule: ``linear`` or ``scaled_linear``.
        other_schedule: what else is in use for the same weights, and where; empty if nothing is.
        size: ``(width, height)`` that its examples use.
        window: frames.
        positions: of the temporal layers, where the file holds no table of them.
    """

    project: str
    beta_schedule: str
    other_schedule: str = ""
    size: tuple[int, int] = (512, 784)
    window: int = 24
    positions: int | None = None

    def pipeline_options(self) -> dict[str, Any]:
        """For ``model_index.json``: all that reproduces the project's own sampler."""
        return {
            **ANIMATE_ANYONE,
            "size": list(self.size),
            "window": self.window,
            "overlap": 4,
            "aggregation": "wrap",
            "stretch": True,
            "reference_control": [None, None],
            "reference_resnet": [None, None],
        }


MOORE = Preset("Moore-AnimateAnyone", "linear", other_schedule="its training says scaled_linear")
# Moore's files; the Pose Guider has the paper's widths.
NOVITA = replace(MOORE, project="novita-ai/AnimateAnyone")
NOVITA_GUIDER_WIDTHS = (16, 32, 64, 128)
# Moore's files, longer windows; the position tables are not in the files.
MUSEPOSE = Preset("MusePose", "scaled_linear", size=(512, 768), window=48, positions=128)
