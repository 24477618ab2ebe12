"""A guided denoising step of the full-size networks, and decoding: seconds, TFLOP/s, share of a matrix product's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from animate_anyone.models.denoising_unet import join_environment
from animate_anyone.sampling.loading import head_sizes
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.placement import Placement, check_attention, put
from gpu_parts.full_size import pipeline as full_size
from gpu_parts.measure import GIB, KINDS, Machine, matrix_product, operations, operations_of_attention
from gpu_parts.report import Part, Unit

FRAMES = 24
SIZES = ((512, 768), (768, 768))
"""Width and height of the frames."""
COLUMNS = ["work", "seconds", "10^12 operations", "TFLOP/s", "of the matrix product's", "peak, GiB"]
HALF = ("float16", "bfloat16")


def products(machine: Machine) -> Part:
    """What others are held against: measured first."""

    def rows(name: str) -> Iterator[list[str]]:
        side, speed = matrix_product(machine, KINDS[name])
        machine.products[name] = speed
        counted, known = operations_of_attention(machine.device, KINDS[name])
        yield [name, f"{side}", f"{speed:.3g}", "yes" if counted >= known else f"**no**: {counted} of {known}"]

    return Part(
        "Matrix product",
        "Square matrices of random numbers, the best of three times ten. Operations here and below are additions and "
        "multiplications of matrix products, convolutions and attentions, counted by PyTorch as they are run. "
        "float32 is without TF32.",
        ["number type", "side", "TFLOP/s", "attention is counted"],
        [Unit(name, 1 if machine.tiny else 3, lambda name=name: rows(name)) for name in _kinds(machine, *KINDS)],
    )


def steps(machine: Machine) -> Part:
    """Animate Anyone in both half types."""
    return Part(
        "A guided denoising step of the full-size networks",
        f"The denoising UNet on {FRAMES} frames, with and without the reference as guidance asks; random weights, "
        "attention as PyTorch chooses it. `decoding`: those frames by the VAE, one by one and several at once.",
        COLUMNS,
        [
            Unit(name, 4 if machine.tiny else 25, lambda name=name: _steps(machine, name))
            for name in _kinds(machine, *HALF)
        ],
    )


def more(machine: Machine) -> Part:
    """Attention by other backends, and Animate Anyone 2."""
    backends = ("_native_flash", "_native_efficient", "_native_cudnn") if machine.cuda else ("native",)
    return Part(
        "More of a guided step",
        "As above, the smaller size. The backends of attention are `--attention`'s; they change the denoising UNet's "
        "attention over space, that over time stays PyTorch's choice.",
        COLUMNS,
        [
            Unit("attention", 4 if machine.tiny else 20, lambda: _backends(machine, backends)),
            Unit("Animate Anyone 2", 4 if machine.tiny else 20, lambda: _second(machine)),
        ],
    )


def _kinds(machine: Machine, *names: str) -> list[str]:
    # Few CPUs compute in float16.
    return [name for name in names if machine.cuda or name != "float16"]


def _sizes(machine: Machine) -> tuple[tuple[int, int], ...]:
    return ((64, 96),) if machine.tiny else SIZES


def _frames(machine: Machine) -> int:
    return 4 if machine.tiny else FRAMES


@torch.no_grad()
def _steps(machine: Machine, name: str) -> Iterator[list[str]]:
    kind = KINDS[name]
    made = full_size(machine.device, kind, narrow=machine.tiny)
    for size in _sizes(machine):
        yield _row(machine, f"step, {_named(size)}, {name}", name, guided_step(made, size, _frames(machine)))
        latents = _noise(made, 4, size, _frames(machine))[0].transpose(0, 1)  # (frames, channels, h, w)
        for at_once in (1, 8):

            def decode(latents: Tensor = latents, at_once: int = at_once) -> None:
                for some in latents.split(at_once):
                    made.vae.decode(some, return_dict=False)

            what = f"decoding, {_named(size)}, {name}, {at_once} at once"
            yield _row(machine, what, name, decode, repeats=1)


@torch.no_grad()
def _backends(machine: Machine, backends: tuple[str, ...]) -> Iterator[list[str]]:
    name = HALF[1]
    made, size = full_size(machine.device, KINDS[name], narrow=machine.tiny), _sizes(machine)[0]
    for backend in backends:
        what = f"step, {_named(size)}, {name}, attention {backend}"
        try:
            check_attention(backend, head_sizes(made.denoising_unet), machine.device, KINDS[name])
            put(made, Placement(str(machine.device), name, attention=backend), machine.device)
            yield _row(machine, what, name, guided_step(made, size, _frames(machine)))
        except Exception as error:  # whatever somebody's kernels raise: the next backend is tried all the same
            yield [what, " ".join(str(error).split())[:200], "", "", "", ""]


@torch.no_grad()
def _second(machine: Machine) -> Iterator[list[str]]:
    name = HALF[1]
    made, size = full_size(machine.device, KINDS[name], narrow=machine.tiny, scene=True), _sizes(machine)[0]
    what = f"step of Animate Anyone 2 with objects, {_named(size)}, {name}"
    yield _row(machine, what, name, guided_step(made, size, _frames(machine)))


def guided_step(pipeline: AnimateAnyonePipeline, size: tuple[int, int], frames: int) -> Callable[[], Tensor]:
    """A call of the denoising UNet as the pipeline makes it under guidance, on random numbers."""
    unet = pipeline.denoising_unet
    noisy = _noise(pipeline, unet.config["out_channels"], size, frames, samples=2)
    latent = _noise(pipeline, unet.config["out_channels"], size, 1)[:, :, 0]
    pose = _noise(pipeline, unet.config["block_out_channels"][0], size, frames, samples=2)
    token = torch.randn(1, 1, unet.config["cross_attention_dim"], device=noisy.device, dtype=noisy.dtype)
    reference = unet.project_reference(pipeline.reference_net(latent, token), num_unconditional=1)
    objects: Any = None
    if isinstance(pipeline, AnimateAnyone2Pipeline):
        scene = _noise(pipeline, unet.config["out_channels"], size, frames)
        noisy = join_environment(noisy, scene, (scene[:, :1] > 0).to(scene.dtype))
        assert pipeline.object_guider is not None
        objects = pipeline.object_guider(torch.cat([scene, scene]))
    tokens = torch.cat([torch.zeros_like(token), token])
    return lambda: unet(noisy, 499, tokens, pose, reference, objects)


def _noise(
    pipeline: AnimateAnyonePipeline, channels: int, size: tuple[int, int], frames: int, samples: int = 1
) -> Tensor:
    # (samples, channels, frames, h, w) on the latent grid of `size`
    unet, factor = pipeline.denoising_unet, pipeline.latent_downscale
    shape = (samples, channels, frames, size[1] // factor, size[0] // factor)
    return torch.randn(shape, device=unet.device, dtype=unet.dtype)


def _row(machine: Machine, what: str, kind: str, call: Callable[[], Any], repeats: int = 3) -> list[str]:
    counted = operations(call)  # warms up too
    machine.release()
    seconds = machine.seconds(call, repeats)
    speed = counted / seconds / 1e12
    peak = f"{machine.peaks()[0] / GIB:.1f}" if machine.cuda else "–"
    return [what, f"{seconds:.3f}", f"{counted / 1e12:.3g}", f"{speed:.3g}", machine.share(speed, kind), peak]


def _named(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
