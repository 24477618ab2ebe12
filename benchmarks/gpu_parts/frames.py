"""Frames of the shipped models, made on the device and on the CPU."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.conditions.environment import empty, formulate
from animate_anyone.conditions.limb_depth import draw_limb_depth
from animate_anyone.conditions.retarget import retarget
from animate_anyone.errors import InputError
from animate_anyone.first_guess.character import CharacterFrames, figure_of
from animate_anyone.first_guess.collage import Collage
from animate_anyone.models.shipped import SHIPPED
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.scene import SceneInputs
from animate_anyone.synthetic.dataset import sample_clip
from animate_anyone.synthetic.scenes import character_picture, sample_scene_clip
from gpu_parts.measure import Machine, tensor_float_32
from gpu_parts.report import Part, Unit, brief

SEED = 0


def frames(machine: Machine) -> Part:
    """Both shipped models."""
    return Part(
        "Frames of the shipped models: device against CPU",
        "The same clip of the studio from the same noise, made on the CPU in float32 and on the device: differences of "
        "8-bit values (of 255), share of values that differ by more than 1, PSNR. Seconds: the call of the pipeline, "
        "decoding included; on the device the second call, the first has chosen its kernels. `float32` is as people "
        "run it: PyTorch lets convolutions round to TF32.",
        ["model, number type", "largest", "mean", "differ by more than 1", "PSNR, dB", "seconds"],
        [Unit(model, 3 if machine.tiny else 15, lambda model=model: rows(machine, model)) for model in SHIPPED],
    )


def rows(machine: Machine, model: str) -> Iterator[list[str]]:
    """One model: on the CPU, then in every number type on the device."""
    pipeline = load_pipeline(model, "cpu", "float32")
    size, count = ((64, 64), 2) if machine.tiny else (tuple(pipeline.config["size"]), 8)
    given = inputs(pipeline, size, count)
    truth, seconds = make(pipeline, given)
    yield [f"{model}, CPU, float32, {count} frames of {size[0]}x{size[1]}", "", "", "", "", f"{seconds:.2f}"]
    runs = [("float32", True), ("float16", True), ("bfloat16", True)]
    if machine.cuda:
        runs.insert(1, ("float32 without TF32", False))
    else:
        runs.pop(1)  # few CPUs compute in float16
    for name, rounding in runs:
        pipeline = load_pipeline(model, str(machine.device), name.split()[0])
        what = f"{model}, {machine.device.type}, {name}"
        try:
            if rounding:  # PyTorch's own setting
                pictures, seconds = _twice(machine, pipeline, given)
            else:
                with tensor_float_32(False):
                    pictures, seconds = _twice(machine, pipeline, given)
        except InputError as error:  # what is not finite in this number type
            yield [what, brief(error), "", "", "", ""]
        else:
            black = "" if pictures.any() else " (**all black**: values were not finite)"
            yield [what + black, *compare(pictures, truth), f"{seconds:.2f}"]


def _twice(machine: Machine, pipeline: AnimateAnyonePipeline, given: dict[str, Any]) -> tuple[NDArray[np.uint8], float]:
    if machine.cuda:
        make(pipeline, given)
        machine.wait()
    return make(pipeline, given)


def make(pipeline: AnimateAnyonePipeline, given: dict[str, Any]) -> tuple[NDArray[np.uint8], float]:
    """The frames ``(frames, height, width, 3)`` of a call, and how long it took."""
    pipeline.set_progress_bar_config(disable=True)
    since = time.perf_counter()
    made = pipeline(**given, generator=torch.Generator().manual_seed(SEED)).frames
    assert isinstance(made, np.ndarray)
    return made, time.perf_counter() - since


def compare(got: NDArray[np.uint8], want: NDArray[np.uint8]) -> list[str]:
    """Largest and mean difference, share of those above 1, PSNR in dB, as cells."""
    difference = np.abs(got.astype(np.int16) - want.astype(np.int16))
    square = float(np.square(difference.astype(np.float64)).mean())
    psnr = 10 * math.log10(255**2 / square) if square else math.inf
    return [f"{difference.max()}", f"{difference.mean():.4f}", f"{(difference > 1).mean():.3%}", f"{psnr:.1f}"]


def inputs(pipeline: AnimateAnyonePipeline, size: tuple[int, int], count: int) -> dict[str, Any]:
    """Arguments of a shipped model's call, from the studio: ``count`` frames of ``size`` (width, height)."""
    if isinstance(pipeline, AnimateAnyone2Pipeline):
        return scene_inputs(pipeline, size, count)
    config, drawn = pipeline.config, pipeline.pose_picture_size(size)
    character = sample_clip(SEED, split="held_out", num_frames=count, size=size, frame_indices=[0])
    dance = sample_clip(11, split="held_out", num_frames=count, motion="dance", size=size)
    picture, own = character.frames[0].cpu().numpy(), character.pose
    poses = retarget(dance.pose, own, size)
    given: dict[str, Any] = {
        "reference": picture,
        "poses": list(draw_pose(poses, drawn, style=config["skeleton_style"])),
    }
    if config["reference_pose"]:
        given["reference_pose"] = draw_pose(own, drawn, style=config["skeleton_style"])[0]
    if config["carried_reference"]:
        given["carried"] = list(CharacterFrames(picture, own, poses, silhouette=character.mask[0].cpu().numpy()))
    return given


def scene_inputs(pipeline: AnimateAnyone2Pipeline, size: tuple[int, int], count: int) -> dict[str, Any]:
    """The same for Animate Anyone 2: a character put back into its own scene."""
    config, drawn = pipeline.config, pipeline.pose_picture_size(size)
    scene = sample_scene_clip(SEED, split="held_out", num_frames=count, size=size)
    character = character_picture(SEED, split="held_out", num_frames=count, size=size)
    region = formulate(scene.mask.cpu().numpy(), config["formulation"])
    surroundings = empty(scene.frames.cpu().numpy(), region)
    held = scene.object_mask.cpu().numpy()
    things: tuple[Any, Any] = (None, None)
    if config["uses_objects"] and held.any():
        things = scene.object_frames.cpu().numpy(), held
    depth = draw_limb_depth(scene.pose, drawn, style=config["skeleton_style"]) if config["uses_depth"] else None
    given: dict[str, Any] = {
        "reference": character.picture,
        "poses": draw_pose(scene.pose, drawn, style=config["skeleton_style"]),
        "scene": SceneInputs(surroundings, region, *things, depth),
    }
    if config["reference_pose"]:
        assert character.pose is not None
        given["reference_pose"] = draw_pose(character.pose, drawn, style=config["skeleton_style"])[0]
    if config["carried_reference"]:
        given["carried"] = list(Collage(figure_of(character, scene.pose), scene.pose, surroundings, region, *things))
    return given
