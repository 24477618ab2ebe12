"""A GPU that is not there: mistakes about devices become errors on any machine.

Inside :func:`pretended_gpu` tensors may be moved to and made on ``cuda``. They keep their values, on the CPU, and carry
a mark; what PyTorch refuses on a real GPU is refused here: a tensor of the CPU that meets a marked one, unless it is a
single number, a NumPy array of a marked one, a generator of another device. ``torch.cuda`` says that there is one GPU.
The mark is lost inside compiled operators alone, so Python code is seen whole, the libraries' included.

Only the thread that entered sees the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

GPU = torch.device("cuda", 0)
_MARKED: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # an attribute would be copied by libraries
_LEAVES = ("numpy", "__array__", "__dlpack__")
# What takes tensors of two devices: it copies, or looks at their kinds alone.
_TAKES_BOTH = ("copy_", "type_as", "_has_compatible_shallow_copy_type", "result_type", "can_cast", "is_same_size")


def on_gpu(tensor: Tensor) -> bool:
    """Whether a tensor is on the pretended GPU."""
    return tensor in _MARKED


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """A machine with one GPU, for the thread and as long as the block runs."""
    make_subclass = torch.Tensor._make_subclass

    def carried(cls: type, data: Tensor, *args: Any) -> Tensor:  # nn.Parameter is made so
        return _mark(make_subclass(cls, data, *args), on_gpu(data))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "_make_subclass", staticmethod(carried))
        for name, value in {
            "is_available": True,
            "is_initialized": False,
            "device_count": 1,
            "current_device": 0,
            "set_device": None,
            "synchronize": None,
            "empty_cache": None,
            "is_bf16_supported": True,
            "get_device_capability": (9, 0),
            "mem_get_info": (8 << 30, 8 << 30),
        }.items():
            patch.setattr(torch.cuda, name, _answer(value))
        with _Marked():
            yield GPU


def _answer(value: object) -> Callable[..., Any]:
    return lambda *args, **kwargs: value


class _Marked(TorchFunctionMode):
    """Sees every call of PyTorch with tensors in it, and every call that makes one."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            return _called(func, args, dict(kwargs or {}))


def _called(func: Callable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = getattr(func, "__name__", "")
    if func in _SPECIAL:
        return _SPECIAL[func](*args, **kwargs)
    if name == "to":
        return _to(*args, **kwargs)
    given = list(_tensors((args, kwargs)))
    here = any(on_gpu(tensor) for tensor in given)
    if name in _LEAVES and here:
        raise TypeError(f"can't convert {GPU} device type tensor to numpy. Use Tensor.cpu() first.")
    if name == "copy_":
        return func(*args, **kwargs)
    _check(func, name, args, given)
    if kwargs.get("device") is not None:
        here = torch.device(kwargs["device"]).type == GPU.type
        kwargs["device"] = "cpu" if here else kwargs["device"]
        generator = kwargs.get("generator")
        if here and generator is not None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if name in ("type_as", "__getitem__"):
        here = on_gpu(args[name == "type_as"])
    out = func(*args, **kwargs)
    if name == "__iter__":
        out = list(out)
    if here:
        for tensor in _tensors(out):
            _mark(tensor, True)
    return iter(out) if name == "__iter__" else out


def _check(func: Callable, name: str, args: tuple[Any, ...], given: list[Tensor]) -> None:
    """Refuse what a real GPU refuses."""
    if name in _TAKES_BOTH:
        return
    if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
        index = list(_tensors(args[1]))
        if not on_gpu(args[0]) and any(on_gpu(i) and i.dim() for i in index):  # a single number is read
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        value = (
            list(_tensors(args[2:])) if any(i.dim() for i in index) else []
        )  # without tensors as indices it is a copy
        given = [args[0], *value]
    if any(map(on_gpu, given)) and any(not on_gpu(tensor) and tensor.dim() for tensor in given):
        shapes = ", ".join(f"{tuple(t.shape)} on {GPU if on_gpu(t) else 'cpu'}" for t in given)
        raise RuntimeError(f"Expected all tensors to be on the same device, but {name} was given {shapes}")


def _to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    copy = kwargs.pop("copy", False)
    other = kwargs.pop("other", args[0] if args and isinstance(args[0], Tensor) else None)
    if other is not None:
        here, dtype, form = on_gpu(other), other.dtype, None
    else:
        device, dtype, _, form = torch._C._nn._parse_to(*args, **kwargs)
        here = on_gpu(tensor) if device is None else device.type == GPU.type
    moved = here != on_gpu(tensor)
    options = {} if form is None else {"memory_format": form}
    out = tensor.to(tensor.dtype if dtype is None else dtype, copy=copy or moved, **options)
    return _mark(out, here) if out is not tensor else out


def _mark(tensor: Tensor, here: bool) -> Tensor:
    if here:
        _MARKED[tensor] = True
    else:
        _MARKED.pop(tensor, None)
    return tensor


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))


def _device(tensor: Tensor) -> torch.device:
    return GPU if on_gpu(tensor) else _REAL_DEVICE(tensor)


def _set_data(tensor: Tensor, value: Tensor) -> None:
    _SET_DATA(tensor, value)
    _mark(tensor, on_gpu(value))


def _gradient(tensor: Tensor) -> Tensor | None:
    gradient = _GET_GRADIENT(tensor)
    return None if gradient is None else _mark(gradient, on_gpu(tensor))


def _set_gradient(tensor: Tensor, value: Tensor | None) -> None:
    if value is not None and on_gpu(value) != on_gpu(tensor):
        raise RuntimeError("assigned grad has data located on a different device")
    _SET_GRADIENT(tensor, value)


_REAL_DEVICE, _SET_DATA = torch.Tensor.device.__get__, torch.Tensor.data.__set__
_GET_GRADIENT, _SET_GRADIENT = torch.Tensor.grad.__get__, torch.Tensor.grad.__set__
_SPECIAL: dict[Any, Callable[..., Any]] = {
    _REAL_DEVICE: _device,
    torch.Tensor.is_cuda.__get__: on_gpu,
    torch.Tensor.is_cpu.__get__: lambda tensor: not on_gpu(tensor),
    _SET_DATA: _set_data,
    _GET_GRADIENT: _gradient,
    _SET_GRADIENT: _set_gradient,
    torch.Tensor.cpu: lambda tensor, **options: _to(tensor, "cpu"),
    torch.Tensor.cuda: lambda tensor, *place, **options: _to(tensor, GPU),
}
