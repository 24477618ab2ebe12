"""The estimate of memory for Animate Anyone 2, held against what real tensors and pictures take."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import replaced
import tiny
from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.sampling import memory
from animate_anyone.sampling.loading import load_shapes
from animate_anyone.sampling.memory import MARGIN, PROCESS, Estimate, estimate, parts_of
from animate_anyone.sampling.memory_environment import disk_bytes, picture_bytes
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.placement import Work
from animate_anyone.sampling.scene import SceneInputs
from animate_anyone.structures import MaskTrack, Scene, Subject
from animate_anyone.system.frame_sequence import KEPT_BYTES, FrameSequence, MadeFrames, stored
from animate_anyone.system.frame_store import FrameStore
from animate_anyone.workflows.scene_conditions import make_conditions
from plain_forms import take_plain_forms

WORK = Work(size=(64, 64), frames=20, window=8, steps=2, dtype=torch.float32, objects=True)
PHASES = {"_begin": "reference", "_decode_together": "decoding"}


def activations(needs: Estimate, phase: str) -> int:
    return max(step.activations for step in needs.steps if step.phase == phase)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> AnimateAnyone2Pipeline:
    folder = tmp_path_factory.mktemp("aa2") / "model"
    tiny.environment_pipeline().save_pretrained(folder)
    pipeline = load_shapes(folder)
    assert isinstance(pipeline, AnimateAnyone2Pipeline)
    return pipeline


def real_peaks(pipeline: AnimateAnyone2Pipeline, work: Work, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Phase -> the most that was alive in it, where the pipeline itself works with values; what is in no phase of its
    own is denoising."""
    peaks = dict.fromkeys((*PHASES.values(), "denoising"), 0)
    take_plain_forms(monkeypatch)
    drawn = np.zeros((work.frames, 128, 128, 3), np.uint8)
    clip = np.zeros((work.frames, 64, 64, 3), np.uint8)
    shown = np.ones((work.frames, 64, 64), bool)
    config = pipeline.config
    with memory._Alive(pipeline) as alive:

        def reached(phase: str) -> None:
            peaks[phase], alive.peak = max(peaks[phase], alive.peak), alive.now

        def watched(phase: str, method: Callable[..., Any]) -> Callable[..., Any]:
            def call(*told: Any, **more: Any) -> Any:
                reached("denoising")
                result = method(*told, **more)
                reached(phase)
                return result

            return call

        for name, phase in PHASES.items():
            monkeypatch.setattr(pipeline, name, watched(phase, getattr(pipeline, name)))
        for _ in pipeline.stream(
            clip[0],
            drawn,
            SceneInputs(
                clip,
                shown,
                clip if work.objects else None,
                shown if work.objects else None,
                np.zeros(drawn.shape[:3], np.float32) if config["uses_depth"] else None,
            ),
            reference_pose=drawn[0] if config["reference_pose"] else None,
            carried=clip if config["carried_reference"] else None,
            num_inference_steps=2,
            guidance_scale=2.0 if work.guided else 1.0,
        ):
            pass
        reached("denoising")
    return peaks


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize(
    ("options", "objects"),
    [
        ({}, True),
        ({}, False),
        ({"object_blending": "none"}, False),
        ({"modulated": False}, True),
        ({"reference_latents": True, "carried_reference": True, "keep_detail": True}, True),
    ],
    ids=str,
)
def test_peaks_are_what_real_tensors_take(
    options: dict[str, Any], objects: bool, guided: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = tiny.environment_pipeline(**options)
    pipeline.set_progress_bar_config(disable=True)
    work = dataclasses.replace(WORK, guided=guided, objects=objects)
    real = real_peaks(pipeline, work, monkeypatch)
    for part in parts_of(pipeline):
        getattr(pipeline, part).to("meta")
    needs = estimate(pipeline, work)
    # Poses and the scene are encoded when a window needs them, between its steps.
    between = max(activations(needs, phase) for phase in ("reference", "poses", "scene", "denoising"))
    assert activations(needs, "reference") >= 0.9 * real["reference"]
    assert between == pytest.approx(real["denoising"], rel=0.06)
    assert activations(needs, "decoding") == pytest.approx(real["decoding"], rel=0.06)


def test_weights_and_order(shapes: AnimateAnyone2Pipeline) -> None:
    needs = estimate(shapes, WORK)
    order = ["image_encoder", "reference_net", "pose_modulation", "object_guider", "denoising_unet", "vae"]
    assert list(needs.weights) == order
    for part, size in needs.weights.items():
        assert size == 4 * sum(weight.numel() for weight in getattr(shapes, part).state_dict().values()), part
    bare = dataclasses.replace(needs, steps=tuple(dataclasses.replace(step, activations=0) for step in needs.steps))
    # Offloaded, each network sends back the one before it in that order.
    there = {
        "poses": ("pose_modulation", "denoising_unet", "vae"),
        "scene": ("pose_modulation", "vae"),
        "denoising": ("denoising_unet", "vae"),
        "decoding": ("vae",),
    }
    offloaded = bare.phases("model")
    assert {phase: offloaded[phase] for phase in there} == {
        phase: sum(needs.weights[part] for part in parts) for phase, parts in there.items()
    }


def test_what_waits_of_the_frames_at_work(shapes: AnimateAnyone2Pipeline) -> None:
    needs = estimate(shapes, WORK)
    levels = 16 * 8 * 8 + 32 * 4 * 4  # of the object guider, channels and cells
    assert needs.pose_features == 20 * 16 * 8 * 8 * 4
    assert needs.scene == 20 * (4 * 8 * 8 + 8 * 8 + levels) * 4
    bare = estimate(shapes, dataclasses.replace(WORK, objects=False))
    assert needs.scene - bare.scene == 20 * levels * 4
    assert {step.network for step in needs.steps} - {step.network for step in bare.steps} == {"object_guider"}
    assert activations(bare, "denoising") < activations(needs, "denoising")
    half = estimate(shapes, dataclasses.replace(WORK, dtype=torch.float16))
    assert half.scene == 20 * ((4 * 8 * 8 + levels) * 2 + 8 * 8 * 4)  # the mask is float32
    long = estimate(shapes, dataclasses.replace(WORK, frames=40))
    assert long.scene == needs.scene * 24 // 20, "a window at each step, and one that is decoded"
    latents = (20 + 4) * 4 * 8 * 8 * 4  # noise, and frames at work
    assert activations(long, "poses") == activations(needs, "poses") + latents, "chunks"
    short = estimate(shapes, dataclasses.replace(WORK, frames=4, window=4))
    assert activations(short, "poses") < 0.6 * activations(needs, "poses")


def test_sums(shapes: AnimateAnyone2Pipeline) -> None:
    needs = estimate(shapes, dataclasses.replace(WORK, pictures=10**9))
    weights = sum(needs.weights.values())
    assert needs.phases()["scene"] == weights + MARGIN["scene"] * activations(needs, "scene")
    assert needs.beside_gpu() == PROCESS["cpu"] + 10**9 + weights
    assert needs.on_gpu() == estimate(shapes, WORK).on_gpu(), "pictures stay in the machine's memory"
    assert needs.on_cpu() == pytest.approx(estimate(shapes, WORK).on_cpu() + 10**9)
    large = dataclasses.replace(needs, scene=weights)
    assert large.beside_gpu() == PROCESS["cpu"] + 10**9 + needs.pose_features + needs.guess + weights
    larger = dataclasses.replace(needs, scene=2 * weights)
    assert larger.on_cpu() - large.on_cpu() == pytest.approx(weights)


@pytest.mark.parametrize("objects", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"modulated": False}, {"reference_latents": True, "carried_reference": True}], ids=str
)
def test_pictures_are_those_that_are_held(
    options: dict[str, Any], objects: bool, dancers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[FrameStore]] = []
    make = FrameStore.__init__

    def counted(self: FrameStore, kept: int) -> None:
        make(self, kept)
        made.append(weakref.ref(self))

    monkeypatch.setattr(FrameStore, "__init__", counted)
    pipeline, pose = tiny.environment_pipeline(**options), replaced.Truth(dancers).dance
    frames = np.zeros((len(pose), *pose.size[::-1], 3), np.uint8)
    masks = np.zeros(frames.shape[:3], bool)
    masks[:, 40:200, 60:120] = True
    sizes = [(64, 64), (96, 96)] if pipeline.config["carried_reference"] else [(64, 64)]
    work = Work(size=(64, 64), frames=len(pose), window=8, objects=objects)
    for size in sizes:
        tracks = [MaskTrack(stored(MadeFrames(len(masks), masks.shape[1:], bool, masks.__getitem__)), "person")]
        if objects:
            tracks.append(MaskTrack(stored(tracks[0].masks), "ball"))  # type: ignore[arg-type]
        scene = Scene(frames, pose, tracks[0], tuple(tracks[1:]))
        subject = Subject(frames[0], None, masks[0])
        conditions = make_conditions(scene, subject, Letterbox.stretched(size), work.size, pipeline)
        for sequence in vars(conditions).values():
            if isinstance(sequence, FrameSequence):
                list(sequence)
        for picture in conditions.first_guess or ():
            assert picture.shape == (size[1], size[0], 3)
        gc.collect()
        stores = [store for ref in made if (store := ref()) is not None and len(store)]
        held = sum(len(store) * store[0].nbytes for store in stores)
        assert disk_bytes(pipeline, work, pose.size, size) == held, size
        # A clip of any length holds no more than some of each kind.
        few = picture_bytes(pipeline, work, pose.size, size)
        many, more = (
            picture_bytes(pipeline, dataclasses.replace(work, frames=count), pose.size, size)
            for count in (10**4, 10**6)
        )
        assert held < few < many == more == KEPT_BYTES * len(stores) + 2 * frames[0].nbytes
        del conditions, scene, tracks, sequence, stores
