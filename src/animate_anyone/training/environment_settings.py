"""A recipe's settings of Animate Anyone 2."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from animate_anyone.conditions.rescale_character import LARGEST, SMALLEST
from animate_anyone.errors import InputError
from animate_anyone.training.temporal_reference_settings import TemporalReferenceSettings


@dataclass(frozen=True)
class Environment:
    """Animate Anyone 2 (section 3): what a clip is split into, and how the networks are given it.

    Attributes:
        formulation: what of the person's mask is taken out of the environment, see ``conditions.environment``.
        scaled_share: share of clips whose character, with its objects, is larger or smaller than its mask was.
        smallest_scale, largest_scale: bounds of that.
        object_blending: how spatial blending of the objects starts; ``none`` goes without objects, ``input`` merges
            them with the noise latents (the paper's ablation).
        blending_place: what is blended: the ``hidden`` state after the residual of spatial attention (the paper), or
            what ``attention`` adds to it.
        blending_levels: where: levels with spatial ``attention`` (the paper), or ``all``, see ``spatial_blending``.
        object_latents: what the object guider is given: latents of the objects ``alone`` (the paper), or the
            ``changes`` that they make to the first guess (ours).
        object_weight: how much more errors on objects count, on top of ``objective.person_weight``.
        new_objects: object guider and blending start anew, whatever the model to start from has of them.
        guess_objects: share of clips whose first guess (ours) holds the objects; in the others they come by the object
            guider alone.
        reference_blocks: where the reference is attended to.
        pose_modulation: structured depth joins the Pose Guider's features; without, they are those of Animate Anyone.
        modulation: ``PoseModulation``'s keys beyond ``PoseGuider``'s, where the networks are new.
        temporal_reference: the frames before a clip, which temporal layers learn to go on from.
    """

    formulation: Literal["shape_agnostic", "box", "exact"] = "shape_agnostic"
    scaled_share: float = 0.5
    smallest_scale: float = SMALLEST
    largest_scale: float = LARGEST
    object_blending: Literal["none", "input", "paper", "identity"] = "paper"
    blending_place: Literal["hidden", "attention"] = "hidden"
    blending_levels: Literal["attention", "all"] = "attention"
    object_latents: Literal["alone", "changes"] = "alone"
    object_weight: float = 0.0
    new_objects: bool = False
    guess_objects: float = 1.0
    reference_blocks: Literal["mid_up", "all"] = "mid_up"
    pose_modulation: bool = True
    modulation: dict[str, Any] = field(default_factory=dict)
    temporal_reference: TemporalReferenceSettings = field(default_factory=TemporalReferenceSettings)

    def __post_init__(self) -> None:
        if not 0 <= self.scaled_share <= 1:
            raise InputError(f"recipe: environment.scaled_share is {self.scaled_share}; it must lie in [0, 1]")
        if not 0 <= self.guess_objects <= 1:
            raise InputError(f"recipe: environment.guess_objects is {self.guess_objects}; it must lie in [0, 1]")
        if not 0 <= self.object_weight < math.inf:
            raise InputError(f"recipe: environment.object_weight is {self.object_weight}; it must be at least 0")
        if not 0 < self.smallest_scale <= self.largest_scale < math.inf:
            raise InputError(
                f"recipe: environment.smallest_scale is {self.smallest_scale}; it must be above 0 and at most "
                f"environment.largest_scale, {self.largest_scale}"
            )
