"""Whole clips of the full-size networks: exact, by trade-offs, in few steps; compiled, and with weights quantised."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.placement import QUANTIZERS, Placement
from animate_anyone.sampling.speed import Speed
from gpu_parts.full_size import pipeline as full_size
from gpu_parts.measure import GIB, KINDS, Machine, operations
from gpu_parts.report import Part, Unit
from gpu_parts.step import guided_step

KIND = "bfloat16"
FRAMES, STEPS, FEW = 24, 20, 4
WORDS = ("guidance", "solver", "features", "reference", "solver,features", "all")
COLUMNS = ["clip", "steps", "seconds", "times as fast", "TFLOP/s", "of the matrix product's", "peak, GiB"]
STEP_COLUMNS = ["work", "seconds", "times as fast", "peak, GiB"]


def modes(machine: Machine) -> Part:
    """Whole clips, latents alone."""
    sizes = ((64, 96),) if machine.tiny else ((768, 768), (512, 768))
    return Part(
        "Clips of the full-size networks",
        f"{FRAMES} frames under guidance in {KIND}, one window, from the reference to latents, random weights. "
        f"Trade-offs are those of `--speed`; {FEW} steps are what a few-step student takes. Operations are counted for "
        "the exact clip alone.",
        COLUMNS,
        [
            Unit(f"{width}x{height}", 8 if machine.tiny else 60, lambda size=(width, height): _clips(machine, size))
            for width, height in sizes
        ],
    )


def compiled(machine: Machine) -> Part:
    """What `--compile`, CUDA graphs and the quantisers that are installed gain."""
    units = [Unit("compiled", 90, lambda: _compiled(machine)), Unit("synchronised", 5, lambda: _waits(machine))]
    return Part(
        "A guided step, compiled and quantised",
        f"{FRAMES} frames of 512x768, {KIND}. `first`: the step in which the repeated blocks are compiled.",
        STEP_COLUMNS,
        [*(units if machine.cuda else []), Unit("quantised", 8 if machine.tiny else 60, lambda: _quantised(machine))],
    )


@torch.no_grad()
def _clips(machine: Machine, size: tuple[int, int]) -> Iterator[list[str]]:
    made = full_size(machine.device, KINDS[KIND], narrow=machine.tiny)
    call = _call(made, size, 4 if machine.tiny else FRAMES)
    counted = [operations(lambda steps=steps: call("exact", steps)) for steps in (1, 2)]  # warms up too
    whole = counted[0] + (STEPS - 1) * (counted[1] - counted[0])
    exact = 0.0
    for words, steps in (("exact", STEPS), *((words, STEPS) for words in WORDS), ("exact", FEW)):
        machine.release()
        seconds = machine.seconds(lambda words=words, steps=steps: call(words, steps), 1)
        exact = exact or seconds
        speed = whole / seconds / 1e12
        of_exact = [f"{speed:.3g}", machine.share(speed, KIND)] if (words, steps) == ("exact", STEPS) else ["", ""]
        peak = f"{machine.peaks()[0] / GIB:.1f}" if machine.cuda else "–"
        what = f"{size[0]}x{size[1]}, {words}"
        done = str(Speed.of(words).steps(steps))
        yield [what, done, f"{seconds:.2f}", f"{exact / seconds:.2f}", *of_exact, peak]


def _call(made: AnimateAnyonePipeline, size: tuple[int, int], frames: int) -> Callable[[str, int], Any]:
    random, drawn = np.random.default_rng(0), made.pose_picture_size(size)
    reference = random.integers(0, 256, (*size[::-1], 3), np.uint8)
    poses = list(random.integers(0, 256, (frames, *drawn[::-1], 3), np.uint8))

    def call(words: str, steps: int) -> Any:
        return made(
            reference,
            poses,
            num_inference_steps=steps,
            guidance_scale=3.5,
            window=frames,
            overlap=0,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
            speed=Speed.of(words),
        )

    return call


@torch.no_grad()
def _compiled(machine: Machine) -> Iterator[list[str]]:
    plain = 0.0
    for name, options in (("as it is", None), ("compiled", {}), ("compiled, CUDA graphs", {"mode": "reduce-overhead"})):
        made = full_size(machine.device, KINDS[KIND], narrow=machine.tiny)
        step = guided_step(made, (512, 768), FRAMES)
        if options is not None:
            made.denoising_unet.compile_repeated_blocks(**options)
            since = time.perf_counter()
            try:
                step()
            except Exception as error:  # whatever a compiler raises: the next way is tried all the same
                yield [name, " ".join(str(error).split())[:200], "", ""]
                continue
            machine.wait()
            yield [f"{name}, first", f"{time.perf_counter() - since:.1f}", "", ""]
        step()
        machine.release()
        seconds = machine.seconds(step)
        plain = plain or seconds
        yield [name, f"{seconds:.3f}", f"{plain / seconds:.2f}", f"{machine.peaks()[0] / GIB:.1f}"]
        del made, step
        machine.release()


@torch.no_grad()
def _waits(machine: Machine) -> Iterator[list[str]]:
    """Whether the host waits for the GPU within a step."""
    step = guided_step(full_size(machine.device, KINDS[KIND], narrow=machine.tiny), (512, 768), FRAMES)
    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
        found = "none"
    except RuntimeError as error:
        found = " ".join(str(error).split())[:200]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    yield ["waits of the host within a step", found, "", ""]


def _quantised(machine: Machine) -> Iterator[list[str]]:
    """By each quantiser whose package is there, from a folder as users have it."""
    wanted = {
        name: package for name, package in QUANTIZERS.items() if machine.cuda or not name.startswith("bitsandbytes")
    }
    missing = [name for name, package in wanted.items() if importlib.util.find_spec(QUANTIZERS[name]) is None]
    for name in missing:
        yield [name, "not installed", "", ""]
    if len(missing) == len(wanted):
        return
    size, frames = ((64, 96), 4) if machine.tiny else ((512, 768), FRAMES)
    with tempfile.TemporaryDirectory() as folder:
        full_size(torch.device("cpu"), KINDS[KIND], narrow=machine.tiny).save_pretrained(folder)
        plain = 0.0
        for name in ("none", *(name for name in wanted if name not in missing)):
            made: AnimateAnyonePipeline = load_pipeline(
                folder, placement=Placement(str(machine.device), KIND, quantize=name)
            )
            with torch.no_grad():
                step = guided_step(made, size, frames)
                step()
                machine.release()
                seconds = machine.seconds(step)
            plain = plain or seconds
            peak = f"{machine.peaks()[0] / GIB:.1f}" if machine.cuda else "–"
            yield [f"quantise {name}", f"{seconds:.3f}", f"{plain / seconds:.2f}", peak]
            del made, step
            machine.release()
