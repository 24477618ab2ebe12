"""Model folders loaded by diffusers alone: ``DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER)``."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from diffusers.utils import dynamic_modules_utils
from safetensors.torch import load_file, save_file

import animate_anyone
import tiny
from animate_anyone.errors import InputError
from animate_anyone.models.diffusers_files import (
    BLOCK,
    BLOCKS_CONFIG,
    MODULAR_INDEX,
    PIPELINE,
    diffusers_files,
    write_diffusers_files,
)
from animate_anyone.models.shipped import SHIPPED, shipped_folder
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from diffusers_cases import frames_of, weights

FILES = (PIPELINE, BLOCK, BLOCKS_CONFIG, MODULAR_INDEX)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers copies a folder's code to a cache and runs it there; and asks nobody on the net."""
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the net was asked"))


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of a whole model, to be spoilt."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def by_diffusers(folder: Path, **options: Any) -> Any:
    """As a user types it."""
    return DiffusionPipeline.from_pretrained(
        str(folder), custom_pipeline=str(folder), trust_remote_code=True, **options
    )


@pytest.mark.parametrize("model", SHIPPED)
def test_shipped_folders(model: str, tmp_path: Path) -> None:
    """Both in one process, and saved again by the pipeline that diffusers made: bit for bit the same frames."""
    want = frames_of(load_pipeline(model, "cpu"))
    assert want.std() > 5
    pipeline = by_diffusers(shipped_folder(model))
    assert {network.dtype for network in pipeline.networks.values()} == {torch.float32}
    assert np.array_equal(frames_of(pipeline), want)
    pipeline.save_pretrained(tmp_path / "again")
    assert np.array_equal(frames_of(load_pipeline(tmp_path / "again", "cpu")), want)
    assert np.array_equal(frames_of(by_diffusers(tmp_path / "again")), want)


@pytest.mark.parametrize("model", SHIPPED)
def test_shipped_files_are_those_that_are_written(model: str) -> None:
    folder = shipped_folder(model)
    index = json.loads((folder / "model_index.json").read_text())
    assert {name: (folder / name).read_text() for name in FILES} == diffusers_files(index)


@pytest.mark.parametrize(
    "make",
    [
        tiny.pipeline,
        lambda: tiny.pipeline(reference_latents=True, shared_noise=True),
        tiny.environment_pipeline,
        lambda: tiny.environment_pipeline("none", modulated=False),
    ],
    ids=["aa1", "guess", "aa2", "aa2-plain"],
)
def test_saved_folders(make: Callable[[], AnimateAnyonePipeline], tmp_path: Path) -> None:
    made = make()
    made.save_pretrained(tmp_path / "model")
    pipeline = by_diffusers(tmp_path / "model")
    assert type(pipeline) is type(made)
    if not isinstance(made, AnimateAnyone2Pipeline):  # whose inputs depend on what it is made of
        settings = {"num_inference_steps": 2}
        want = frames_of(load_pipeline(tmp_path / "model", "cpu"), **settings)
        assert np.array_equal(frames_of(pipeline, **settings), want)


def test_by_the_files_name(folder: Path) -> None:
    """``custom_pipeline="pipeline"``: as it is typed for a model on the Hub."""
    pipeline = DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", trust_remote_code=True)
    assert isinstance(pipeline, AnimateAnyonePipeline)


def test_in_a_process_that_has_not_imported_the_package(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from diffusers import DiffusionPipeline; assert 'animate_anyone' not in sys.modules\n"
        f"f = {str(folder)!r}; p = DiffusionPipeline.from_pretrained(f, custom_pipeline=f, trust_remote_code=True)\n"
        "print(type(p).__name__)"
    )
    package = Path(animate_anyone.__file__).parent.parent
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "fresh"), "PYTHONPATH": str(package)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "AnimateAnyonePipeline"), done.stderr


def lose(folder: Path, part: str) -> str:
    tensors = load_file(weights(folder, part))
    name = max(tensors)
    del tensors[name]
    save_file(tensors, weights(folder, part), metadata={"format": "pt"})
    return f"{part} has no {name}"


def add(folder: Path, part: str) -> str:
    tensors = load_file(weights(folder, part)) | {"odd.weight": torch.zeros(3)}
    save_file(tensors, weights(folder, part), metadata={"format": "pt"})
    return f"{part} has an unknown odd.weight"


def wrap(folder: Path, part: str) -> str:
    tensors = {f"_orig_mod.{name}": tensor for name, tensor in load_file(weights(folder, part)).items()}
    save_file(tensors, weights(folder, part), metadata={"format": "pt"})
    return f"{part}: holds a compiled network's names"


@pytest.mark.parametrize("part", ["denoising_unet", "reference_net", "pose_guider", "image_encoder", "vae"])
@pytest.mark.parametrize("damage", [lose, add, wrap])
def test_damaged_weights_are_refused(damage: Callable[[Path, str], str], part: str, folder: Path) -> None:
    told = damage(folder, part)
    with pytest.raises(InputError) as caught:
        by_diffusers(folder)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_networks_of_other_kinds_are_refused(folder: Path) -> None:
    other = UNet2DConditionModel(**tiny.UNET)
    with pytest.raises(InputError, match="reference_net is a UNet2DConditionModel; a model's is a ReferenceNet"):
        by_diffusers(folder, reference_net=other)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"reference_latents": True}))
    with pytest.raises(InputError, match="in_channels is 4; the other networks of this model need 8"):
        by_diffusers(folder)


def test_networks_of_ones_own_are_taken(folder: Path, tmp_path: Path) -> None:
    """A network that is given is not asked for files: not even where it came from a folder of somebody else's."""
    vae = tiny.pipeline().vae
    vae.save_pretrained(tmp_path / "else/vae")
    add(tmp_path / "else", "vae")
    given = type(vae).from_pretrained(tmp_path / "else/vae")
    assert by_diffusers(folder, vae=given).vae is given


def test_files_are_written_anew(folder: Path) -> None:
    before = {name: (folder / name).read_text() for name in FILES}
    for name in FILES:
        (folder / name).unlink()
    with pytest.raises((OSError, ValueError)):
        by_diffusers(folder)
    assert write_diffusers_files(folder) == [f"{folder / name}: written" for name in FILES]
    assert {name: (folder / name).read_text() for name in FILES} == before
    assert write_diffusers_files(folder, "me/mine")[0].endswith("written")
    assert '"pretrained_model_name_or_path": "me/mine"' in (folder / MODULAR_INDEX).read_text()
    (folder / PIPELINE).write_text("print('mine')\n")
    with pytest.raises(InputError, match=r"pipeline\.py: is there already and is not of this package"):
        write_diffusers_files(folder)
    with pytest.raises(InputError, match="give OWNER/NAME"):
        write_diffusers_files(folder, "mine")
