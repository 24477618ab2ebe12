"""What travels with a model besides its networks: the options of its pipeline, as ``model_index.json`` holds them.

The pipelines' signatures, what they save, what conversions write and what training hands on all have these names; the
pipelines' docstrings say what each means. Nothing of the networks is imported here: recipes are read, and clips are
rendered in processes of their own, without them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from animate_anyone.errors import InputError

Init = TypeVar("Init", bound=Callable[..., None])

# How the reference's looks reach the denoising UNet: ReferenceNet's features in spatial attention, and the image tokens
# (the method); the image tokens alone; a ControlNet on the reference and no token; both of these; a ResNet's features
# in spatial attention; ReferenceNet's features concatenated on the channels; not at all (a first stage of a chain).
REFERENCE_PATHS = ("reference_net", "clip", "controlnet", "both", "resnet", "concatenated", "none")
WITH_REFERENCE_NET = ("reference_net", "concatenated")
CONTROLLED = ("controlnet", "both")
"""Those that have a ControlNet."""
WITHOUT_TOKENS = ("controlnet", "none")
"""Those whose image tokens are zero."""
IMAGE_TOKENS = ("pooled", "patches")
"""What of the image encoder's output enters cross-attention, see ``models.image_tokens``."""


def merging_of(path: str) -> str:
    """The denoising UNet's ``reference_merging`` for a ``reference_path``."""
    return "concatenated" if path == "concatenated" else "attention"


# Name -> what holds where a model does not say.
ANIMATE_ANYONE: dict[str, Any] = {
    "size": (768, 768),
    "skeleton_style": "dwpose",
    "reference_pose": False,
    "reference_latents": False,
    "carried_reference": False,
    "num_inference_steps": 20,
    "guidance_scale": 3.5,
    "window": 24,
    "overlap": 4,
    "aggregation": "fade",
    "stretch": False,
    "reference_path": "reference_net",
    "image_tokens": "pooled",
    "shared_noise": False,
    "keep_detail": False,
}


def check_options(options: Mapping[str, Any]) -> None:
    """Hold options of Animate Anyone against each other.

    Args:
        options: those that are not there are at their defaults.

    Raises:
        InputError: one has a value that is not known, or two do not go together.
    """
    given = ANIMATE_ANYONE | dict(options)
    if given["aggregation"] not in ("fade", "wrap"):
        raise InputError(f"aggregation {given['aggregation']!r} is not known; give fade or wrap")
    if given["carried_reference"] and not given["reference_latents"]:
        raise InputError("carried_reference is how reference_latents are made; set that too")
    if given["keep_detail"] and not given["carried_reference"]:
        raise InputError("keep_detail puts back what is lost of the carried reference; set carried_reference too")
    path = given["reference_path"]
    if path not in REFERENCE_PATHS:
        raise InputError(f"reference_path {path!r} is not known; give {' or '.join(REFERENCE_PATHS)}")
    if given["image_tokens"] not in IMAGE_TOKENS:
        raise InputError(f"image_tokens {given['image_tokens']!r} is not known; give {' or '.join(IMAGE_TOKENS)}")
    if path != "reference_net" and (given["reference_pose"] or given["reference_latents"]):
        raise InputError(f"reference_path {path} goes without reference_pose and reference_latents")


def takes(others: Mapping[str, Any] | type) -> Callable[[Init], Init]:
    """Declare that ``__init__(..., **others)`` takes these by name too: options with their defaults, or all that the
    ``__init__`` of a class takes.

    diffusers reads the configuration keys of a model or a pipeline from the signature of its ``__init__``.
    """
    kind = inspect.Parameter
    inherited: Mapping[str, inspect.Parameter]
    if isinstance(others, type):
        inherited = inspect.signature(others.__init__).parameters  # type: ignore[misc]
    else:
        inherited = {k: kind(k, kind.KEYWORD_ONLY, default=v, annotation=type(v)) for k, v in others.items()}

    def declare(init: Init) -> Init:
        own = {k: p for k, p in inspect.signature(init).parameters.items() if p.kind is not kind.VAR_KEYWORD}
        more = [p for k, p in inherited.items() if k not in own and p.kind is not kind.VAR_KEYWORD]
        more = [p.replace(kind=kind.KEYWORD_ONLY) for p in more]
        init.__signature__ = inspect.Signature([*own.values(), *more])  # type: ignore[attr-defined]
        return init

    return declare
