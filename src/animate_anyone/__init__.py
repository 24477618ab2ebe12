"""Animate Anyone: a picture of a character and a driving video in, a video of that character moving so out.

The public names are below; each is imported when it is first asked for, so that importing the package stays
light: PyTorch is loaded with the first name that needs it.

    from animate_anyone import Settings, animate

    animate("character.png", "dance.mp4", "out.mp4", Settings(steps=10))

and, for a character in the place of a video's person, ``replace`` with its ``ReplaceSettings``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

TYPE_CHECKING = False  # as in ``typing``, whose import takes longer than that of this package
if TYPE_CHECKING:
    from typing import Any

    from animate_anyone.animate import Settings
    from animate_anyone.errors import InputError
    from animate_anyone.replace import Settings as ReplaceSettings
    from animate_anyone.sampling.models import load_pipeline
    from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
    from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
    from animate_anyone.structures import PoseSequence

    __version__: str

# Name -> the module that holds it, and its name there.
_HOMES = {
    "AnimateAnyone2Pipeline": ("animate_anyone.sampling.pipeline_environment", "AnimateAnyone2Pipeline"),
    "AnimateAnyonePipeline": ("animate_anyone.sampling.pipeline", "AnimateAnyonePipeline"),
    "InputError": ("animate_anyone.errors", "InputError"),
    "PoseSequence": ("animate_anyone.structures", "PoseSequence"),
    "ReplaceSettings": ("animate_anyone.replace", "Settings"),
    "Settings": ("animate_anyone.animate", "Settings"),
    "load_pipeline": ("animate_anyone.sampling.models", "load_pipeline"),
}
_STORIES = ("animate", "replace")  # functions, each in a module of its own name
__all__ = [
    "AnimateAnyone2Pipeline",
    "AnimateAnyonePipeline",
    "InputError",
    "PoseSequence",
    "ReplaceSettings",
    "Settings",
    "__version__",
    "animate",
    "load_pipeline",
    "replace",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # takes longer than the rest of this package

        return version("animate-anyone")
    if name in _STORIES:
        return import_module(f"animate_anyone.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'animate_anyone' has no attribute {name!r}; there are: {', '.join(__all__)}")
    module, own_name = _HOMES[name]
    return getattr(import_module(module), own_name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Story(ModuleType):
    """``animate.py`` or ``replace.py``, which may be called like the function of its name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


class _Package(ModuleType):
    """This package: a story's function and its module share a name, whichever is asked for first."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _STORIES and isinstance(value, ModuleType):  # the import system hands the module over here
            value.__class__ = _Story
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
