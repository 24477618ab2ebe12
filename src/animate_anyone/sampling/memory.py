"""How much memory a video will need, computed before anything is loaded. An estimate, never a measurement.

* Weights are counted exactly.
* Activations: the networks themselves are run on torch's meta device, shapes without values, and the bytes of all
  tensors that are alive are added up at every operation. What that cannot see is allowed for: :data:`MARGIN` for
  scratch space and gaps between tensors, :data:`PROCESS` for the libraries. benchmarks/memory.py holds the result
  against measured peaks.
* Attention is taken to keep no matrix of scores, as PyTorch's fused kernels do; the backends `_native_math` and
  `flex` (uncompiled) do keep it and need far more.

What Animate Anyone 2 needs beyond Animate Anyone: :mod:`animate_anyone.sampling.memory_environment`.

Sizes are in bytes, frames ``(width, height)`` in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from animate_anyone.first_guess.guess import FirstGuess
from animate_anyone.models.autoencoding import at_once
from animate_anyone.models.image_tokens import image_tokens
from animate_anyone.models.pipeline_options import WITH_REFERENCE_NET
from animate_anyone.models.reference_concatenation import SeenReference
from animate_anyone.sampling.alive_bytes import AliveBytes
from animate_anyone.sampling.memory_environment import (
    frames_encoded_at_once,
    join_scene,
    kept_bytes,
    scene_bytes,
    walk_before,
    walk_scene,
)
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.placement import QUANTIZED_PARTS, Work

GIB = 2**30
# Of activations, measured on CPUs (benchmarks/results/memory.md): kernels of convolutions want copies of what they are
# given, and of the phases only denoising has its peak elsewhere.
MARGIN = {"reference": 1.4, "poses": 1.4, "scene": 1.4, "denoising": 1.15, "decoding": 1.4}
# Libraries and their caches. On a CPU 0.45 GiB were measured, and gaps in the heap come on top; on a GPU assumed
# (CUDA context, kernels, the display).
PROCESS = {"cpu": 0.6 * GIB, "gpu": 1.0 * GIB}
# On a CPU the heap keeps, in pieces, what encoding the poses leaves: tensors below 32 MiB; larger ones are given back.
HEAP = 0.25 * GIB
# Bytes per weight of a linear layer, and per row of it, for scales.
_QUANTIZED_BYTES = {"bitsandbytes-8bit": (1, 4), "bitsandbytes-4bit": (0.5 + 4 / 64, 0), "torchao-int8": (1, 4)}
_GROUP_NORM, _LAYER_NORM = torch.ops.aten.native_group_norm.default, torch.ops.aten.native_layer_norm.default


@dataclass(frozen=True)
class Step:
    """One call of a network, and the most bytes that are alive beside the weights during it."""

    phase: str
    network: str
    activations: int


@dataclass(frozen=True)
class Estimate:
    """What a pipeline needs for some work.

    Attributes:
        weights: part -> bytes of all its weights, in the order of :func:`parts_of`.
        largest_layer: part -> bytes of its largest single layer.
        steps: calls of the networks, in order.
        pose_features: of the frames at work; they wait in the machine's memory, those that have no room there on disk.
        scene: likewise the environment's latents, the mask and the objects' features (Animate Anyone 2).
        guess: likewise the first guess's latents.
        pictures, preparation: as in :class:`Work`.
    """

    weights: Mapping[str, int]
    largest_layer: Mapping[str, int]
    steps: tuple[Step, ...]
    pose_features: int
    scene: int = 0
    guess: int = 0
    pictures: int = 0
    preparation: int = 0

    def phases(self, offload: str = "none") -> dict[str, float]:
        """Phase -> what it needs where the networks compute, without the libraries' own memory."""
        resident, order = set[str](), tuple(self.weights)
        needs: dict[str, float] = {}
        for step in self.steps:
            if step.phase == "decoding":
                resident.clear()  # the pipeline sends everything back after the last step
            # diffusers' hooks: a network sends back the one before it in the pipeline's order, and no other.
            resident -= set(order[: order.index(step.network)][-1:])
            resident.add(step.network)
            weights = {
                "none": sum(self.weights.values()),
                "model": sum(self.weights[part] for part in resident),
                "group": self.largest_layer[step.network],
            }[offload]
            needs[step.phase] = max(needs.get(step.phase, 0), weights + MARGIN[step.phase] * step.activations)
        return needs

    def on_gpu(self, offload: str = "none") -> float:
        """The most that a GPU must hold."""
        return PROCESS["gpu"] + max(self.phases(offload).values())

    def beside_gpu(self, offload: str = "none") -> float:
        """The most that the machine's memory must hold where a GPU computes: all weights pass through it, or stay."""
        weights, waiting = sum(self.weights.values()), max(self.waiting().values())
        return PROCESS["cpu"] + self.pictures + (max(weights, waiting) if offload == "none" else weights + waiting)

    def on_cpu(self) -> float:
        """The most that the machine's memory must hold where the CPU computes."""
        waiting = self.waiting()
        needs = (needed + waiting.get(phase, 0) for phase, needed in self.phases().items())
        left = min(HEAP, sum(step.activations for step in self.steps if step.phase == "poses"))
        return PROCESS["cpu"] + self.pictures + left + max(needs)

    def waiting(self) -> dict[str, int]:
        """Phase -> what of the clip waits in the machine's memory; phases in which nothing does are left out."""
        features = self.pose_features + self.scene + self.guess
        # Preparations are given back before the reference: too much by its activations at most.
        return {"reference": self.preparation, **dict.fromkeys(("poses", "scene", "denoising", "decoding"), features)}


def parts_of(pipeline: AnimateAnyonePipeline) -> tuple[str, ...]:
    """The networks that a pipeline has, in the order in which it has them one after the other."""
    return tuple(part for part in pipeline.model_cpu_offload_seq.split("->") if getattr(pipeline, part) is not None)


def estimate(pipeline: AnimateAnyonePipeline, work: Work) -> Estimate:
    """Estimate what ``work`` needs.

    Args:
        pipeline: from :func:`~animate_anyone.sampling.loading.load_shapes`; its networks lie on the meta
            device and are turned to ``work.dtype``.
    """
    networks: dict[str, nn.Module] = {part: getattr(pipeline, part) for part in parts_of(pipeline)}
    for network in networks.values():
        assert next(network.parameters()).device.type == "meta"
        nn.Module.to(network, dtype=work.dtype)
    pipeline.vae.enable_tiling() if work.vae_tiling else pipeline.vae.disable_tiling()
    kinds = {part: work.quantize if part in QUANTIZED_PARTS else "none" for part in networks}
    rows, columns = _grid(pipeline, work)
    pose = pipeline.guider.config["out_channels"] * rows * columns * work.dtype.itemsize
    guess = pipeline.vae.config["latent_channels"] * rows * columns * work.dtype.itemsize
    with torch.device("meta"):
        scene = scene_bytes(pipeline, work) if isinstance(pipeline, AnimateAnyone2Pipeline) else 0
    return Estimate(
        weights={p: sum(_layer_bytes(m, kinds[p]) for m in net.modules()) for p, net in networks.items()},
        largest_layer={p: max(_layer_bytes(m, kinds[p]) for m in net.modules()) for p, net in networks.items()},
        steps=tuple(_walk(pipeline, work)),
        pose_features=kept_bytes(pose, work.frames_at_work),
        scene=scene,
        guess=kept_bytes(guess, work.frames_at_work) if pipeline.guess_options.carried_reference else 0,
        pictures=work.pictures,
        preparation=work.preparation,
    )


def describe(needs: Estimate, work: Work, offload: str, device: torch.device) -> list[str]:
    """An estimate, held against this machine, in lines for the user."""
    parts = ", ".join(f"{part} {readable(size)}" for part, size in needs.weights.items())
    dtype = str(work.dtype).removeprefix("torch.")
    phases = ", ".join(f"{phase} {readable(size)}" for phase, size in needs.phases(offload).items())
    lines = [
        f"weights, {dtype}: {parts}; together {readable(sum(needs.weights.values()))}",
        f"on {device.type}, beside the libraries: {phases}",
    ]
    places = [("memory", torch.device("cpu"), needs.on_cpu() if device.type == "cpu" else needs.beside_gpu(offload))]
    if device.type != "cpu":
        places.insert(0, ("GPU", device, needs.on_gpu(offload)))
    for name, place, needed in places:
        line, there = f"{name}: {readable(needed)} at the peak", memory_of(place)
        if there is not None:
            fits = "it fits" if needed <= there[0] else "it does not fit"
            line += f"; {readable(there[0])} of {readable(there[1])} are free: {fits}"
            if needed > there[0]:
                line += "; try a smaller --size or --window, --dtype float16, --vae-tiling"
                if place.type != "cpu":
                    line += f", --offload model ({readable(needs.on_gpu('model'))}) or group"
                    line += f" ({readable(needs.on_gpu('group'))})"
        lines.append(line)
    return [*lines, "computed from the shapes of the networks, not measured"]


def readable(size: float) -> str:
    """Bytes as MiB or GiB."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 2 else f"{size / 2**20:.0f} MiB"


def memory_of(device: torch.device) -> tuple[int, int] | None:
    """``(free, all)`` bytes of a GPU's memory, or of the machine's for the CPU; ``None`` where it cannot be known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)
    if device.type == "mps":
        most = torch.mps.recommended_max_memory()
        return most - torch.mps.driver_allocated_memory(), most
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return tuple(int(lines[name].split()[0]) * 1024 for name in ("MemAvailable", "MemTotal"))  # type: ignore[return-value]
    except (OSError, KeyError, ValueError):
        return None


def _layer_bytes(module: nn.Module, quantize: str) -> int:
    """Bytes of what a module itself has in a weight file, without that of the modules inside it."""
    buffers = (b for name, b in module.named_buffers(recurse=False) if name not in module._non_persistent_buffers_set)
    own = [*module.parameters(recurse=False), *buffers]
    if quantize != "none" and isinstance(module, nn.Linear):
        per_weight, per_row = _QUANTIZED_BYTES[quantize]
        bias = [tensor for tensor in own if tensor is not module.weight]
        small = module.weight.numel() * per_weight + module.out_features * per_row
        return round(small) + sum(tensor.numel() * tensor.element_size() for tensor in bias)
    return sum(tensor.numel() * tensor.element_size() for tensor in own)


def _walk(p: AnimateAnyonePipeline, work: Work) -> list[Step]:
    """The way of a pipeline's ``stream``, one call of each network, on shapes."""
    steps: list[Step] = []
    alive = _Alive(p)

    def take(phase: str, network: str, call: Callable[[], Any]) -> Any:
        alive.peak = alive.now
        result = call()
        steps.append(Step(phase, network, alive.peak))
        return result

    with torch.device("meta"), torch.no_grad(), _NoScores(), alive:
        _walk_clip(p, work, take)
    return steps


def _walk_clip(p: AnimateAnyonePipeline, work: Work, take: Any) -> None:
    look, guessing, grid = _walk_reference(p, work, take), p.guess_options, _grid(p, work)
    channels, together = p.vae.config["latent_channels"], work.window * work.window_batch
    # float32: the noise of the clip, latents of the frames at work, those of a group's windows and sums over these.
    counts = (1 if guessing.shared_noise else work.frames, work.frames_at_work, together, (1 + work.guided) * together)
    clip = [torch.empty(1, channels, frames, *grid) for frames in counts]
    own_pose = _own_pose(p, work)
    if guessing.carried_reference:
        carried = torch.empty(min(work.frames, at_once(*work.size)), 3, *work.size[::-1], dtype=work.dtype)
        take("reference", "vae", lambda: p.vae.encode(carried).latent_dist.mean)
        del carried
    aa2 = p if isinstance(p, AnimateAnyone2Pipeline) else None
    frames, depth = (1, False) if aa2 is None else (frames_encoded_at_once(aa2, work), p.config["uses_depth"])
    take("poses", _pose_part(p), lambda: _pose_features(p, work, frames, depth))
    if aa2 is not None:
        walk_scene(aa2, work, take)
    _walk_step(p, work, look, take)
    del clip[2:]
    _walk_decoding(p, work, take)
    assert len(clip) == 2 and (own_pose is None or own_pose.is_meta) and look[0].is_meta  # alive until here


def _walk_step(
    p: AnimateAnyonePipeline, work: Work, look: tuple[Tensor, Tensor, SeenReference | None], take: Any
) -> None:
    (token, latent, keys_values), grid, control = look, _grid(p, work), p.reference_control
    batch = (1 + work.guided) * work.window_batch
    noisy = torch.empty(batch, p.vae.config["latent_channels"], work.window, *grid, dtype=work.dtype)
    pose = torch.empty(batch, p.guider.config["out_channels"], work.window, *grid, dtype=work.dtype)
    if p.guess_options.reference_latents:
        guess = FirstGuess(latent[:, :, None].expand(-1, -1, work.window, -1, -1))
        windows = [list(range(work.window))] * work.window_batch
        noisy = guess.join(noisy, windows, work.guided * work.window_batch)
    objects = before = None
    if isinstance(p, AnimateAnyone2Pipeline):
        before = walk_before(p, work, token, take)
        noisy, objects = join_scene(p, work, noisy)
    tokens = token.repeat(batch, 1, 1)

    deep: list[Tensor] = []
    if work.deep_every > 1:
        # What the last deep block gave, of all groups but those that are about to compute it anew, and of this one.
        width, groups = p.denoising_unet.config["block_out_channels"][1], work.groups_at_work
        waiting = min(groups, 1 + -(-groups * (work.deep_every - 1) // work.deep_every))
        deep = [torch.empty(batch * work.window, width, *grid, dtype=work.dtype) for _ in range(waiting)]

    def step() -> None:
        seen = keys_values
        if control is not None:
            seen = take("denoising", "reference_control", lambda: control(noisy, 1, tokens, latent, int(work.guided)))
        take("denoising", "denoising_unet", lambda: p.denoising_unet(noisy, 1, tokens, pose, seen, objects, before))

    step()
    if control is not None:
        step()  # offloaded, the ControlNet now finds the denoising UNet still there
    del deep


def _walk_decoding(p: AnimateAnyonePipeline, work: Work, take: Any) -> None:
    count = min(work.frames, at_once(*work.size))
    frame = torch.empty(count, p.vae.config["latent_channels"], *_grid(p, work), dtype=work.dtype)
    pixels = take("decoding", "vae", lambda: p.vae.decode(frame, return_dict=False)[0].float())
    if p.guess_options.keep_detail:
        picture = torch.empty_like(pixels)
        take("decoding", "vae", lambda: p.vae.decode(frame, return_dict=False)[0].float() + pixels + picture)


def _walk_reference(p: AnimateAnyonePipeline, work: Work, take: Any) -> tuple[Tensor, Tensor, SeenReference | None]:
    picture, own_pose = torch.empty(1, 3, *work.size[::-1]), None
    kind = p.config["image_tokens"]
    token = take("reference", "image_encoder", lambda: image_tokens(p.image_encoder, picture, kind).to(work.dtype))
    latent = take("reference", "vae", lambda: p.vae.encode(picture.to(work.dtype)).latent_dist.mean)
    resnet = p.reference_resnet
    if p.config["reference_path"] not in (*WITH_REFERENCE_NET, "resnet"):
        return token, latent, None
    if p.config["reference_pose"]:
        own_pose = take("reference", _pose_part(p), lambda: _pose_features(p, work)[:, :, 0])
    if resnet is None:
        features = take("reference", "reference_net", lambda: p.reference_net(latent, token, own_pose))
    else:
        features = take("reference", "reference_resnet", lambda: resnet(picture))
    project = p.denoising_unet.project_reference
    return token, latent, take("reference", "denoising_unet", lambda: project(features, int(work.guided)))


def _own_pose(p: AnimateAnyonePipeline, work: Work) -> Tensor | None:
    """The reference's pose picture, where it joins every other."""
    width, height = p.pose_picture_size(work.size)
    return (
        torch.empty(1, 3, 1, height, width, dtype=work.dtype) if p.guider.config["conditioning_channels"] > 3 else None
    )


def _pose_features(p: AnimateAnyonePipeline, work: Work, frames: int = 1, depth: bool = False) -> Tensor:
    guider, (width, height) = p.guider, p.pose_picture_size(work.size)

    def pictures(count: int) -> Tensor:
        drawn = torch.empty(1, 3, count, height, width, dtype=torch.uint8)  # alive to the end, as in the pipeline
        return drawn.to(work.dtype) / 255

    given: tuple[Tensor, ...] = (guider.beside(pictures(frames), _own_pose(p, work)),)
    if depth:
        given = (*given, torch.empty(1, 1, frames, height, width).to(work.dtype))
    return guider(*given)


def _pose_part(p: AnimateAnyonePipeline) -> str:
    """Which of the networks encodes the poses."""
    return "pose_modulation" if p.pose_guider is None else "pose_guider"


def _grid(p: AnimateAnyonePipeline, work: Work) -> tuple[int, int]:
    """Height and width of the latents."""
    return work.size[1] // p.latent_downscale, work.size[0] // p.latent_downscale


class _NoScores(TorchFunctionMode):
    """Attention as fused kernels do it: the result and nothing else is allocated."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, _, value = (
                kwargs.get(n, args[i] if i < len(args) else None) for i, n in enumerate(("query", "key", "value"))
            )
            samples, heads, tokens, _ = query.shape
            return query.new_empty(samples, tokens, heads, value.shape[-1]).transpose(1, 2)
        return func(*args, **kwargs)


def _normalised(func: Any, args: tuple[Any, ...]) -> tuple[Tensor, Tensor, Tensor] | None:
    """What a normalisation of shapes without values gives; PyTorch finds it out in ten times as long."""
    if func is _GROUP_NORM and args[0].is_meta:
        statistics = (args[3], args[6])
    elif func is _LAYER_NORM and args[0].is_meta:
        last = len(args[1])
        statistics = (*args[0].shape[:-last], *(1,) * last)
    else:
        return None
    return torch.empty_like(args[0]), args[0].new_empty(statistics), args[0].new_empty(statistics)


class _Alive(AliveBytes):
    """:class:`AliveBytes` of a pipeline's call, its weights left out."""

    def __init__(self, pipeline: AnimateAnyonePipeline) -> None:
        networks = [getattr(pipeline, part) for part in parts_of(pipeline)]
        super().__init__(weight for net in networks for weight in (*net.parameters(), *net.buffers()))

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _normalised(func, args) or super().compute(func, args, kwargs)
