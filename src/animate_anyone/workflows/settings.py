"""What can be set for every workflow, and the checks of it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from fractions import Fraction
from pathlib import Path

from animate_anyone.errors import InputError
from animate_anyone.perception import ESTIMATORS
from animate_anyone.sampling.placement import Placement
from animate_anyone.workflows.driving import KINDS

MAX_PERSON = 99
"""The largest number of a person that may be asked for."""


@dataclass(frozen=True)
class WorkflowSettings:
    """The settings of ``animate`` and ``replace`` alike; every field is an option of both commands.

    Attributes:
        model: a shipped model's name or a model folder.
        size: ``(width, height)`` that the model works at, multiples of 8; ``None`` takes the model's training size.
        steps: DDIM steps; ``None`` takes the model's default.
        guidance: weight of classifier-free guidance; ``None`` takes the model's default.
        seed: of the initial noise.
        frames: which frames of the video; ``None`` for all.
        pose_estimator: ``mediapipe`` or ``rtmlib``.
        person: which person of the video: 0 is the largest, 1 the next.
        window, overlap: windows of temporal aggregation, frames; ``None`` takes the model's default.
        window_batch: windows computed at once.
        device, dtype, offload, vae_tiling, attention, quantize: how the model is put onto this machine, as in
            :class:`~animate_anyone.sampling.placement.Placement`.
        keep: folder for intermediate results and the report.
    """

    model: str
    size: tuple[int, int] | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    frames: slice | None = None
    _: KW_ONLY
    pose_estimator: str = "mediapipe"
    person: int = 0
    window: int | None = None
    overlap: int | None = None
    window_batch: int = 1
    device: str = "auto"
    dtype: str = "auto"
    offload: str = "none"
    vae_tiling: bool = False
    attention: str = "auto"
    quantize: str = "none"
    keep: Path | None = None

    def __post_init__(self) -> None:
        if self.size is not None and any(side % 8 or not 64 <= side <= 4096 for side in self.size):
            raise InputError(f"size {self.size[0]}x{self.size[1]}: both must be multiples of 8, from 64 to 4096")
        if (self.steps is not None and self.steps < 1) or self.window_batch < 1:
            raise InputError("steps and window batch must be at least 1")
        if self.fps is not None and not 0 < self.fps <= 240:
            raise InputError(f"fps {self.fps}: give a number above 0, at most 240")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed {self.seed}: give a number from 0 to 2^63 - 1")
        check_name("pose estimator", self.pose_estimator, ESTIMATORS)
        check_name("kind of driver", self.driving_kind, KINDS)
        check_number("person", self.person, MAX_PERSON)
        _ = self.placement  # checks its own

    @property
    def fps(self) -> Fraction | None:
        """Frame rate of the result; ``None`` keeps the video's timing."""
        return None

    @property
    def driving_kind(self) -> str:
        """What the video shows, a name in ``driving.KINDS``."""
        return "auto"

    @property
    def placement(self) -> Placement:
        """How the model is put onto this machine."""
        return Placement(self.device, self.dtype, self.offload, self.vae_tiling, self.attention, self.quantize)


def check_name(what: str, name: str, names: tuple[str, ...]) -> None:
    """Raise :class:`InputError` for a name that is not one of ``names``; ``what`` is named."""
    if name not in names:
        raise InputError(f"there is no {what} {name!r}; there are: {', '.join(names)}")


def check_number(what: str, number: int, most: int) -> None:
    """Raise :class:`InputError` for a number that is not from 0 to ``most``; ``what`` is counted."""
    if not 0 <= number <= most:
        raise InputError(f"{what} {number}: give 0 to {most}")
