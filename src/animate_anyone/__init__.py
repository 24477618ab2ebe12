"""Animate Anyone: a picture of a character and a driving video in, a video of that character moving so out.

The public names are below; each is imported when it is first asked for, so that importing the package stays
light: PyTorch is loaded with the first name that needs it.

    from animate_anyone import Settings, animate

    animate("character.png", "dance.mp4", "out.mp4", Settings(steps=10))

and, for a character in the place of a video's person, ``replace`` with its ``ReplaceSettings``.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as in ``typing``, whose import takes longer than that of this package
if TYPE_CHECKING:
    from typing import Any

    from animate_anyone.errors import InputError
    from animate_anyone.sampling.loading import load_pipeline
    from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
    from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
    from animate_anyone.structures import PoseSequence
    from animate_anyone.workflows.animate import Settings, animate
    from animate_anyone.workflows.replace import Settings as ReplaceSettings
    from animate_anyone.workflows.replace import replace

    __version__: str

# Name -> the module that holds it, and its name there.
_HOMES = {
    "AnimateAnyone2Pipeline": ("sampling.pipeline_environment", "AnimateAnyone2Pipeline"),
    "AnimateAnyonePipeline": ("sampling.pipeline", "AnimateAnyonePipeline"),
    "InputError": ("errors", "InputError"),
    "PoseSequence": ("structures", "PoseSequence"),
    "ReplaceSettings": ("workflows.replace", "Settings"),
    "Settings": ("workflows.animate", "Settings"),
    "animate": ("workflows.animate", "animate"),
    "load_pipeline": ("sampling.loading", "load_pipeline"),
    "replace": ("workflows.replace", "replace"),
}
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
    if name not in _HOMES:
        raise AttributeError(f"module 'animate_anyone' has no attribute {name!r}; there are: {', '.join(__all__)}")
    module, own_name = _HOMES[name]
    return getattr(import_module(f"animate_anyone.{module}"), own_name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
