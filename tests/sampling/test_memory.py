"""The estimate of memory: exact for weights, held against what real tensors take for the rest."""

from __future__ import annotations

import dataclasses
import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import reference_paths
import tiny
from animate_anyone.models.autoencoding import at_once
from animate_anyone.models.folder import bytes_on_disk, model_folder
from animate_anyone.models.reference_control import REFERENCE_PATHS
from animate_anyone.sampling import memory
from animate_anyone.sampling.loading import load_shapes
from animate_anyone.sampling.memory import (
    GIB,
    HEAP,
    MARGIN,
    PROCESS,
    Estimate,
    Step,
    estimate,
    memory_of,
    parts_of,
)
from animate_anyone.sampling.memory_environment import kept_bytes
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.placement import Work
from animate_anyone.sampling.speed import Speed
from animate_anyone.system.frame_store import KEPT_BYTES
from plain_forms import take_plain_forms

PARTS = ("image_encoder", "pose_guider", "reference_net", "denoising_unet", "vae")  # of the method
WORK = Work(size=(64, 64), frames=12, window=8, dtype=torch.float32)


@pytest.fixture(scope="module")
def shapes(tiny_model: Path) -> AnimateAnyonePipeline:
    return load_shapes(tiny_model)


@pytest.fixture(scope="module")
def plain(shapes: AnimateAnyonePipeline) -> Estimate:
    """Of :data:`WORK`."""
    return estimate(shapes, WORK)


def activations(needs: Estimate, phase: str) -> int:
    return max(step.activations for step in needs.steps if step.phase == phase)


def tensors_in(folder: Path) -> int:
    """Bytes of the tensors in a part's files, without the files' headers."""
    files = list(folder.glob("*.safetensors"))
    assert files
    return sum(file.stat().st_size - 8 - int.from_bytes(file.read_bytes()[:8], "little") for file in files)


def test_weights_are_those_of_the_files(shapes: AnimateAnyonePipeline, plain: Estimate, tiny_model: Path) -> None:
    assert plain.weights == {part: tensors_in(tiny_model / part) for part in PARTS}
    halved = estimate(shapes, dataclasses.replace(WORK, dtype=torch.bfloat16))
    assert halved.weights == {part: size // 2 for part, size in plain.weights.items()}


def test_weights_of_the_shipped_model() -> None:
    needs = estimate(load_shapes("puppet"), Work(size=(128, 128), frames=4, window=4))
    assert needs.weights == {part: tensors_in(model_folder("puppet") / part) for part in PARTS}
    headers = bytes_on_disk("puppet") - sum(needs.weights.values())
    assert 0 < headers < 400_000


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reference_latents": True},
        {"reference_latents": True, "carried_reference": True},
        {"reference_pose": False},
        {"image_tokens": "patches"},
        *({"reference_path": path} for path in REFERENCE_PATHS[1:]),
    ],
    ids=str,
)
def test_peak_is_what_real_tensors_take(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], guided: bool) -> None:
    """The pipeline itself with values, every tensor counted; what attention allocates inside included."""
    path = options.get("reference_path")
    pipeline = reference_paths.pipeline(path) if path else tiny.pipeline(**options)
    take_plain_forms(monkeypatch)
    denoising, decoding = real_peaks(pipeline, guided)
    needs = foretold(pipeline, guided)
    # On a CPU the clip's pose features count too.
    before = max(activations(needs, "reference"), activations(needs, "denoising") + needs.pose_features)
    assert before == pytest.approx(denoising, rel=0.06)
    assert activations(needs, "decoding") == pytest.approx(decoding, rel=0.06)


def test_kept_features_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a clip of several groups at work, in every other step: with what it keeps, and without."""
    pipeline = tiny.pipeline()
    take_plain_forms(monkeypatch)
    poses = np.zeros((26, 128, 128, 3), np.uint8)
    work, peaks = dataclasses.replace(WORK, frames=26, steps=4), []
    pipeline.set_progress_bar_config(disable=True)
    for words in ("exact", "features"):
        with memory._Alive(pipeline) as alive:
            pipeline(
                np.zeros((64, 64, 3), np.uint8), poses, reference_pose=poses[0], window=8, overlap=2,
                guidance_scale=2.0, num_inference_steps=4, output_type="latent", speed=Speed.of(words),
            )  # fmt: skip
        peaks.append(alive.peak)
    for part in parts_of(pipeline):
        getattr(pipeline, part).to("meta")
    told = [
        activations(estimate(pipeline, dataclasses.replace(work, deep_every=every)), "denoising") for every in (1, 2)
    ]
    one = 2 * 8 * pipeline.denoising_unet.config["block_out_channels"][1] * 8 * 8 * 4  # bytes that a group keeps
    more = peaks[1] - peaks[0]
    assert 2 * one < more <= told[1] - told[0] < more + one


def test_a_cpus_own_forms_take_no_more() -> None:
    """Without copies of the reference and of gates: less than is foretold, which is for all devices."""
    pipeline = tiny.pipeline()
    denoising, decoding = real_peaks(pipeline, guided=True)
    needs = foretold(pipeline, guided=True)
    before = max(activations(needs, "reference"), activations(needs, "denoising") + needs.pose_features)
    assert 0.6 * before < denoising < before
    assert decoding < 1.06 * activations(needs, "decoding")


def foretold(pipeline: AnimateAnyonePipeline, guided: bool) -> Estimate:
    """Of what :func:`real_peaks` does; afterwards the networks have no values."""
    for part in parts_of(pipeline):
        getattr(pipeline, part).to("meta")
    return estimate(pipeline, dataclasses.replace(WORK, guided=guided))


def real_peaks(pipeline: AnimateAnyonePipeline, guided: bool) -> tuple[int, int]:
    """Bytes that are alive at most until the latents are there, and in decoding a batch."""
    pipeline.set_progress_bar_config(disable=True)
    poses = np.zeros((12, 128, 128, 3), np.uint8)
    with memory._Alive(pipeline) as alive:
        latents = pipeline(
            np.zeros((64, 64, 3), np.uint8),
            poses,
            reference_pose=poses[0] if pipeline.config["reference_pose"] else None,
            carried=np.zeros((12, 64, 64, 3), np.uint8) if pipeline.config["carried_reference"] else None,
            num_inference_steps=2,
            guidance_scale=2.0 if guided else 1.0,
            output_type="latent",
        ).frames
        denoising, alive.peak = alive.peak, alive.now
        next(pipeline.decode(latents))
    return denoising, alive.peak


def test_nothing_stays_alive(shapes: AnimateAnyonePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    real = memory._Alive
    monkeypatch.setattr(memory, "_Alive", lambda pipeline: made.append(real(pipeline)) or made[-1])
    assert estimate(shapes, WORK) == estimate(shapes, WORK)
    assert len(made) == 2
    assert [alive.now for alive in made] == [0, 0]
    assert all(alive.peak > 0 for alive in made)


@pytest.mark.parametrize(
    ("change", "times"),
    [
        ({"size": (128, 128)}, (3.5, 4.5)),
        ({"window": 4}, (0.4, 0.6)),
        ({"window_batch": 2}, (1.8, 2.1)),
        ({"guided": False}, (0.4, 0.6)),
        ({"dtype": torch.bfloat16}, (0.45, 0.6)),
        ({"frames": 24}, (1.0, 1.05)),
        ({"vae_tiling": True}, (1.0, 1.0)),
        ({"quantize": "torchao-int8"}, (1.0, 1.0)),
    ],
)
def test_denoising_grows_with_what_is_computed_at_once(
    shapes: AnimateAnyonePipeline, plain: Estimate, change: dict[str, Any], times: tuple[float, float]
) -> None:
    before = activations(plain, "denoising")
    after = activations(estimate(shapes, dataclasses.replace(WORK, **change)), "denoising")
    assert times[0] <= after / before <= times[1]


def test_what_grows_with_the_clip(shapes: AnimateAnyonePipeline, plain: Estimate) -> None:
    """The noise that it begins with; the rest is of the frames that are at work."""
    frame = 4 * 8 * 8 * 4
    one, two = plain, estimate(shapes, dataclasses.replace(WORK, frames=24))
    assert WORK.frames == 12
    assert one.pose_features == 12 * 16 * 8 * 8 * 4
    assert two.pose_features == 2 * one.pose_features
    # As many small frames are decoded at once as make a batch, and no more.
    batch = at_once(*WORK.size)
    grown = activations(two, "decoding") - 2 * activations(one, "decoding")
    assert abs(grown) < 0.01 * activations(one, "decoding") and batch > 24
    assert activations(two, "denoising") - activations(one, "denoising") == 2 * 12 * frame  # noise and latents
    most = Work(size=(64, 64), frames=1, window=8, steps=4, dtype=torch.float32)
    long, longer = (estimate(shapes, dataclasses.replace(most, frames=n)) for n in (5 * 8, 500 * 8))
    assert longer.pose_features == long.pose_features == 5 * 8 * 16 * 8 * 8 * 4
    for phase in ("denoising", "decoding"):
        assert activations(longer, phase) - activations(long, phase) == 495 * 8 * frame


def test_features_beyond_a_bound_wait_on_disk() -> None:
    assert kept_bytes(1000, 10) == 10_000
    assert kept_bytes(2**20, 1000) == KEPT_BYTES
    assert kept_bytes(2**30, 1000) == 2**30  # one frame is there at least


def test_tiling_caps_decoding(shapes: AnimateAnyonePipeline) -> None:
    """At the VAE's own 64x64 it changes nothing; at twice that a tile is decoded, not the frame."""

    def decoding(side: int, tiling: bool) -> int:
        work = dataclasses.replace(WORK, size=(side, side), frames=1, window=1, vae_tiling=tiling)
        return activations(estimate(shapes, work), "decoding")

    assert decoding(64, True) == decoding(64, False)
    assert decoding(128, True) < decoding(128, False) / 2


def test_quantised_layers(shapes: AnimateAnyonePipeline, plain: Estimate) -> None:
    """Linear layers alone become smaller, and of the named networks alone."""
    layer = nn.Linear(64, 10)
    assert memory._layer_bytes(layer, "none") == (640 + 10) * 4
    assert memory._layer_bytes(layer, "bitsandbytes-8bit") == 640 + 10 * 4 + 10 * 4
    assert memory._layer_bytes(layer, "bitsandbytes-4bit") == 320 + 40 + 10 * 4
    assert memory._layer_bytes(layer, "torchao-int8") == 640 + 10 * 4 + 10 * 4
    assert memory._layer_bytes(nn.Conv2d(4, 4, 1), "torchao-int8") == (16 + 4) * 4
    small = estimate(shapes, dataclasses.replace(WORK, quantize="bitsandbytes-4bit"))
    for part in PARTS:
        assert (small.weights[part] < plain.weights[part]) == (
            part in ("denoising_unet", "reference_net", "image_encoder")
        )


def test_offload_decides_which_weights_are_there() -> None:
    """One after the other as diffusers' hooks do it: each network sends back the one before it, in the fixed order."""
    weights = dict(zip(PARTS, (1, 10, 100, 1000, 10000), strict=True))
    way = [
        *(("reference", part) for part in ("image_encoder", "vae", "pose_guider", "reference_net", "denoising_unet")),
        ("poses", "pose_guider"),
        ("denoising", "denoising_unet"),
        ("decoding", "vae"),
    ]
    needs = Estimate(weights, {part: 1 for part in PARTS}, tuple(Step(*at, 0) for at in way), 0)
    assert needs.phases("none") == dict.fromkeys(("reference", "poses", "denoising", "decoding"), 11111)
    assert needs.phases("model") == {
        "reference": 11000,  # the denoising UNet projects it, beside the VAE that nobody sent back
        "poses": 11010,
        "denoising": 11010,
        "decoding": 10000,
    }
    assert needs.phases("group") == dict.fromkeys(("reference", "poses", "denoising", "decoding"), 1)
    assert needs.on_gpu("none") == PROCESS["gpu"] + 11111


@pytest.mark.parametrize(
    ("path", "beside"),
    [
        ("reference_net", "pose_guider"),
        ("clip", None),
        ("controlnet", "reference_control"),
        ("both", "reference_control"),
        ("resnet", "pose_guider"),
        ("concatenated", "pose_guider"),
    ],
)
def test_offload_of_every_path(path: str, beside: str | None, tmp_path: Path) -> None:
    """A model's own parts, no others. A ControlNet shares the GPU with the denoising UNet from the second step on."""
    reference_paths.pipeline(path).save_pretrained(tmp_path)
    needs = estimate(load_shapes(tmp_path), WORK)
    assert needs.weights == {file.parent.name: tensors_in(file.parent) for file in tmp_path.glob("*/*.safetensors")}
    bare = dataclasses.replace(needs, steps=tuple(dataclasses.replace(step, activations=0) for step in needs.steps))
    there = ("denoising_unet", "vae", *([beside] if beside else []))
    assert bare.phases("model")["denoising"] == sum(needs.weights[part] for part in there)
    assert all(part in memory.describe(needs, WORK, "model", torch.device("cpu"))[0] for part in needs.weights)


def test_sums(plain: Estimate) -> None:
    needs = plain
    weights = sum(needs.weights.values())
    assert needs.phases()["denoising"] == weights + MARGIN["denoising"] * activations(needs, "denoising")
    assert needs.on_gpu("group") < needs.on_gpu("model") < needs.on_gpu("none")
    left = activations(needs, "poses")  # in the heap
    phases = needs.phases()  # at this size decoding, of all frames at once, takes most
    most = max(phases["denoising"], phases["decoding"]) + needs.pose_features
    assert needs.on_cpu() == pytest.approx(PROCESS["cpu"] + left + most)
    large = dataclasses.replace(needs, steps=(*needs.steps, Step("poses", "pose_guider", GIB)))
    assert large.on_cpu() == PROCESS["cpu"] + HEAP + large.phases()["poses"] + needs.pose_features
    assert needs.beside_gpu() == PROCESS["cpu"] + weights
    long = dataclasses.replace(needs, pose_features=2 * weights)
    assert long.beside_gpu() == PROCESS["cpu"] + 2 * weights
    assert long.beside_gpu("model") == long.beside_gpu("group") == PROCESS["cpu"] + 3 * weights


def test_this_machines_memory() -> None:
    there = memory_of(torch.device("cpu"))
    if there is None:
        pytest.skip("the system does not tell its memory")
    assert 0 < there[0] <= there[1]
    assert there[1] == pytest.approx(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), rel=0.05)


def test_description(plain: Estimate, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = plain
    cuda = torch.device("cuda")
    monkeypatch.setattr(memory, "memory_of", lambda device: (8 * GIB, 16 * GIB))
    lines = memory.describe(needs, WORK, "none", torch.device("cpu"))
    assert lines[0].startswith("weights, float32: image_encoder ")
    assert "denoising" in lines[1]
    assert lines[2].endswith("GiB at the peak; 8.0 GiB of 16.0 GiB are free: it fits")
    assert lines[-1].endswith("not measured")
    gpu, machine = memory.describe(needs, WORK, "none", cuda)[2:4]
    assert gpu.startswith("GPU: 1.0 GiB")
    assert machine.startswith("memory: ")
    monkeypatch.setattr(memory, "memory_of", lambda device: (GIB // 4, 16 * GIB))
    gpu, machine = memory.describe(needs, WORK, "none", cuda)[2:4]
    assert "it does not fit; try a smaller --size" in gpu
    assert "--offload model (1.0 GiB)" in gpu
    assert "it does not fit" in machine
    assert "--offload" not in machine
    monkeypatch.setattr(memory, "memory_of", lambda device: None)
    assert memory.describe(needs, WORK, "none", torch.device("cpu"))[2].endswith("at the peak")


def test_page_is_what_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of docs/memory.md; `python benchmarks/memory.py --table` writes them all anew."""
    repository = Path(__file__).resolve().parents[2]
    monkeypatch.syspath_prepend(repository / "benchmarks")
    bench = importlib.import_module("memory")
    needs = estimate(bench.shapes("full"), Work((512, 512), bench.CLIP, 16, vae_tiling=True))
    cells = " | ".join(f"{needs.on_gpu(offload) / GIB:.1f}" for offload in ("none", "model", "group"))
    page = (repository / "docs/memory.md").read_text()
    assert f"| 512x512, window 16 | {cells} |" in page
    scene = Work((512, 512), bench.CLIP, 16, vae_tiling=True, objects=True)
    assert " | ".join(bench.scene_row(bench.shapes("full with scene"), scene)) in page
    assert "| 24 GB | 24 | 24 | 24 | 24 |" in bench.table(["GPU"], [["24 GB", *[bench._best(24, {24: needs})] * 4]])
    assert (bench._best(5, {16: needs, 8: needs}), bench._best(2, {16: needs})) == ("16, `group`", "–")
