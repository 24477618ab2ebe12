"""What a stage that trains a denoising UNet takes from its ``init`` folder besides that network: the VAE, the image
encoder and Stable Diffusion's UNet, the noise schedule, the options that travel with a model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from diffusers import DDIMScheduler
from torch import nn

from animate_anyone.errors import InputError
from animate_anyone.interop.published_part import load_part
from animate_anyone.models.pipeline_options import ANIMATE_ANYONE
from animate_anyone.models.weight_files import read_settings
from animate_anyone.sampling.loading import load_network
from animate_anyone.training.config import Recipe

# What travels with a model and is not the recipe's data.
_OPTIONS = ANIMATE_ANYONE.keys() - {"size", "skeleton_style"}

Network = TypeVar("Network", bound=nn.Module)


def init_folder(recipe: Recipe) -> Path:
    """The recipe's ``init``. Raises :class:`InputError` where a VAE or an image encoder is missing."""
    init = recipe.init_folder
    if init is None:
        raise InputError(f"recipe: stage {recipe.stage} needs init, a model folder with vae/ and image_encoder/")
    for part in ("vae", "image_encoder"):
        if not (init / part).is_dir():
            raise InputError(f"{init}: has no {part}/; train the recipe before this one, or give init=FOLDER")
    return init


def load_published(kind: type[Network], folder: Path) -> Network:
    """As :func:`load_network`, a part that others publish, whose weights may be a pickle (``.bin``) too."""
    if folder.is_dir() and not any(folder.glob("*.safetensors")) and any(folder.glob("*.bin")):
        return load_part(kind, folder)
    return load_network(kind, folder)


def build_scheduler(recipe: Recipe, init: Path) -> DDIMScheduler:
    """The noise schedule: the recipe's, else that of ``init``, whose own, if it is Stable Diffusion's, is another."""
    if not recipe.networks.scheduler and (init / "scheduler").exists():
        return DDIMScheduler.from_pretrained(init / "scheduler")
    return recipe.networks.build("scheduler", DDIMScheduler)


def pipeline_options(recipe: Recipe, init: Path) -> dict[str, Any]:
    """What travels with the model: as in ``init``, where that is a whole model, changed as the recipe says.

    Raises:
        InputError: the recipe has an option that is not known, or is not its to say.
    """
    changes = recipe.networks.pipeline
    for name in changes.keys() - _OPTIONS:
        where = f"data.{name}" if name in ANIMATE_ANYONE else f"one of {', '.join(sorted(_OPTIONS))}"
        raise InputError(f"recipe: networks.pipeline.{name} is not known; give {where}")
    index, options = init / "model_index.json", {}
    if (init / "denoising_unet").is_dir() and index.is_file():
        known = read_settings(index)
        options = {k: known[k] for k in _OPTIONS if k in known}
    return options | changes
