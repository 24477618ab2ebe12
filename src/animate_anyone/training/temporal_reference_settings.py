"""What a recipe says of the frames before a clip (Animate Anyone 2, long video)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from animate_anyone.errors import InputError


@dataclass(frozen=True)
class TemporalReferenceSettings:
    """How temporal attention learns to see the frames before a clip, see ``models.temporal_reference``.

    Attributes:
        frames: before each clip: the first so many of ``data.frames_per_clip``; 0: none, nothing is trained for them.
        dropout: share of clips that are trained without, as the first segment of a video has none.
        noise: largest standard deviation of the noise on their latents, whose own is about 1; each clip draws its own.
            Frames that the model has made are not as clean as those that it is trained on.
    """

    frames: int = 0
    dropout: float = 0.2
    noise: float = 0.1

    def __post_init__(self) -> None:
        name = "recipe: environment.temporal_reference"
        if self.frames < 0:
            raise InputError(f"{name}.frames is {self.frames}; it must be at least 0")
        if not 0 <= self.dropout < 1:
            raise InputError(f"{name}.dropout is {self.dropout}; it must lie in [0, 1)")
        if not 0 <= self.noise < math.inf:
            raise InputError(f"{name}.noise is {self.noise}; it must be at least 0")

    def check_beside(self, consecutive: bool, frames_per_clip: int) -> None:
        """Hold these beside ``data``; raises :class:`InputError` where they do not go together."""
        if self.frames and not consecutive:
            raise InputError(
                f"recipe: environment.temporal_reference.frames is {self.frames}, which trains temporal layers; give "
                "data.consecutive=true"
            )
        if self.frames >= frames_per_clip:
            raise InputError(
                f"recipe: environment.temporal_reference.frames is {self.frames}, of data.frames_per_clip "
                f"{frames_per_clip}, and some must be left to predict; give more data.frames_per_clip"
            )
