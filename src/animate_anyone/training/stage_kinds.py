"""Which class trains which stage."""

from __future__ import annotations

from animate_anyone.training.autoencoder import AutoencoderStage, ImageEncoderStage
from animate_anyone.training.stage_distil import DistilStage
from animate_anyone.training.stage_environment import EnvironmentStage
from animate_anyone.training.stage_image import ImageStage
from animate_anyone.training.stage_motion import MotionStage

STAGES: dict[str, type] = {
    "autoencoder": AutoencoderStage,
    "image_encoder": ImageEncoderStage,
    "image": ImageStage,
    "motion": MotionStage,
    "environment": EnvironmentStage,
    "distil": DistilStage,
}
