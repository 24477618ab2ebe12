"""Model folders as modular pipelines: the blocks give the frames of the pipelines, and work singly."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ModularPipeline
from diffusers.modular_pipelines import SequentialPipelineBlocks
from diffusers.utils import dynamic_modules_utils
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

import tiny
from animate_anyone.errors import InputError
from animate_anyone.models.folder import ALL_NETWORKS
from animate_anyone.models.shipped import SHIPPED, shipped_folder
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.modular_blocks import (
    AnimateAnyoneBlocks,
    AnimateAnyoneDecodeStep,
    AnimateAnyoneDenoiseStep,
    AnimateAnyoneEncodeStep,
)
from animate_anyone.sampling.modular_blocks_environment import AnimateAnyone2Blocks
from diffusers_cases import frames_of, inputs_for, weights


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers copies a folder's code to a cache and runs it there; and asks nobody on the net."""
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the net was asked"))


def modular(folder: Path) -> Any:
    """As a user types it."""
    pipeline = ModularPipeline.from_pretrained(str(folder), trust_remote_code=True)
    pipeline.load_components()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("model", SHIPPED)
def test_frames_of_the_shipped_models(model: str) -> None:
    pipeline = load_pipeline(model, "cpu")
    want = frames_of(pipeline, seed=3)
    made: NDArray[np.uint8] = modular(shipped_folder(model))(
        **inputs_for(pipeline), generator=seeded(3), output="frames"
    )
    assert np.array_equal(made, want)
    assert not np.array_equal(frames_of(pipeline, seed=4), want)


def test_frames_under_guidance_in_windows(tiny_model: Path) -> None:
    pipeline = load_pipeline(tiny_model, "cpu")
    settings = {"num_inference_steps": 2, "guidance_scale": 3.0, "window": 4, "overlap": 2, "window_batch": 2}
    want = frames_of(pipeline, **settings)
    state = modular(tiny_model)(**inputs_for(pipeline), **settings, generator=seeded(0))
    assert np.array_equal(state.frames, want)
    assert state.latents.shape == (1, 4, len(want), 8, 8)


def test_segments_of_animate_anyone_2(tmp_path: Path) -> None:
    tiny.environment_pipeline().save_pretrained(tmp_path / "model")
    pipeline = load_pipeline(tmp_path / "model", "cpu")
    settings = {"num_inference_steps": 2, "guidance_scale": 1.0, "window": 4, "continuation": 2}
    want = frames_of(pipeline, **settings)
    given = inputs_for(pipeline)
    made = modular(tmp_path / "model")
    assert np.array_equal(made(**given, **settings, generator=seeded(0), output="frames"), want)
    assert not np.array_equal(made(**given, **settings | {"continuation": 0}, output="frames"), want)


def test_encode_once_and_denoise_with_two_seeds(tiny_model: Path) -> None:
    """By blocks that each have a pipeline of their own, with their own components alone."""
    pipeline = load_pipeline(tiny_model, "cpu")
    given, settings = inputs_for(pipeline), {"num_inference_steps": 2}
    encoder, denoiser, decoder = (
        step().init_pipeline(str(tiny_model))
        for step in (AnimateAnyoneEncodeStep, AnimateAnyoneDenoiseStep, AnimateAnyoneDecodeStep)
    )
    for one in (encoder, denoiser, decoder):
        one.load_components()
    assert (set(denoiser.component_names), decoder.component_names) == (
        {"denoising_unet", "reference_control", "scheduler"},
        ["vae"],
    )
    conditions = encoder(**given, output="conditions")
    encoder.unload_components(["pose_guider", "reference_net", "image_encoder"])
    for seed in (0, 1):
        latents = denoiser(conditions=conditions, **settings, generator=seeded(seed), output="latents")
        frames = decoder(latents=latents, conditions=conditions, output="frames")
        assert np.array_equal(frames, frames_of(pipeline, seed=seed, **settings))
    assert np.array_equal(decoder(latents=latents, output="frames"), frames)


def test_a_state_goes_on(tiny_model: Path) -> None:
    """The state of one call, conditions included, into the blocks that are left."""
    pipeline = load_pipeline(tiny_model, "cpu")
    whole, settings = modular(tiny_model), {"num_inference_steps": 2}
    state = whole(**inputs_for(pipeline), **settings, generator=seeded(0))
    rest: Any = whole.blocks
    rest.sub_blocks.pop("encode")
    later = rest.init_pipeline(str(tiny_model))
    later.update_components(**{name: part for name, part in whole.components.items() if name in later.component_names})
    again = later(state=state, generator=seeded(1), output="frames")
    assert np.array_equal(again, frames_of(pipeline, seed=1, **settings))


@pytest.mark.parametrize("blocks", [AnimateAnyoneBlocks, AnimateAnyone2Blocks])
def test_everything_is_described(blocks: type[SequentialPipelineBlocks]) -> None:
    made = blocks()
    for one in (made, *made.sub_blocks.values()):
        assert one.description and "TODO" not in one.doc
        for param in (*one.inputs, *one.intermediate_outputs):
            assert param.description.endswith("."), param
    parts = {spec.name: spec.type_hint for spec in made.expected_components if spec.name != "scheduler"}
    own = set(ALL_NETWORKS) - ({"pose_modulation", "object_guider"} if blocks is AnimateAnyoneBlocks else set())
    assert parts == {name: ALL_NETWORKS[name] for name in own}
    assert {"reference", "poses"} <= set(made.required_inputs) and "frames" in made.output_names


@pytest.mark.parametrize("part", ["denoising_unet", "image_encoder", "vae"])
def test_damaged_weights_are_refused(part: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    given = inputs_for(load_pipeline(folder, "cpu"))
    file = weights(folder, part)
    tensors = load_file(file)
    tensors.pop(max(tensors))
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"{part} has no "):
        modular(folder)(**given)


def test_what_is_not_loaded_is_told(tiny_model: Path) -> None:
    given = inputs_for(load_pipeline(tiny_model, "cpu"))
    pipeline = ModularPipeline.from_pretrained(str(tiny_model), trust_remote_code=True)
    with pytest.raises(InputError, match=r"image_encoder is not loaded; call load_components\(\)"):
        pipeline(**given)


def test_code_is_not_run_unasked(tiny_model: Path) -> None:
    with pytest.raises(ValueError, match="trust_remote_code"):
        ModularPipeline.from_pretrained(str(tiny_model))
