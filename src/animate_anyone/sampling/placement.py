"""How a pipeline is put onto a machine, and for what: device, number type, what saves memory.

What this machine cannot do is refused before anything is loaded. None of it changes what is computed, except by
rounding; VAE tiling and quantised weights change it a little more (docs/memory.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import BitsAndBytesConfig, DiffusionPipeline, PipelineQuantizationConfig, TorchAoConfig
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _check_attention_backend_requirements,
    dispatch_attention_fn,
)
from torch import nn
from transformers import BitsAndBytesConfig as TransformersBitsAndBytesConfig
from transformers import TorchAoConfig as TransformersTorchAoConfig

from animate_anyone.errors import InputError
from animate_anyone.models.fast_layers import choose_memory_format, lay_out, use_fast_layers
from animate_anyone.models.number_types import DTYPES, has_bfloat16_units
from animate_anyone.optional import require
from animate_anyone.system import processes
from animate_anyone.system.heap import keep_freed

SMALL = 200 << 20
"""Bytes of weights under which half precision saves nothing that matters."""
OFFLOADS = ("none", "model", "group")
# diffusers' own names. Those that end in "hub" fetch code from the net when used, and are left out.
ATTENTIONS = tuple(sorted(b.value for b in AttentionBackendName if not b.value.endswith("hub")))
# Name -> the package that computes with such weights, which is its extra too.
QUANTIZERS = {"bitsandbytes-8bit": "bitsandbytes", "bitsandbytes-4bit": "bitsandbytes", "torchao-int8": "torchao"}
# Quantisers make linear layers small. Of these networks such layers are a good part; the others have next to none, or
# are there for comparisons alone (reference_control).
QUANTIZED_PARTS = ("denoising_unet", "reference_net", "image_encoder")


@dataclass(frozen=True)
class Placement:
    """How a pipeline is put onto a machine.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; ``auto`` takes a GPU where there is one.
        dtype: ``auto`` (see :func:`choose_dtype`), ``float32``, ``float16`` or ``bfloat16``.
        offload: what waits in the machine's memory until it is needed on the GPU: ``none``, whole networks
            (``model``) or single layers (``group``: least memory, slowest).
        vae_tiling: encode and decode frames larger than the VAE's training size in overlapping tiles.
        attention: a name in :data:`ATTENTIONS`; ``auto`` leaves the choice to PyTorch.
        quantize: ``none`` or a name in :data:`QUANTIZERS`.
        compile: on a GPU, the denoising UNet's repeated blocks by ``torch.compile``: some minutes at the first step,
            then faster.
    """

    device: str = "auto"
    dtype: str = "auto"
    offload: str = "none"
    vae_tiling: bool = False
    attention: str = "auto"
    quantize: str = "none"
    compile: bool = False

    def __post_init__(self) -> None:
        for what, name, names in (
            ("offload", self.offload, OFFLOADS),
            ("attention", self.attention, ("auto", *ATTENTIONS)),
            ("quantize", self.quantize, ("none", *QUANTIZERS)),
        ):
            if name not in names:
                raise InputError(f"{what} {name!r} is not known; give {', '.join(names)}")
        if self.quantize != "none" and self.offload == "group":
            raise InputError(f"quantize {self.quantize} does not go with offload group; give offload model or none")
        if self.compile and self.offload != "none":
            raise InputError(f"compile does not go with offload {self.offload}; leave one of them out")

    def resolve(self, weights: int | None = None) -> tuple[torch.device, torch.dtype]:
        """What ``auto`` means on this machine, for a model whose files take so many bytes; ``None``: not known yet.

        Raises:
            InputError: something asked for is not there or cannot be done on the device.
        """
        device = choose_device(self.device)
        dtype = choose_dtype(self.dtype, device, weights)
        if device.type == "cpu" and self.offload != "none":
            raise InputError(f"offload {self.offload} needs a GPU, and the device is cpu; leave it out")
        if device.type != "cuda" and self.compile:
            raise InputError(f"compile needs a CUDA GPU, and the device is {device}; leave it out")
        if device.type != "cuda" and self.quantize.startswith("bitsandbytes"):
            raise InputError(f"quantize {self.quantize} needs a CUDA GPU, and the device is {device}; leave it out")
        if self.quantize != "none":
            require(QUANTIZERS[self.quantize], extra=QUANTIZERS[self.quantize])
        return device, dtype


@dataclass(frozen=True)
class Work:
    """What is to be computed, as far as memory depends on it.

    Attributes:
        size: ``(width, height)`` of the video.
        frames: of the whole clip.
        window: frames denoised together, at most ``frames``.
        window_batch: windows at once.
        steps: of denoising.
        guided: whether guidance doubles each step.
        dtype: of weights and activations.
        vae_tiling, quantize: as in :class:`Placement`.
        objects: whether objects are shown (Animate Anyone 2).
        before: frames before a segment that temporal attention is shown (Animate Anyone 2).
        deep_every: at every how many steps the whole denoising UNet is computed; between, deep features are kept.
        pictures: bytes of the clip's pictures that the caller holds in the machine's memory throughout.
        preparation: bytes that the caller holds beside them while it prepares them, before the networks run.
    """

    size: tuple[int, int]
    frames: int
    window: int
    window_batch: int = 1
    steps: int = 20
    guided: bool = True
    dtype: torch.dtype = torch.float16
    vae_tiling: bool = False
    quantize: str = "none"
    objects: bool = False
    before: int = 0
    deep_every: int = 1
    pictures: int = 0
    preparation: int = 0

    @property
    def frames_at_work(self) -> int:
        """Frames that are begun and not finished, at most: a window at each step, and those that are decoded."""
        return min(self.frames, (self.steps + 1) * self.window * self.window_batch)

    @property
    def groups_at_work(self) -> int:
        """Groups of windows among those frames, at most."""
        return -(-self.frames_at_work // (self.window * self.window_batch))


def choose_device(device: str) -> torch.device:
    """``auto`` takes CUDA, each of several processes its own, then Apple's MPS, then the CPU.

    Raises:
        InputError: it is not there.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return processes.device() if processes.count() > 1 else torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InputError(f"device {device!r} is not there; give auto, cpu, cuda, cuda:N or mps") from None
    return chosen


def choose_dtype(dtype: str, device: torch.device, weights: int | None = None) -> torch.dtype:
    """A number type by its name; ``auto`` chooses by the device and the size of the model.

    On a CPU it is float32, so that frames are the same on every machine. On a GPU a small model gains nothing from half
    precision, and may need float32's range: float32. For any other it is bfloat16 where the GPU has units for it, since
    its range is float32's, else float16.

    Args:
        weights: what the model's files take, bytes; ``None``: not known, taken as large.
    """
    if dtype == "auto":
        if device.type == "cpu" or (weights is not None and weights < SMALL):
            return torch.float32
        return torch.bfloat16 if has_bfloat16_units(device) else torch.float16
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not known; give auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def check_attention(name: str, head_sizes: Iterable[int], device: torch.device, dtype: torch.dtype) -> None:
    """Try an attention backend on a few numbers, with the channels per head that the networks have.

    Raises :class:`InputError` where it is not installed or does not take such numbers on this device.
    """
    if name == "auto":
        return
    backend = AttentionBackendName(name)
    try:
        _check_attention_backend_requirements(backend)
        for size in sorted(set(head_sizes)):
            query, keys = (torch.zeros(1, tokens, 2, size, device=device, dtype=dtype) for tokens in (64, 128))
            dispatch_attention_fn(query, keys, keys, backend=backend).cpu()
    except Exception as error:  # whatever somebody's kernels raise
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(
            f"attention {name!r} does not work here ({device}, {str(dtype).removeprefix('torch.')}): {reason[:250]}; "
            "give auto or another one"
        ) from error


def quantization_config(name: str, dtype: torch.dtype) -> PipelineQuantizationConfig | None:
    """diffusers' configuration that makes weights small while they are loaded; ``None`` for ``none``.

    Args:
        name: ``none`` or a name in :data:`QUANTIZERS`.
        dtype: in which the small weights are computed with.

    Raises:
        InputError: the package that computes with such weights is not installed.
    """
    if name == "none":
        return None
    require(QUANTIZERS[name], extra=QUANTIZERS[name])
    ours: Any = BitsAndBytesConfig
    theirs: Any = TransformersBitsAndBytesConfig
    if name == "bitsandbytes-8bit":
        options: dict[str, Any] = {"load_in_8bit": True}
    elif name == "bitsandbytes-4bit":
        options = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
    else:
        quantization = require("torchao.quantization", extra="torchao")
        ours, theirs = TorchAoConfig, TransformersTorchAoConfig
        options = {"quant_type": quantization.Int8WeightOnlyConfig()}
    configs = {part: theirs if part == "image_encoder" else ours for part in QUANTIZED_PARTS}
    return PipelineQuantizationConfig(quant_mapping={part: config(**options) for part, config in configs.items()})


def put(pipeline: DiffusionPipeline, placement: Placement, device: torch.device) -> None:
    """Bring a loaded pipeline into its place; what :meth:`Placement.resolve` refuses is not asked again."""
    if placement.attention != "auto":
        # As diffusers' `set_attention_backend` does, which would also change the default of the whole process.
        networks = (pipeline.denoising_unet, pipeline.reference_net, pipeline.reference_control)
        for network in filter(None, networks):
            for processor in network.attn_processors.values():
                if hasattr(processor, "_attention_backend"):
                    processor._attention_backend = AttentionBackendName(placement.attention)
        modulation = getattr(pipeline, "pose_modulation", None)
        if modulation is not None:
            modulation.attention._attention_backend = AttentionBackendName(placement.attention)
    if placement.vae_tiling:
        pipeline.vae.enable_tiling()
    if device.type == "cpu":
        make_fast_on_cpu((pipeline.denoising_unet, pipeline.reference_net, pipeline.vae))
    if placement.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif placement.offload == "group":
        # Single layers: `project_reference` calls layers from outside their block's forward, and a block's hook hands
        # on a copy of the dictionary in which ReferenceNet collects. No streams: their prefetching learns its order
        # from the network's own forward, which `vae.decode` does not call.
        pipeline.enable_group_offload(onload_device=device, offload_type="leaf_level")
    else:
        pipeline.to(device)
    if placement.compile:
        pipeline.denoising_unet.compile_repeated_blocks()


def make_fast_on_cpu(networks: Iterable[nn.Module | None]) -> None:
    """Give networks the layers and the memory layout that a CPU computes fastest with; they may have them already.

    For wide networks, whose activations are large, the process keeps freed memory from then on (``system/heap.py``).
    """
    for network in filter(None, networks):
        use_fast_layers(network)
        layout = choose_memory_format(network, torch.device("cpu"))
        lay_out(network, layout)
        if layout == torch.channels_last:
            keep_freed()
