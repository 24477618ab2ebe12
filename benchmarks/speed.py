"""Our pipeline beside the plain form of the same computation (plain.py), part by part, in one run.

python benchmarks/speed.py                                    the shipped model, and full size at 256x256, 8 frames
python benchmarks/speed.py --device cuda                      full size at 512x768 and 768x768, 24 frames
python benchmarks/speed.py --device cpu --tiny                narrow networks, to try the benchmark

Both forms compute the same numbers with the same weights (random at full size) in turn, and the medians of some rounds
are held against each other: on a machine that others use too the ratios hold, the seconds do not. Operations are those
of matrix products, convolutions and attentions, counted as they run. The ceilings are a large matrix product and
convolutions on this machine in the same run.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from gpu_parts.full_size import pipeline as full_size
from gpu_parts.measure import GIB, KINDS, Machine, convolution, matrix_product
from gpu_parts.report import Clock
from machine import add_output, describe, table, write
from plain import PlainDecoder, PlainUNet
from torch import Tensor, nn

from animate_anyone.models.autoencoding import at_once, decode
from animate_anyone.models.fast_layers import choose_memory_format, fast_layers, lay_out, use_fast_layers
from animate_anyone.models.image_tokens import image_tokens
from animate_anyone.models.number_types import has_bfloat16_units
from animate_anyone.sampling.alive_bytes import AliveBytes
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.placement import Placement, choose_device, put
from animate_anyone.system.heap import KEPT, give_back, keep_freed
from animate_anyone.training.step_flops import CountFlops, Flops

COLUMNS = ["work", "s", "processor time, s", "times as fast as plain", "in processor time", "10^12 operations",
           "TFLOP/s", "share of the ceiling", "activations, GiB", "largest difference"]  # fmt: skip
CEILINGS = ["number type", "matrix product", "the same as a 1x1 convolution", "3x3 convolution, channels first",
            "3x3 convolution, channels last"]  # fmt: skip
OURS, PLAIN = "ours", "plain"


class ProcessorTime(Machine):
    """Measures in seconds of processor time, which others on the machine lengthen less; on a GPU as the base class."""

    def seconds(self, call: Callable[[], object], repeats: int = 3) -> float:
        if self.cuda:
            return super().seconds(call, repeats)
        repeats = 1 if self.tiny else repeats
        since = time.process_time()
        for _ in range(repeats):
            call()
        return max((time.process_time() - since) / repeats, 1e-9)


@dataclass(frozen=True)
class Inputs:
    """What a guided step is given, random numbers, the unconditional half first.

    Attributes:
        noisy: ``(2, channels, frames, h, w)``.
        pose: ``(2, C, frames, h, w)``.
        tokens: ``(2, 1, width)``.
        features: ReferenceNet's.
    """

    noisy: Tensor
    pose: Tensor
    tokens: Tensor
    features: dict[str, Tensor]

    @classmethod
    def of(cls, pipeline: AnimateAnyonePipeline, size: tuple[int, int], frames: int) -> Inputs:
        """For frames of ``size`` (width, height)."""
        unet, factor = pipeline.denoising_unet, pipeline.latent_downscale
        grid = (size[1] // factor, size[0] // factor)
        channels, width = unet.config["in_channels"], unet.config["block_out_channels"][0]
        random = torch.Generator().manual_seed(0)

        def noise(*shape: int) -> Tensor:
            return torch.randn(shape, generator=random).to(unet.device, unet.dtype)

        token = noise(1, 1, unet.config["cross_attention_dim"])
        latent = noise(1, pipeline.vae.config["latent_channels"], *grid)
        own = noise(1, width, *grid) if pipeline.config["reference_pose"] else None
        return cls(
            noise(1, channels, frames, *grid).repeat(2, 1, 1, 1, 1),
            noise(1, width, frames, *grid).repeat(2, 1, 1, 1, 1),
            torch.cat([torch.zeros_like(token), token]),
            dict(pipeline.reference_net(latent, token, own)),
        )


@dataclass
class Form:
    """One way to compute something.

    Attributes:
        call: computes it.
        weights: of what it computes with.
        prepare: called before each round, not timed.
        kind: number type, for the ceiling.
    """

    call: Callable[[], Tensor]
    weights: Iterable[Tensor] = ()
    prepare: Callable[[], object] = lambda: None
    kind: str = "float32"
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    flops: Flops = field(default_factory=Flops)
    activations: int = 0
    result: Tensor = field(default_factory=lambda: torch.empty(0))


def side_by_side(machine: Machine, forms: dict[str, Form], rounds: int, clock: Clock) -> None:
    """Each form once to warm up and to count, then all in turn; fewer rounds where the time is over."""
    for form in forms.values():
        form.prepare()
        with AliveBytes(form.weights) as alive, CountFlops() as counted:
            form.result = form.call().float().cpu()
        form.flops, form.activations = counted.flops, alive.peak
    for _ in range(1 if machine.tiny else rounds):
        began = time.perf_counter()
        for form in forms.values():
            form.prepare()
            before = time.process_time()
            form.seconds.append(machine.seconds(form.call, 1))
            form.processor.append(time.process_time() - before)
        if not clock.fits(time.perf_counter() - began):
            return


def rows(what: str, forms: dict[str, Form], ceilings: dict[tuple[str, str], float], on_gpu: bool) -> list[list[str]]:
    """Of a table with :data:`COLUMNS`; the first form is the plain one."""
    plain = next(iter(forms.values()))
    cells = []
    for name, form in forms.items():
        seconds, processor, flops = statistics.median(form.seconds), statistics.median(form.processor), form.flops
        # What it would take if all were as fast as the ceilings.
        least = flops.convolutions / ceilings["convolution", form.kind]
        least += (flops.products + flops.attention) / ceilings["product", form.kind]
        cells.append(
            [
                f"{what}, {name}",
                f"{seconds:.3f}",
                f"{processor:.3f}",
                f"{statistics.median(plain.seconds) / seconds:.2f}",
                f"{statistics.median(plain.processor) / max(processor, 1e-9):.2f}",
                f"{flops.total / 1e12:.3f}",
                f"{flops.total / 1e12 / seconds:.3f}",
                f"{least / (seconds if on_gpu else processor) / 1e12:.0%}",
                f"{form.activations / GIB:.2f}",
                "" if form is plain else f"{(form.result - plain.result).abs().max():.1e}",
            ]
        )
    return cells


def measure_ceilings(machine: Machine) -> tuple[dict[tuple[str, str], float], list[list[str]]]:
    """(``product`` or ``convolution``, number type) -> the best TFLOP/s; and the rows of a table."""
    kinds = ["float32"]
    if machine.cuda:
        kinds.append("float16")
    if has_bfloat16_units(machine.device):
        kinds.append("bfloat16")
    best, cells = {}, []
    for kind in kinds:
        side, product = matrix_product(machine, KINDS[kind])
        layouts = (torch.contiguous_format, torch.channels_last)
        first, last = (convolution(machine, KINDS[kind], layout) for layout in layouts)
        # A convolution over one cell is a matrix product too, often by another library.
        pointwise = convolution(machine, KINDS[kind], torch.channels_last, cells=1)
        best["product", kind], best["convolution", kind] = max(product, pointwise), max(first, last)
        cells.append([kind, f"{product:.3f} (side {side})", *(f"{x:.3f}" for x in (pointwise, first, last))])
    return best, cells


def step_forms(pipeline: AnimateAnyonePipeline, inputs: Inputs, kind: str) -> dict[str, Form]:
    """A guided step in both forms."""
    unet, plain = pipeline.denoising_unet, PlainUNet(pipeline.denoising_unet)
    seen, features = (inputs.noisy, 499, inputs.tokens, inputs.pose), inputs.features
    weights = [*unet.parameters(), *plain.kernels.values()]
    form = Form(lambda: plain(*seen, features), weights, _memory_by_itself, kind)
    return {PLAIN: form, OURS: _ours(pipeline, inputs, kind)}


def without_one_gain(pipeline: AnimateAnyonePipeline, inputs: Inputs, kind: str) -> dict[str, Form]:
    """Our guided step with one gain taken back."""
    forms = {f"ours without fast {name}": _ours(pipeline, inputs, kind, name) for name in fast_layers()}
    if choose_memory_format(pipeline.denoising_unet, pipeline.denoising_unet.device) == torch.channels_last:
        forms["ours, channels first"] = _ours(pipeline, inputs, kind, layout=torch.contiguous_format)
        forms["ours without kept memory"] = _ours(pipeline, inputs, kind, keep=False)
    return forms


def _ours(
    pipeline: AnimateAnyonePipeline,
    inputs: Inputs,
    kind: str,
    without: str = "",
    layout: torch.memory_format | None = None,
    keep: bool = True,
) -> Form:
    unet = pipeline.denoising_unet
    reference = unet.project_reference(inputs.features, num_unconditional=1)

    def prepare() -> None:
        use_fast_layers(unet, fast_layers().keys() - {without})
        lay_out(unet, layout or choose_memory_format(unet, unet.device))
        _memory_as_of(unet) if keep else _memory_by_itself()

    return Form(
        lambda: unet(inputs.noisy, 499, inputs.tokens, inputs.pose, reference),
        [*unet.parameters(), *(tensor for pair in reference.layers.values() for tensor in pair)],
        prepare,
        kind,
    )


def in_bfloat16(pipeline: AnimateAnyonePipeline, inputs: Inputs) -> Form:
    """Our guided step in bfloat16, by a copy of the network."""
    own = pipeline.denoising_unet
    # Weights are rounded as they are copied: a copy in float32 may not fit beside them.
    rounded = {id(x): nn.Parameter(x.to(torch.bfloat16), requires_grad=False) for x in own.parameters()}
    unet = nn.Module.to(copy.deepcopy(own, rounded), torch.bfloat16)
    noisy, pose, tokens = (x.to(unet.dtype) for x in (inputs.noisy, inputs.pose, inputs.tokens))
    features = {name: feature.to(unet.dtype) for name, feature in inputs.features.items()}
    reference = unet.project_reference(features, num_unconditional=1)
    prepare = partial(_memory_as_of, own)
    return Form(lambda: unet(noisy, 499, tokens, pose, reference), unet.parameters(), prepare, "bfloat16")


def decoding_forms(pipeline: AnimateAnyonePipeline, size: tuple[int, int], frames: int, kind: str) -> dict[str, Form]:
    """Frames decoded in both forms: at least one batch of ours."""
    vae, factor = pipeline.vae, pipeline.latent_downscale
    count = min(frames, at_once(*size))
    shape = (count, vae.config["latent_channels"], size[1] // factor, size[0] // factor)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(vae.device, vae.dtype)
    plain = PlainDecoder(vae)
    weights = [*vae.parameters(), *plain.kernels.values()]
    return {
        PLAIN: Form(lambda: plain(latents), weights, _memory_by_itself, kind),
        OURS: Form(lambda: decode(vae, latents), weights, partial(_memory_as_of, vae), kind),
    }


def _memory_by_itself() -> None:
    # Freed memory as the C library treats it by itself, with nothing left of the form before.
    keep_freed(False)
    give_back()


def _memory_as_of(network: Any) -> None:
    # As sampling.placement has it: kept for wide networks, with what the step before has left.
    _memory_by_itself()
    if choose_memory_format(network, network.device) == torch.channels_last and keep_freed():
        torch.ones(KEPT // 4)


def section(
    machine: Machine, title: str, pipeline: AnimateAnyonePipeline, size: tuple[int, int], asked: argparse.Namespace,
    ceilings: dict[tuple[str, str], float], clock: Clock,
) -> list[str]:  # fmt: skip
    """Paragraphs about one pipeline at one size."""
    kind = str(pipeline.denoising_unet.dtype).removeprefix("torch.")
    inputs = Inputs.of(pipeline, size, asked.frames)
    decoding = decoding_forms(pipeline, size, asked.frames, kind)
    side_by_side(machine, decoding, asked.rounds, clock)
    steps = step_forms(pipeline, inputs, kind)
    if kind == "float32" and not machine.cuda and has_bfloat16_units(machine.device):
        steps["ours in bfloat16"] = in_bfloat16(pipeline, inputs)
    side_by_side(machine, steps, asked.rounds, clock)
    for name, form in without_one_gain(pipeline, inputs, kind).items():
        if clock.fits(3 * max(steps[OURS].seconds)):
            side_by_side(machine, {name: form}, 1, clock)
            steps[name] = form
    count = len(decoding[PLAIN].result)
    cells = rows("guided step", steps, ceilings, machine.cuda)
    cells += rows(f"decoding {count} frame(s)", decoding, ceilings, machine.cuda)
    once = once_a_clip(machine, pipeline, size)

    def clip(form: str) -> float:
        """Seconds: one window, its frames decoded."""
        step, frames = (statistics.median(parts[form].seconds) for parts in (steps, decoding))
        return asked.steps * step + asked.frames / count * frames + sum(once.values())

    total = {form: clip(form) for form in (PLAIN, OURS)}
    said = ", ".join(f"{name} {seconds:.3f}" for name, seconds in once.items())
    return [
        f"## {title}, {size[0]}x{size[1]}, {asked.frames} frames, {kind}",
        table(COLUMNS, cells),
        f"Once a clip, alike in both forms, seconds: {said}. A clip of one window, {asked.steps} steps, all parts "
        f"added: plain {total[PLAIN]:.1f} s, ours {total[OURS]:.1f} s, {total[PLAIN] / total[OURS]:.2f} times as fast.",
    ]


def once_a_clip(machine: Machine, pipeline: AnimateAnyonePipeline, size: tuple[int, int]) -> dict[str, float]:
    """Part -> seconds of what is computed once for a clip."""
    unet, factor = pipeline.denoising_unet, pipeline.latent_downscale
    at, grid = {"device": unet.device, "dtype": unet.dtype}, (size[1] // factor, size[0] // factor)
    picture = torch.zeros(1, 3, *size[::-1], **at)
    drawn = torch.zeros(1, 3, 1, *pipeline.pose_picture_size(size)[::-1], **at)
    token, latent = torch.zeros(1, 1, unet.config["cross_attention_dim"], **at), torch.zeros(1, 1, **at)
    latent = latent.view(1, 1, 1, 1).expand(1, pipeline.vae.config["latent_channels"], *grid).contiguous()
    own = torch.zeros(1, unet.config["block_out_channels"][0], *grid, **at)
    pose = own if pipeline.config["reference_pose"] else None
    given = pipeline.guider.beside(drawn, drawn if pipeline.config["reference_pose"] else None)
    work: dict[str, Callable[[], object]] = {
        "image encoder": lambda: image_tokens(pipeline.image_encoder, picture),
        "encoding the reference": lambda: pipeline.vae.encode(picture),
        "ReferenceNet": lambda: pipeline.reference_net(latent, token, pose),
        "Pose Guider, a frame": lambda: pipeline.guider(given),
    }
    seconds = {}
    for name, call in work.items():
        call()
        seconds[name] = machine.seconds(call, 1)
    return seconds


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda or cuda:N")
    parser.add_argument("--model", default="puppet", help="the small one, a shipped model's name or a folder")
    parser.add_argument("--frames", type=int, help="of the window; default 8, on a GPU 24")
    parser.add_argument("--steps", type=int, default=20, help="of the clip whose time is added up")
    parser.add_argument("--rounds", type=int, default=3, help="of each form; medians are told")
    parser.add_argument("--minutes", type=float, default=10, help="no new round begins that would not end by then")
    parser.add_argument("--tiny", action="store_true", help="narrow networks instead of full size, one round")
    add_output(parser, "speed.md")
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    asked = parse()
    clock, device = Clock(60 * asked.minutes), choose_device(asked.device)
    machine = Machine(device, asked.tiny)
    asked.frames = asked.frames or (24 if machine.cuda else 8)
    kind = torch.float32
    if machine.cuda:
        kind = torch.bfloat16 if has_bfloat16_units(device) else torch.float16
    sizes = [(64, 64)] if asked.tiny else [(512, 768), (768, 768)] if machine.cuda else [(256, 256)]
    ceilings, cells = measure_ceilings(ProcessorTime(device, asked.tiny))
    small: AnimateAnyonePipeline = load_pipeline(asked.model, device=str(device), dtype="float32")
    width, height = small.config["size"]
    text = section(machine, f"Shipped model `{asked.model}`", small, (width, height), asked, ceilings, clock)
    del small
    large = full_size(device, kind, narrow=asked.tiny)
    put(large, Placement(device=str(device)), device)
    name = "Narrow networks (to try the benchmark)" if asked.tiny else "Full size (Stable Diffusion 1.5 widths), random"
    for size in sizes:
        text += section(machine, name, large, size, asked, ceilings, clock)
    write(
        asked.output,
        "Speed beside the plain form",
        "`plain`: the same weights and the same result, computed as public implementations do (benchmarks/plain.py): "
        "channels first, the reference repeated and projected for every frame at every step, both halves under "
        "guidance attending to it, frames decoded one by one, memory from the C library as it gives it. Medians of "
        "rounds in turn. Below `ours`: one gain taken back. The share of the ceiling is the time that the counted "
        "operations would take at the speeds of the first table, the best of each kind, in the time that was taken; on "
        "a CPU both in processor time. "
        "Activations: the most bytes of tensors that are alive beside the weights.",
        "## Ceilings, TFLOP/s",
        table(CEILINGS, cells),
        *text,
        f"Machine: {describe()}; {torch.get_num_threads()} threads; device {device}; {clock.gone():.0f} s in all.",
    )


if __name__ == "__main__":
    main()
