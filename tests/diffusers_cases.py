"""What tests of diffusers' own ways to load a model share: inputs that fit a model, whatever it is, and its frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from animate_anyone.conditions.environment import empty
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.scene import SceneInputs

FRAMES = 5


def inputs_for(pipeline: AnimateAnyonePipeline, seed: int = 0) -> dict[str, Any]:
    """Noise of the right sizes: what a call takes, beside settings."""
    random, (width, height) = np.random.default_rng(seed), tuple(pipeline.config["size"])

    def noise(size: tuple[int, int], *frames: int) -> NDArray[np.uint8]:
        return random.integers(0, 256, (*frames, size[1], size[0], 3), np.uint8)

    drawn = pipeline.pose_picture_size((width, height))
    given: dict[str, Any] = {"reference": noise((width, height)), "poses": noise(drawn, FRAMES)}
    if pipeline.config["reference_pose"]:
        given["reference_pose"] = noise(drawn)
    if pipeline.config["carried_reference"]:
        given["carried"] = noise((width, height), FRAMES)
    if isinstance(pipeline, AnimateAnyone2Pipeline):
        source, mask = noise((width, height), FRAMES), np.zeros((FRAMES, height, width), bool)
        objects = mask.copy()
        mask[:, 16:48, 24:40] = objects[1:4, 30:44, 40:52] = True
        depth = random.random((FRAMES, drawn[1], drawn[0])).astype(np.float32)
        given["scene"] = SceneInputs(empty(source, mask), mask, empty(source, ~objects), objects, depth)
    return given


def frames_of(pipeline: AnimateAnyonePipeline, seed: int = 0, **settings: Any) -> NDArray[np.uint8]:
    """What a pipeline makes of :func:`inputs_for`."""
    pipeline.set_progress_bar_config(disable=True)
    given = inputs_for(pipeline) | settings
    places = [given.pop(name) for name in ("reference", "poses", "scene") if name in given]
    frames: NDArray[np.uint8] = pipeline(*places, **given, generator=torch.Generator().manual_seed(seed)).frames
    return frames


def weights(folder: Path, part: str) -> Path:
    """The first file with a network's weights."""
    return min((folder / part).glob("*.safetensors"))
