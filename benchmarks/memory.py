"""The estimate of memory: held against measured peaks on a CPU, and computed for GPUs of several sizes.

python benchmarks/memory.py             measured beside estimated; each case in a process of its own
python benchmarks/memory.py --table     write the computed tables into docs/memory.md

What is measured is the process's own peak (VmHWM of /proc, hence Linux), less what it held before; the tables are
computed from shapes and measured nowhere.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from machine import add_output, describe, table, write
from networks import IMAGE_ENCODER, UNET, VAE
from numpy.typing import NDArray
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.number_types import DTYPES
from animate_anyone.models.object_guider import ObjectGuider
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.pose_modulation import PoseModulation
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.sampling.loading import load_shapes
from animate_anyone.sampling.memory import GIB, HEAP, MARGIN, PROCESS, Estimate, estimate
from animate_anyone.sampling.memory_environment import disk_bytes
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.placement import OFFLOADS, QUANTIZERS, Work, make_fast_on_cpu
from animate_anyone.sampling.scene import SceneInputs

PAGE = Path(__file__).resolve().parent.parent / "docs" / "memory.md"
MIB = 2**20

# Measured: (model, size, frames, changes to the work). Models with a scene are of Animate Anyone 2.
CASES: list[tuple[str, tuple[int, int], int, dict[str, Any]]] = [
    ("puppet", (128, 128), 12, {"guided": False}),
    ("puppet", (128, 128), 24, {}),
    ("puppet", (128, 128), 24, {"window": 12, "window_batch": 2}),
    ("puppet", (384, 256), 8, {}),
    ("puppet with scene", (128, 128), 24, {"objects": True}),
    ("puppet with scene", (128, 128), 48, {"objects": True, "window": 24}),
    ("puppet with scene", (384, 256), 8, {"objects": True}),
    ("puppet with scene", (384, 256), 8, {"guided": False}),
    ("middle with scene", (256, 256), 8, {"objects": True}),
    ("middle", (256, 256), 4, {}),
    ("middle", (384, 256), 8, {}),
]
# glibc keeps freed tensors below 32 MiB for later, in pieces; told so, it gives each back at once.
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536"}
# Computed: cards in GiB, sizes, windows.
CARDS = (6, 8, 12, 16, 24)
SIZES = ((512, 512), (512, 768), (768, 768), (768, 1024))
WINDOWS = (24, 16, 12, 8)
CLIP = 240  # frames
VIDEO = (1080, 1920)  # that the frames of Animate Anyone 2 are taken from


def shapes(model: str) -> AnimateAnyonePipeline:
    """A model's networks without values: ``puppet``, ``full`` (Stable Diffusion 1.5 widths) or ``middle``.

    With `` with scene`` behind it: one of Animate Anyone 2 on the same networks.
    """
    if model.endswith(" with scene"):
        return with_scene(shapes(model.removesuffix(" with scene")))
    if model == "puppet":
        return load_shapes(model)
    unet, vae, encoder = dict(UNET), dict(VAE), dict(IMAGE_ENCODER)
    if model == "middle":
        unet["block_out_channels"], vae["block_out_channels"] = (64, 128, 192, 192), (64, 128, 256, 256)
        encoder |= {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    scheduler = DDIMScheduler()
    with torch.device("meta"):
        first = UNet2DConditionModel(**unet)
        return AnimateAnyonePipeline(
            DenoisingUNet.from_unet2d(first),
            ReferenceNet.from_unet2d(first),
            PoseGuider(first.config["block_out_channels"][0], (16, 32, 96, 256), layout="open"),
            CLIPVisionModelWithProjection(CLIPVisionConfig(**encoder)),
            AutoencoderKL(**vae),
            scheduler,
        )


def with_scene(first: AnimateAnyonePipeline, device: str | torch.device = "meta") -> AnimateAnyone2Pipeline:
    """What training of Animate Anyone 2 starts from, on the networks of a model of Animate Anyone on ``device``."""
    others = ("pose_guider", "reference_control", "reference_resnet")
    parts = {name: part for name, part in first.components.items() if name not in others}
    options = {name: value for name, value in first.config.items() if name not in first.components}
    with torch.device(device):
        unet = first.denoising_unet.with_environment()
        parts |= {
            "denoising_unet": unet,
            "pose_modulation": PoseModulation.from_pose_guider(first.pose_guider, attention_downscale=2),
            "object_guider": ObjectGuider(unet.config["out_channels"], tuple(unet.config["block_out_channels"])),
        }
    return AnimateAnyone2Pipeline(**parts, **{k: v for k, v in options.items() if not k.startswith("_")})


def tell(case: tuple[str, tuple[int, int], int, dict[str, Any]]) -> Work:
    """A case as the work that it is."""
    _, size, frames, changes = case
    options = {"window": frames, "dtype": "float32", **changes}
    options["dtype"] = DTYPES[options["dtype"]]
    return Work(size=size, frames=frames, **options)


def measure(case: tuple[str, tuple[int, int], int, dict[str, Any]]) -> dict[str, float]:
    """Peaks of one case in bytes; to be called in a fresh process."""
    pipeline, work = shapes(case[0]), tell(case)
    for network in (part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)):
        torch.nn.Module.to(network.to_empty(device="cpu"), work.dtype)
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.data.fill_(0.001 if tensor.is_floating_point() else 0)  # touches every page
    if work.vae_tiling:
        pipeline.vae.enable_tiling()
    pipeline.set_progress_bar_config(disable=True)
    make_fast_on_cpu((pipeline.denoising_unet, pipeline.reference_net, pipeline.vae))
    animate(pipeline, (64, 64), 2, work, lambda: None)  # brings the libraries in
    baseline = reset()
    peaks: dict[str, float] = {"before": baseline}
    latents = animate(pipeline, work.size, work.frames, work, lambda: peaks.update(denoising=peak() - baseline))
    baseline = reset()
    next(pipeline.decode(latents, pictures(work.size, work.frames)))
    return {**peaks, "decoding": peak() - baseline}


def animate(
    pipeline: AnimateAnyonePipeline, size: tuple[int, int], frames: int, work: Work, then: Callable[[], None]
) -> torch.Tensor:
    """One denoising step; ``then`` is called at its end."""
    drawn, source = pictures(pipeline.pose_picture_size(size), frames), pictures(size, frames)
    window = min(work.window, frames)
    scene: dict[str, Any] = {}
    if isinstance(pipeline, AnimateAnyone2Pipeline):
        shown = np.broadcast_to(np.True_, (frames, *source[0].shape[:2]))
        near = np.broadcast_to(np.float32(0), (frames, *drawn[0].shape[:2]))
        things = (source, shown) if work.objects else (None, None)
        scene = {"scene": SceneInputs(source, shown, *things, near)}
    latents = pipeline(
        source[0],
        drawn,
        reference_pose=drawn[0] if pipeline.config["reference_pose"] else None,
        carried=source if pipeline.config["carried_reference"] else None,
        num_inference_steps=1,
        guidance_scale=2.0 if work.guided else 1.0,
        window=window,
        overlap=0,
        window_batch=work.window_batch,
        output_type="latent",
        **scene,
    ).frames
    then()
    return latents


def pictures(size: tuple[int, int], frames: int) -> list[NDArray[np.uint8]]:
    """Black pictures ``(height, width, 3)`` that take the memory of one: it is the networks' that is measured."""
    return [np.zeros((size[1], size[0], 3), np.uint8)] * frames


def reset() -> int:
    """Give free memory back, forget the peak so far, and return what the process holds."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    """The most that the process held since :func:`reset`."""
    return _status("VmHWM")


def _status(name: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def compare(number: int) -> tuple[list[str], list[float]]:
    """A row, measured beside estimated; and per phase how many times the estimate's tensors were measured."""
    case = CASES[number]
    needs, work = estimate(shapes(case[0]), tell(case)), tell(case)
    usual, at_once = (_in_child(number, environment) for environment in ({}, AT_ONCE))
    name = (
        f"{case[0]}, {work.size[0]}x{work.size[1]}, {work.frames} frames, {work.window_batch} x {work.window} at once"
    )
    row, over = [f"{name}{', guided' if work.guided else ''}"], []
    for phase in ("denoising", "decoding"):
        steps = [step for step in needs.steps if (step.phase == "decoding") == (phase == "decoding")]
        alive = max(step.activations + needs.waiting().get(step.phase, 0) for step in steps)
        row += [f"{size / MIB:.0f}" for size in (alive, at_once[phase], usual[phase])]
        over.append(at_once[phase] / alive)
    whole = usual["before"] + max(usual["denoising"], usual["decoding"])
    return [*row, f"{whole / MIB:.0f}", f"{needs.on_cpu() / MIB:.0f}"], over


def _in_child(number: int, environment: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, __file__, "--case", str(number)]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    print(child.stdout.splitlines()[-1], file=sys.stderr)
    result: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return result


def size_rows(computed: dict[tuple[int, int], dict[int, Estimate]]) -> Iterator[list[str]]:
    """What each size and window needs of a GPU, per offload."""
    for (width, height), by_window in computed.items():
        for window, needs in by_window.items():
            yield [
                f"{width}x{height}, window {window}",
                *(f"{needs.on_gpu(offload) / GIB:.1f}" for offload in OFFLOADS),
            ]


def card_rows(computed: dict[tuple[int, int], dict[int, Estimate]]) -> Iterator[list[str]]:
    """For each card and size the largest window that fits, with the fewest switches."""
    for card in CARDS:
        yield [f"{card} GB", *(_best(card, by_window) for by_window in computed.values())]


def _best(card: int, by_window: dict[int, Estimate]) -> str:
    for window, needs in by_window.items():
        for offload in OFFLOADS:
            if needs.on_gpu(offload) <= card * GIB:
                return f"{window}" if offload == "none" else f"{window}, `{offload}`"
    return "–"


def scene_row(second: AnimateAnyone2Pipeline, work: Work) -> list[str]:
    """What some work of Animate Anyone 2 needs of a GPU, per offload, and what waits in memory and on the disk."""
    needs = estimate(second, work)
    told = disk_bytes(second, work, VIDEO, work.size)
    sizes = (*(needs.on_gpu(offload) for offload in OFFLOADS), needs.pose_features, needs.scene, told)
    return [f"{work.size[0]}x{work.size[1]}, window {work.window}", *(f"{size / GIB:.1f}" for size in sizes)]


def weight_rows(full: AnimateAnyonePipeline) -> Iterator[list[str]]:
    """What the weights take, part by part."""
    for name, kind, quantize in (
        ("float32", torch.float32, "none"),
        ("float16, bfloat16", torch.float16, "none"),
        *((f"float16, `{name}`", torch.float16, name) for name in QUANTIZERS),
    ):
        weights = estimate(full, Work((512, 512), 1, 1, dtype=kind, quantize=quantize)).weights
        order = ("denoising_unet", "reference_net", "image_encoder", "vae", "pose_guider")
        yield [name, *(f"{weights[part] / GIB:.2f}" for part in order), f"{sum(weights.values()) / GIB:.2f}"]


def tables() -> dict[str, str]:
    """The tables of docs/memory.md by name."""
    full = shapes("full")
    computed = {size: {w: estimate(full, Work(size, CLIP, w, vae_tiling=True)) for w in WINDOWS} for size in SIZES}
    sizes = [f"{width}x{height}" for width, height in SIZES]
    parts = ["denoising UNet", "ReferenceNet", "image encoder", "VAE", "Pose Guider", "together"]
    second = with_scene(full)
    scenes = (Work(size, CLIP, w, vae_tiling=True, objects=True) for size in SIZES for w in WINDOWS[:2])
    offloads = [f"offload `{offload}`" for offload in OFFLOADS]
    return {
        "scenes": table(["frames", *offloads, "poses", "scene", "disk"], [scene_row(second, work) for work in scenes]),
        "cards": table(["GPU", *sizes], list(card_rows(computed))),
        "sizes": table(["frames", *offloads], list(size_rows(computed))),
        "weights": table(["weights", *parts], list(weight_rows(full))),
    }


def fill(page: Path) -> None:
    """Put the tables between their marks in a page."""
    text = page.read_text()
    for name, content in tables().items():
        marks = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        text, found = re.subn(marks, lambda m, content=content: f"{m[1]}{content}\n{m[2]}", text, flags=re.DOTALL)
        assert found == 1, name
    page.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="write the computed tables into docs/memory.md")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    add_output(parser, "memory.md")
    asked = parser.parse_args()
    if asked.table:
        return fill(PAGE)
    if asked.case is not None:
        print(json.dumps(measure(CASES[asked.case])))
        return None
    rows, overs = zip(*(compare(number) for number in range(len(CASES))), strict=True)
    titles = ["case"]
    titles += [f"{phase}: {what}" for phase in ("denoising", "decoding") for what in ("tensors", "at once", "usual")]
    titles += ["whole: measured", "whole: estimated"]
    write(
        asked.output,
        "Memory: measured beside estimated",
        "MiB. `tensors` is the estimate: what is alive at once, from shapes alone. Measured: by how much the process's "
        "peak is above what it held before, `at once` with an allocator that gives freed tensors back at once "
        f"({'='.join(*AT_ONCE.items())}), and `usual` as people run it: glibc keeps tensors of less than 32 MiB, in "
        "pieces. `whole`: everything, weights and libraries too, the peak as people run it beside what `--dry-run` "
        "says. `middle` has the structure of the full-size networks at 64, 128, 192, 192 channels.",
        table(titles, list(rows)),
        f"`at once` is at most {max(o[0] for o in overs):.2f} times the tensors in denoising and "
        f"{max(o[1] for o in overs):.2f} times in decoding; the estimate takes {MARGIN['denoising']} and "
        f"{MARGIN['decoding']} times (where decoding takes 10 MiB, 5 of scratch space are more than that), "
        f"{PROCESS['cpu'] / MIB:.0f} MiB for the process, and what the heap keeps of encoding the poses, at most "
        f"{HEAP / MIB:.0f} MiB. `usual` differs from run to run by up to a quarter on a busy machine. "
        "Measured on a CPU; what a GPU's libraries take is assumed, "
        f"{PROCESS['gpu'] / GIB:.0f} GiB, and measured nowhere.",
        f"Machine: {describe()}.",
    )
    return None


if __name__ == "__main__":
    main()
