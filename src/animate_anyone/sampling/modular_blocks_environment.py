"""Animate Anyone 2 as blocks of Modular Diffusers; what differs from :mod:`animate_anyone.sampling.modular_blocks`."""

from __future__ import annotations

from typing import ClassVar

from diffusers.modular_pipelines import InputParam, SequentialPipelineBlocks

from animate_anyone.sampling.modular_blocks import (
    DENOISING,
    PICTURES,
    SPEED,
    STARTING,
    AnimateAnyoneDecodeStep,
    AnimateAnyoneDenoiseStep,
    AnimateAnyoneEncodeStep,
)
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.scene import SceneInputs


class AnimateAnyone2EncodeStep(AnimateAnyoneEncodeStep):
    """``AnimateAnyone2Pipeline.encode``."""

    kind = AnimateAnyone2Pipeline
    needs = (*AnimateAnyoneEncodeStep.needs, "pose_modulation", "object_guider")

    @property
    def description(self) -> str:
        return f"{super().description} The environment, its mask and the objects are encoded too."

    @property
    def inputs(self) -> list[InputParam]:
        about = "The environment, the region to fill, the objects and the structured depth."
        return [*PICTURES, InputParam("scene", SceneInputs, required=True, description=about), SPEED]


class AnimateAnyone2DenoiseStep(AnimateAnyoneDenoiseStep):
    """``AnimateAnyone2Pipeline.denoise``."""

    kind = AnimateAnyone2Pipeline

    @property
    def description(self) -> str:
        return "Denoises the clip in overlapping windows, or in segments of which each goes on from the one before."

    @property
    def inputs(self) -> list[InputParam]:
        about = "0, or frames of each segment that are the last of those before."
        return [*DENOISING, InputParam("continuation", int, 0, description=about), *STARTING]


class AnimateAnyone2DecodeStep(AnimateAnyoneDecodeStep):
    """``AnimateAnyone2Pipeline.decode``."""

    kind = AnimateAnyone2Pipeline


class AnimateAnyone2Blocks(SequentialPipelineBlocks):  # type: ignore[misc]
    """Animate Anyone 2 (arXiv 2502.06145): a picture, pose pictures and a scene in, frames out."""

    block_classes: ClassVar[list[type]] = [
        AnimateAnyone2EncodeStep,
        AnimateAnyone2DenoiseStep,
        AnimateAnyone2DecodeStep,
    ]
    block_names: ClassVar[list[str]] = ["encode", "denoise", "decode"]

    @property
    def description(self) -> str:
        return "Animate Anyone 2: a character in the place of a video's person, in that video's environment."
