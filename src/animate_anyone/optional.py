"""Packages that only some people need: imported when first used, named with their install line."""

from __future__ import annotations

import importlib
from types import ModuleType

from animate_anyone.errors import InputError

EXTRAS = {
    "pose": ("mediapipe",),
    "rtmlib": ("rtmlib", "onnxruntime"),
    "prepare": ("scenedetect.detectors",),
    "ray": ("ray",),
    "webdataset": ("webdataset", "fsspec"),
    "web": ("gradio",),
    "bitsandbytes": ("bitsandbytes",),
    "torchao": ("torchao",),
    "tensorboard": ("tensorboard",),
    "lora": ("peft",),
}
"""The extras of this project that a user may want, and the modules that each brings."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package.

    Args:
        module: what to import, as after ``import``: ``"mediapipe"``.
        extra: the extra of this project that brings it: ``"pose"``.

    Returns:
        The imported module.

    Raises:
        InputError: the package is not installed, or it is there and its import fails. Any error
            counts: a package built against another torch dies with ``RuntimeError``, one
            whose shared library is missing with ``OSError``.
    """
    install = f'pip install "animate-anyone[{extra}]"'
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(error.name + ".")):
            raise InputError(f"{module} is not installed; type: {install}") from None
        raise _broken(module, error, install) from error
    except Exception as error:
        raise _broken(module, error, install) from error


def _broken(module: str, error: Exception, install: str) -> InputError:
    reason = " ".join(str(error).split()) or "no message"
    return InputError(
        f"{module} is installed but its import fails with {type(error).__name__}: {reason}; to renew it: {install}"
    )
