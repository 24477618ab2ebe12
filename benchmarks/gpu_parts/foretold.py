"""Memory: what ``--dry-run`` foretells beside what the GPU held at most, for each way of offloading."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from memory import animate, pictures

from animate_anyone.sampling.loading import load_pipeline, load_shapes
from animate_anyone.sampling.memory import PROCESS, Estimate, estimate
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.placement import OFFLOADS, Placement, Work, put
from gpu_parts.full_size import pipeline as full_size
from gpu_parts.measure import GIB, Machine
from gpu_parts.report import Part, Unit

FULL = {"full size": False, "full size with scene": True}
"""Names that are no shipped model's, and whether they are of Animate Anyone 2."""


def foretold(machine: Machine, models: tuple[str, ...]) -> Part:
    """Shipped models, or those in :data:`FULL`."""
    expected = {model: 4 if machine.tiny else 40 if model in FULL else 20 for model in models}
    return Part(
        "Memory: foretold beside measured",
        "One guided step in bfloat16 (float16 takes as much) and one frame decoded, GiB. Foretold: weights and "
        "activations by the estimate, its margins included. Measured: the most that PyTorch had in tensors "
        f"(`allocated`). `whole`: foretold with {PROCESS['gpu'] / GIB:g} GiB for the libraries; measured is what the "
        "allocator held at most (`reserved`) and what the libraries take beside it. Full size: random weights.",
        [
            "model, offload",
            "to latents: foretold",
            "measured",
            "decoding: foretold",
            "measured",
            "whole: foretold",
            "measured",
            "seconds",
        ],
        [Unit(model, expected[model], lambda model=model: rows(machine, model)) for model in models],
    )


def rows(machine: Machine, model: str) -> Iterator[list[str]]:
    """One model with every offload; on a CPU, where nothing is offloaded, the estimate alone beside a run."""
    kind = torch.bfloat16 if machine.cuda else torch.float32  # small models may overflow float16
    size, frames = ((512, 768), 24) if model in FULL else ((256, 256), 24)
    if machine.tiny:
        size, frames = (64, 64), 2
    work = Work(size=size, frames=frames, window=frames, dtype=kind)
    pipeline: AnimateAnyonePipeline | None = None
    for offload in OFFLOADS if machine.cuda else OFFLOADS[:1]:
        if model not in FULL:
            pipeline = None  # loaded anew
        machine.release()
        before = machine.allocated()
        if model not in FULL:
            name = str(kind).removeprefix("torch.")
            pipeline = load_pipeline(model, placement=Placement(str(machine.device), name, offload))
            pipeline.set_progress_bar_config(disable=True)
        elif pipeline is None:
            pipeline = full_size(machine.device, kind, narrow=machine.tiny, scene=FULL[model])
        else:  # whole networks before single layers: the hooks of these are not taken off again
            pipeline.remove_all_hooks()
            pipeline.to("cpu")
            machine.release()
            before = machine.allocated()
            put(pipeline, Placement(str(machine.device), offload=offload), machine.device)
        second = isinstance(pipeline, AnimateAnyone2Pipeline)
        work = replace(work, objects=second and bool(pipeline.config["uses_objects"]))
        if offload == OFFLOADS[0]:
            needs = estimate(shapes(model, kind, machine.tiny), work)
        yield [
            f"{model}, {size[0]}x{size[1]}, {frames} frames, {offload}",
            *measure(machine, pipeline, work, needs, offload, before),
        ]


def measure(
    machine: Machine, pipeline: AnimateAnyonePipeline, work: Work, needs: Estimate, offload: str, before: int
) -> list[str]:
    """Cells; ``before``: bytes on the device that are none of the pipeline's."""
    phases = needs.phases(offload)
    if machine.cuda:  # brings the libraries in
        animate(pipeline, (64, 64), 2, replace(work, window=2), lambda: None)
    machine.release()
    since = time.perf_counter()
    latents = animate(pipeline, work.size, work.frames, work, machine.wait)
    seconds = time.perf_counter() - since
    denoising = machine.peaks()
    machine.release()
    next(pipeline.decode(latents, pictures(work.size, work.frames)))
    machine.wait()
    decoding = machine.peaks()
    whole = max(denoising[1], decoding[1]) + libraries(machine)
    return [
        f"{max(size for phase, size in phases.items() if phase != 'decoding') / GIB:.2f}",
        _gib(machine, denoising[0] - before),
        f"{phases['decoding'] / GIB:.2f}",
        _gib(machine, decoding[0] - before),
        f"{needs.on_gpu(offload) / GIB:.2f}",
        _gib(machine, whole - before),
        f"{seconds:.2f}",
    ]


def shapes(model: str, kind: torch.dtype, narrow: bool) -> AnimateAnyonePipeline:
    """The same networks without values."""
    if model not in FULL:
        return load_shapes(model)
    return full_size(torch.device("meta"), kind, narrow=narrow, scene=FULL[model])


def libraries(machine: Machine) -> int:
    """Bytes of the GPU that are in use and that PyTorch's allocator does not hold: CUDA's context and kernels."""
    if not machine.cuda:
        return 0
    free, whole = torch.cuda.mem_get_info(machine.device)
    return whole - free - torch.cuda.memory_reserved(machine.device)


def _gib(machine: Machine, size: int) -> str:
    return f"{size / GIB:.2f}" if machine.cuda else "–"
