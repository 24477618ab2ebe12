"""Both pipelines on a pretended GPU: no tensor of the CPU meets one of the GPU, and the frames are those of the CPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import tiny
from animate_anyone.conditions.environment import empty
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.placement import OFFLOADS, Placement
from animate_anyone.sampling.scene import SceneInputs
from pretended_gpu import pretended_gpu

FRAMES = 6
RANDOM = np.random.default_rng(0)
POSES = RANDOM.integers(0, 256, (FRAMES, 128, 128, 3), np.uint8)
PICTURES = RANDOM.integers(0, 256, (FRAMES, 64, 64, 3), np.uint8)
MASK = np.zeros((FRAMES, 64, 64), bool)
MASK[:, 16:48, 24:40] = True
HELD = np.zeros_like(MASK)
HELD[2:5, 30:44, 40:52] = True
NEAR = RANDOM.random((FRAMES, 128, 128)).astype(np.float32)
SCENE = {"scene": SceneInputs(empty(PICTURES, MASK), MASK, empty(PICTURES, ~HELD), HELD, NEAR)}
CARRIED = {"reference_latents": True, "carried_reference": True, "keep_detail": True}
KINDS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {  # maker, the model's options, the call's
    "plain": (tiny.pipeline, {}, {}),
    "shared_noise": (tiny.pipeline, {"shared_noise": True}, {"guidance_scale": 1.0}),
    "carried": (tiny.pipeline, CARRIED, {"carried": PICTURES}),
    "environment": (tiny.environment_pipeline, {}, SCENE),
    "segments": (tiny.environment_pipeline, {}, {**SCENE, "continuation": 3}),
    "environment_carried": (tiny.environment_pipeline, CARRIED, {**SCENE, "carried": PICTURES}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models; to be read only."""
    root = tmp_path_factory.mktemp("models")
    for name, (make, options, _) in KINDS.items():
        make(**options).save_pretrained(root / name)
    return {name: root / name for name in KINDS}


def frames(folder: Path, placement: Placement, **given: Any) -> NDArray[np.uint8]:
    pipeline = load_pipeline(folder, placement=placement)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        PICTURES[0],
        POSES,
        reference_pose=POSES[0],
        num_inference_steps=2,
        window=4,
        overlap=1,
        generator=torch.Generator().manual_seed(0),
        **given,
    )
    assert isinstance(made.frames, np.ndarray)
    return made.frames


@cache
def wanted(folder: Path, kind: str) -> NDArray[np.uint8]:
    """The frames of the CPU; to be read only."""
    return frames(folder, Placement("cpu"), **KINDS[kind][2])


def alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """But for rounding: what was moved may lie in memory in another way."""
    return bool((np.abs(one.astype(int) - other) <= 1).all())


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_those_of_the_cpu(folders: dict[str, Path], kind: str) -> None:
    given = KINDS[kind][2]
    right = wanted(folders[kind], kind)
    with pretended_gpu():
        assert alike(frames(folders[kind], Placement("cuda", "float32"), **given), right)


@pytest.mark.parametrize("kind", ["plain", "environment_carried"])
@pytest.mark.parametrize("offload", [name for name in OFFLOADS if name != "none"])
def test_offloading(folders: dict[str, Path], kind: str, offload: str) -> None:
    given = KINDS[kind][2]
    right = wanted(folders[kind], kind)
    with pretended_gpu():
        assert alike(frames(folders[kind], Placement("cuda", "float32", offload), **given), right)


def test_half_precision(folders: dict[str, Path]) -> None:
    with pretended_gpu():
        assert frames(folders["environment"], Placement("cuda", "float16"), **SCENE).shape == (FRAMES, 64, 64, 3)
