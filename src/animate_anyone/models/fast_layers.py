"""Layers that compute the same sums faster on a CPU, for inference alone: the same weights under the same names.

:func:`use_fast_layers` changes the class of a network's layers and nothing else. What is chosen depends on what the
machine has, never on a measurement, so that one machine gives the same frames every time:

* oneDNN on an x86 CPU (AVX2 or later): linear layers in float32 by oneDNN's matrix product. PyTorch gives them to MKL,
  which on CPUs of other makers reaches half of oneDNN's speed and, for few rows, a quarter. On Intel's both are alike.
* any CPU: nearest-neighbour doubling followed by a 3x3 convolution as one 2x2 convolution before the doubling:
  of the nine cells under the kernel only four differ, so that 4 products do the work of 9.
* the same x86 CPUs: wide convolutions as matrix products, see :class:`FastConv2d`.
* activations with channels last in memory (see :func:`choose_memory_format`): spatial transformers keep that layout,
  where diffusers' copy them back to channels first.

Where gradients are wanted, on other devices, and for weights that are not plain tensors (quantised, sharded), layers
compute as before.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import Transformer2DModel
from diffusers.models.activations import GEGLU
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function
from torch.utils.flop_counter import flop_registry, register_flop_formula

from animate_anyone.models.winograd import winograd, winograd_kernels

NARROW = 64
"""Channels under which a network stays channels first in memory."""
WIDE, FEW_CELLS, MANY_CELLS, MOST_PAIRS = 256, 64, 256, 1280 * 1280
"""Of :class:`FastConv2d`: the least channels in and out, height * width, and the most channels in * out, for which
Winograd's kernels take 236 MB while they are used."""


def has_onednn_products() -> bool:
    """Whether float32 matrix products by oneDNN are at least as fast as by PyTorch's own choice on this machine."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``torch.nn.functional.linear`` by oneDNN, seen by what watches PyTorch's functions (``TorchFunctionMode``)."""
    if has_torch_function((input, weight)):
        seen: Tensor = handle_torch_function(linear, (input, weight), input, weight, bias)
        return seen
    out: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return out


class OneDnnLinear(nn.Linear):
    """``nn.Linear`` by oneDNN."""

    def takes(self, input: Tensor) -> bool:
        """Whether oneDNN computes this."""
        plain = _at_inference(input, self.weight) and self.weight.is_contiguous()
        return plain and input.dtype == torch.float32 and input.numel() > 0

    def forward(self, input: Tensor) -> Tensor:
        if self.takes(input):
            return linear(input, self.weight, self.bias)
        return super().forward(input)


class OneDnnGEGLU(GEGLU):
    """diffusers' gated linear unit, value * gelu(gate), by oneDNN, which applies gelu and the product as it goes."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        proj = self.proj
        if type(proj) is OneDnnLinear and proj.takes(hidden_states):
            value, gate = proj.weight.chunk(2)
            value_bias, gate_bias = (None, None) if proj.bias is None else proj.bias.chunk(2)
            gates = torch.ops.mkldnn._linear_pointwise(hidden_states, gate, gate_bias, "gelu", [], "none")
            out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(hidden_states, gates, value, value_bias, "mul")
            return out
        return super().forward(hidden_states, *args, **kwargs)


class FastConv2d(nn.Conv2d):
    """``nn.Conv2d`` of wide layers on float32 activations with channels last: by matrix products, where that is less.

    * 1x1: the tokens' matrix product as it is, without the copies that a convolution makes of its weights.
    * 3x3 on at most :data:`FEW_CELLS`: the weights are far more than the cells, and a convolution would copy them to a
      layout of its own at each call; the cells' surroundings are copied instead (im2col).
    * 3x3 on at least :data:`MANY_CELLS`: by Winograd's method, a quarter of the products.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self._takes(input):
            return super().forward(input)
        height, width = input.shape[-2:]
        grid = input.permute(0, 2, 3, 1)  # (n, height, width, channels)
        if self.kernel_size == (1, 1):
            return self._product(grid, self.weight.permute(0, 2, 3, 1).flatten(1)).permute(0, 3, 1, 2)
        if height * width <= FEW_CELLS:
            seen = F.pad(input, (1, 1, 1, 1)).permute(0, 2, 3, 1).unfold(1, 3, 1).unfold(2, 3, 1)
            rows = seen.permute(0, 1, 2, 4, 5, 3).flatten(3)  # (n, height, width, 9 * channels)
            return self._product(rows, self.weight.permute(0, 2, 3, 1).flatten(1)).permute(0, 3, 1, 2)
        kernels = winograd_kernels(self.weight)
        return winograd(input, kernels, self.bias, lambda x, kernel: linear(x, kernel, None))

    def _product(self, rows: Tensor, weight: Tensor) -> Tensor:
        return linear(rows, weight, self.bias)

    def _takes(self, input: Tensor) -> bool:
        if not (_at_inference(input, self.weight) and input.dtype == torch.float32 and input.ndim == 4):
            return False
        if not (is_channels_last(input) and self.weight.is_contiguous(memory_format=torch.channels_last)):
            return False
        plain = self.stride == (1, 1) and self.dilation == (1, 1) and self.groups == 1 and self.padding_mode == "zeros"
        if self.kernel_size == (1, 1):
            return plain and self.padding == (0, 0)
        if not plain or self.kernel_size != (3, 3) or self.padding != (1, 1):
            return False
        cells, pairs = input.shape[-2] * input.shape[-1], self.in_channels * self.out_channels
        wide = min(self.in_channels, self.out_channels) >= WIDE
        return wide and (cells <= FEW_CELLS or (cells >= MANY_CELLS and pairs <= MOST_PAIRS))


class DoublingUpsample(Upsample2D):
    """diffusers' upsampling by two, then a 3x3 convolution.

    Output row ``2 i`` sees the input rows ``i - 1, i, i`` and row ``2 i + 1`` sees ``i, i, i + 1``; columns likewise.
    So each of the four kinds of output cell is a 2x2 convolution of the input, with sums of the 3x3 kernel's weights.
    """

    def forward(self, hidden_states: Tensor, output_size: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        height, width = hidden_states.shape[-2:]
        doubled = output_size is None or tuple(output_size) == (2 * height, 2 * width)
        conv = self.conv
        if not (doubled and _is_plain(conv) and _at_inference(hidden_states, conv.weight)):
            return super().forward(hidden_states, output_size, *args, **kwargs)
        kernels = doubling_kernels(conv.weight)
        bias = None if conv.bias is None else conv.bias.repeat(4)
        cells = F.conv2d(hidden_states, kernels, bias, padding=1)  # (n, 4 * channels, height + 1, width + 1)
        layout = torch.channels_last if is_channels_last(cells) else torch.contiguous_format
        shape = (len(cells), conv.out_channels, 2 * height, 2 * width)
        out = torch.empty(shape, dtype=cells.dtype, device=cells.device, memory_format=layout)
        for kind, some in enumerate(cells.chunk(4, 1)):
            down, right = divmod(kind, 2)
            out[:, :, down::2, right::2] = some[:, :, down : down + height, right : right + width]
        return out


def doubling_kernels(weight: Tensor) -> Tensor:
    """The 2x2 kernels of the four kinds of cell, ``(4 * out, in, 2, 2)``, of a 3x3 kernel ``(out, in, 3, 3)``.

    Kinds in the order (even row, even column), (even, odd), (odd, even), (odd, odd).
    """

    def halves(kernel: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        first, second, third = kernel.unbind(axis)
        return torch.stack([first, second + third], axis), torch.stack([first + second, third], axis)

    kinds = torch.cat([both for rows in halves(weight, 2) for both in halves(rows, 3)])
    return kinds.contiguous(memory_format=torch.channels_last) if is_channels_last(weight) else kinds.contiguous()


class ChannelsLastTransformer(Transformer2DModel):
    """diffusers' spatial transformer that leaves activations in the memory layout that they came in."""

    def _get_output_for_continuous_inputs(
        self, hidden_states: Tensor, residual: Tensor, batch_size: int, height: int, width: int, inner_dim: int
    ) -> Tensor:
        if torch.is_grad_enabled() or not is_channels_last(residual):  # training: see TemporalLayer.forward
            out: Tensor = super()._get_output_for_continuous_inputs(
                hidden_states, residual, batch_size, height, width, inner_dim
            )
            return out
        if self.use_linear_projection:
            hidden_states = self.proj_out(hidden_states)
        grid = hidden_states.view(batch_size, height, width, inner_dim).permute(0, 3, 1, 2)
        return (grid if self.use_linear_projection else self.proj_out(grid)) + residual


def is_channels_last(tensor: Tensor) -> bool:
    """Whether the channels of ``(n, channels, h, w)`` lie next to each other in memory, and not the columns."""
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def choose_memory_format(network: Any, device: torch.device) -> torch.memory_format:
    """In which layout the activations of a UNet or VAE are best on ``device``.

    On x86 CPUs oneDNN's kernels take channels last as they are and copy channels first to a layout of their own and
    back; normalisations and the tokens of attention are the faster for it too. Of networks narrower than
    :data:`NARROW` nothing is gained, and a batch's last bits would differ from those of its pictures. On other devices
    PyTorch's own choice stays.
    """
    wide = min(network.config["block_out_channels"]) >= NARROW
    return torch.channels_last if wide and device.type == "cpu" and has_onednn_products() else torch.contiguous_format


def lay_out(network: nn.Module, layout: torch.memory_format) -> None:
    """Put a network's weights into a memory layout. Its state dict stays channels first, as files must have it."""
    nn.Module.to(network, memory_format=layout)  # type: ignore[call-overload]
    if layout != torch.contiguous_format and _channels_first not in network._state_dict_hooks.values():
        network.register_state_dict_post_hook(_channels_first)


def fast_layers() -> dict[str, tuple[type[nn.Module], type[nn.Module]]]:
    """What this machine gains from: name -> the class of a layer, and the class that computes the same faster."""
    known: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
        "upsampling": (Upsample2D, DoublingUpsample),
        "transformers": (Transformer2DModel, ChannelsLastTransformer),
    }
    if has_onednn_products():
        known |= {"linear layers": (nn.Linear, OneDnnLinear), "gated units": (GEGLU, OneDnnGEGLU)}
        known |= {"convolutions": (nn.Conv2d, FastConv2d)}
    return known


def use_fast_layers(network: nn.Module, names: Collection[str] | None = None) -> None:
    """Give a network's layers the faster classes of :func:`fast_layers`.

    Args:
        names: of these alone, and all others back to what they were; ``None``: all.
    """
    for name, (plain, faster) in fast_layers().items():
        before, after = (plain, faster) if names is None or name in names else (faster, plain)
        for module in network.modules():
            if type(module) is before and (before is not Upsample2D or _doubles(module)):
                module.__class__ = after


def _channels_first(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name, value in state.items():
        if name.startswith(prefix) and isinstance(value, Tensor):
            state[name] = value.contiguous()


def _doubles(module: Any) -> bool:
    # By nearest neighbours, then a 3x3 convolution that keeps the size.
    conv: Any = getattr(module, "conv", None)
    plain = module.interpolate and not module.use_conv_transpose and module.norm is None and module.use_conv
    return plain and _is_plain(conv) and conv.kernel_size == (3, 3) and conv.padding == (1, 1)


def _is_plain(conv: Any) -> bool:
    # None that something has been wrapped around (an adapter).
    return type(conv) in (nn.Conv2d, FastConv2d)


def _at_inference(input: Tensor, weight: Tensor) -> bool:
    return (
        input.device.type == "cpu"
        and not torch.is_grad_enabled()
        and type(weight) is nn.Parameter
        and weight.device.type == "cpu"
        and input.dtype == weight.dtype
    )


def _count_product(input_shape: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 2 * math.prod(input_shape) * int(out_shape[-1])


if hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.ops.mkldnn._linear_pointwise not in flop_registry:
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_count_product)
