"""Animate Anyone as blocks of diffusers' Modular Diffusers: encode, denoise, decode.

Each is one method of :class:`~animate_anyone.sampling.pipeline.AnimateAnyonePipeline`, called on the components of the
modular pipeline: frames are those of the pipeline, bit for bit. A block needs no networks but its own.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DDIMScheduler, ModularPipeline
from diffusers.modular_pipelines import (
    ComponentSpec,
    ConfigSpec,
    InputParam,
    ModularPipelineBlocks,
    OutputParam,
    PipelineState,
    SequentialPipelineBlocks,
)

from animate_anyone.models.folder import ALL_NETWORKS
from animate_anyone.sampling.clip_conditions import ClipConditions
from animate_anyone.sampling.modular_parts import options_of, pipeline_of
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.speed import EXACT, Speed

_KINDS: dict[str, Any] = {**ALL_NETWORKS, "scheduler": DDIMScheduler}
SPEED = InputParam("speed", Speed, EXACT, description="Trade-offs, what is left out; nothing by default.")
CONDITIONS = InputParam(
    "conditions",
    ClipConditions,
    required=True,
    description="What the encode block made of a clip. May be denoised again, with another seed or other settings.",
)
PICTURES = [
    InputParam(
        "reference",
        np.ndarray,
        required=True,
        description="The character, (height, width, 3) uint8, at the size of the video.",
    ),
    InputParam(
        "poses",
        np.ndarray,
        required=True,
        description="As many pose pictures as there shall be frames, (frames, h, w, 3) uint8, or a sequence of them.",
    ),
    InputParam(
        "reference_pose",
        np.ndarray,
        description="The pose picture of the reference; needed where the model's option reference_pose is set.",
    ),
    InputParam(
        "carried",
        np.ndarray,
        description="One picture a pose, of the reference's size, for models with a first guess.",
    ),
]
DENOISING = [
    CONDITIONS,
    InputParam("num_inference_steps", int, description="DDIM steps; the model's own where it is not given."),
    InputParam("guidance_scale", float, description="Weight of classifier-free guidance; 1 turns it off."),
    InputParam("window", int, description="Frames denoised together."),
    InputParam("overlap", int, description="Frames that a window shares with the next."),
    InputParam("window_batch", int, 1, description="Windows computed at once; changes speed and memory only."),
    SPEED,
]
STARTING = [
    InputParam("generator", torch.Generator, description="For the initial noise."),
    InputParam("noise", torch.Tensor, description="Initial noise in its place, (1, channels, frames, h, w)."),
    InputParam("callback_on_step_end", description="As in a call of the pipeline."),
    InputParam("progress", description="An animate_anyone.progress.Progress in place of diffusers' bar."),
]


class _Step(ModularPipelineBlocks):  # type: ignore[misc]
    """What the three blocks share.

    Attributes:
        kind: the pipeline whose method it is.
        needs: components without which it cannot work, where the model has them.
    """

    model_name = "animate-anyone"
    kind: ClassVar[type[AnimateAnyonePipeline]] = AnimateAnyonePipeline
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def expected_components(self) -> list[ComponentSpec]:
        return [ComponentSpec(name, _KINDS[name]) for name in self.needs]

    @property
    def expected_configs(self) -> list[ConfigSpec]:
        return [
            ConfigSpec(name, default, f"As in {self.kind.__name__}.") for name, default in options_of(self.kind).items()
        ]

    def pipeline(self, components: ModularPipeline) -> Any:
        """The pipeline that has these components."""
        return pipeline_of(self.kind, components, self.needs)

    def taken(self, state: PipelineState, *names: str) -> dict[str, Any]:
        """The inputs of these names, or all, as far as they are given."""
        given = self.get_block_state(state).as_dict()
        return {name: value for name, value in given.items() if value is not None and (not names or name in names)}


class AnimateAnyoneEncodeStep(_Step):
    """``AnimateAnyonePipeline.encode``."""

    needs: ClassVar[tuple[str, ...]] = (
        "image_encoder",
        "vae",
        "pose_guider",
        "reference_net",
        "reference_control",
        "reference_resnet",
        "denoising_unet",
    )

    @property
    def description(self) -> str:
        return (
            "Encodes the reference (CLIP image token, VAE latents, ReferenceNet's features as keys and values of the "
            "denoising UNet), the poses (Pose Guider) and the first guess, once for any number of results."
        )

    @property
    def inputs(self) -> list[InputParam]:
        size = InputParam("size", tuple, description="(width, height) of the video; the reference's if not given.")
        return [*PICTURES, size, SPEED]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("conditions", ClipConditions, "What the networks are given of the clip.")]

    @torch.no_grad()
    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        conditions = self.pipeline(components).encode(**self.taken(state))
        conditions.make_all()
        state.set("conditions", conditions)
        return components, state


class AnimateAnyoneDenoiseStep(_Step):
    """``AnimateAnyonePipeline.denoise``."""

    needs = ("denoising_unet", "reference_control", "scheduler")

    def __init__(self) -> None:
        super().__init__()
        self._bar: dict[str, Any] = {}

    def set_progress_bar_config(self, **settings: Any) -> None:
        """As that of diffusers' pipelines."""
        self._bar = settings

    @property
    def description(self) -> str:
        return "Denoises the clip in overlapping windows (temporal aggregation), under guidance if asked for."

    @property
    def inputs(self) -> list[InputParam]:
        stride = InputParam("window_stride", int, 1, description="For models whose windows wrap round.")
        return [*DENOISING, stride, *STARTING]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        about = "Without noise, (1, channels, frames, h, w), float32."
        return [OutputParam("latents", torch.Tensor, about)]

    @torch.no_grad()
    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        pipeline, given = self.pipeline(components), self.taken(state)
        pipeline.set_progress_bar_config(**self._bar)
        state.set("latents", pipeline.denoise(latents=given.pop("noise", None), **given))
        return components, state


class AnimateAnyoneDecodeStep(_Step):
    """``AnimateAnyonePipeline.decode``."""

    needs = ("vae",)

    @property
    def description(self) -> str:
        return "Decodes latents to frames; puts back the detail of the first guess where the model does so."

    @property
    def inputs(self) -> list[InputParam]:
        latents = InputParam("latents", torch.Tensor, required=True, description="What the denoise block made.")
        about = "What the latents were denoised with; without it no detail of a first guess is put back."
        return [latents, InputParam("conditions", ClipConditions, description=about)]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("frames", np.ndarray, "(frames, height, width, 3) uint8.")]

    @torch.no_grad()
    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        given = self.taken(state)
        guess = given["conditions"].guess if "conditions" in given else None
        state.set("frames", np.stack(list(self.pipeline(components).decode(given["latents"], guess=guess))))
        return components, state


class AnimateAnyoneBlocks(SequentialPipelineBlocks):  # type: ignore[misc]
    """Animate Anyone (arXiv 2311.17117): a picture and pose pictures in, frames out."""

    block_classes: ClassVar[list[type]] = [AnimateAnyoneEncodeStep, AnimateAnyoneDenoiseStep, AnimateAnyoneDecodeStep]
    block_names: ClassVar[list[str]] = ["encode", "denoise", "decode"]

    @property
    def description(self) -> str:
        return "Animate Anyone: a picture of a character and pose pictures become a video."
