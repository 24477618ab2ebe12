"""Backends by name, and their networks from a folder that the user names: nothing is downloaded, nothing unpickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.structures import Picture

if TYPE_CHECKING:
    import torch

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of RGB in [0, 1]


def load_backend(
    kind: str, backends: Mapping[str, tuple[str, str]], name: str, options: Mapping[str, Any], device: str | None = None
) -> Any:
    """The backend of this name, made with ``options``; its module is imported only now.

    ``backends``: module in :mod:`animate_anyone.perception` and class by name; ``kind``: what they are, for messages;
    ``device``: for classes that take one.
    Raises :class:`InputError`: there is no such backend or option.
    """
    if name not in backends:
        raise InputError(f"there is no {kind} {name!r}; there are: {', '.join(backends)}")
    module, class_name = backends[name]
    backend = getattr(import_module(f"animate_anyone.perception.{module}"), class_name)
    known = signature(backend).parameters
    for option in options:
        if option not in known:
            raise InputError(f"{kind} {name} has no option {option!r}; there are: {', '.join(known)}")
    return backend(**options, **({"device": device} if device is not None and "device" in known else {}))


def load_network(class_name: str, folder: str | Path | None, what: str, dtype: torch.dtype | None = None) -> Any:
    """A network of transformers from a folder in its own form (``config.json``, ``*.safetensors``).

    Args:
        class_name: in transformers: ``"Sam2VideoModel"``.
        folder: where it lies; ``None`` is refused.
        what: the name of the backend, for the message.
        dtype: of its numbers; ``None``: transformers' default, that of the files.

    Raises:
        InputError: no folder, no such network in it, or weights that are missing or do not fit.
    """
    path = check_folder(folder, what)
    network = getattr(import_module("transformers"), class_name)
    try:
        loaded, report = network.from_pretrained(
            path,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **({} if dtype is None else {"dtype": dtype}),
        )
    except Exception as error:
        raise InputError(f"{path}: cannot be loaded for {what}: {' '.join(str(error).split())[:300]}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(f"{path}: no whole {class_name} for {what}; weights are missing: {', '.join(missing[:3])}")
    return loaded


def load_processor(class_name: str, folder: str | Path | None, what: str) -> Any:
    """The processor that lies beside such a network. Raises :class:`InputError` as :func:`load_network` does."""
    path = check_folder(folder, what)
    try:
        return getattr(import_module("transformers"), class_name).from_pretrained(path, local_files_only=True)
    except Exception as error:
        raise InputError(f"{path}: its processor cannot be loaded: {' '.join(str(error).split())[:300]}") from error


def check_folder(folder: str | Path | None, what: str) -> Path:
    """The folder of a backend's weights. Raises :class:`InputError` where there is none."""
    if folder is None:
        raise InputError(f"{what} needs weights and none are bundled; give their folder: weights=FOLDER")
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise InputError(f"{path}: no config.json there; give the folder of {what}'s weights as transformers saves it")
    return path


def run_network(model: Any, pixels: torch.Tensor, device: str, output: str) -> NDArray[np.float32]:
    """A named output of a network for one picture ``(1, 3, h, w)``, without its batch dimension; planes ``(c, h, w)``.

    On CUDA it is computed in float16, and again in float32 where a value leaves float16's range; elsewhere in float32.
    """
    import torch

    on_gpu = torch.device(device).type == "cuda"
    with torch.inference_mode():
        for half in (True, False) if on_gpu else (False,):
            with torch.autocast("cuda", torch.float16) if half else nullcontext():
                found = getattr(model(pixels.to(device)), output)[0].float()
            if bool(torch.isfinite(found).all()):
                break
    planes: NDArray[np.float32] = (found if found.ndim == 3 else found[None]).cpu().numpy()
    return planes


def network_input(frame: Picture, size: Sequence[int], mode: str) -> torch.Tensor:
    """``(1, 3, *size)`` float32: a frame ``(height, width, 3)`` scaled and normalised as for networks of ImageNet."""
    import torch

    mean, deviation = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (_MEAN, _DEVIATION))
    pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 255
    return (torch.nn.functional.interpolate(pixels, size, mode=mode, antialias=True) - mean) / deviation
