"""Which parts of a stage's networks a recipe may freeze."""

from __future__ import annotations

from collections.abc import Sequence

from animate_anyone.errors import InputError

TEMPORAL, SPATIAL = "temporal_layers", "denoising_unet"
PARTS = (
    *(SPATIAL, TEMPORAL, "pose_guider", "pose_modulation", "object_guider"),
    *("reference_net", "reference_resnet", "reference_control"),
)
"""Their names: networks of a model, but that ``denoising_unet`` is without its ``temporal_layers``."""
STAGES = ("image", "motion", "environment")


def check_frozen(frozen: Sequence[str] | None, stage: str) -> None:
    """Raises :class:`InputError` where a recipe's ``frozen`` says what no model has, or is given to another stage."""
    if frozen is None:
        return
    if stage not in STAGES:
        raise InputError(f"recipe: frozen goes with stage {', '.join(STAGES)}, not {stage}; leave it out")
    for name in frozen:
        if name not in PARTS:
            raise InputError(f"recipe: frozen: {name!r} is no part; there are {', '.join(PARTS)}")
