"""Stage two (Animate Anyone, section 3.3): clips in a row, the temporal layers alone are trained.

With a recipe's ``frozen: []`` all parts are trained with them, the two stages in one (the paper's ablation).
"""

from __future__ import annotations

from pathlib import Path

from animate_anyone.errors import InputError
from animate_anyone.training.frozen_settings import SPATIAL
from animate_anyone.training.stage_image import ImageStage


class MotionStage(ImageStage):
    """Temporal layers, everything else as the image stage left it."""

    def _build(self, init: Path) -> None:
        if not (init / "denoising_unet").exists() and (self.recipe.frozen is None or SPATIAL in self.recipe.frozen):
            raise InputError(
                f"{init}: has no denoising_unet/; train the image stage first, or all parts in one stage: frozen=[]"
            )
        super()._build(init)
        self.take_motion()

    def set_trainable(self) -> None:
        """The motion modules and nothing else, or all but what the recipe says is frozen."""
        if self.recipe.frozen is not None:
            super().set_trainable()
            return
        self.requires_grad_(False)
        for parameter in self.denoising_unet.motion_parameters():
            parameter.requires_grad_(True)

    @property
    def in_a_row(self) -> bool:
        """All frames of a clip."""
        return True
