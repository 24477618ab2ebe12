"""What is seen to when networks come into a pipeline, however they were loaded.

diffusers and transformers only log what is missing of a network's weights, or left over, and go on with random numbers.
``load_pipeline`` looks at the files before it loads anything. Where diffusers itself loads
(``DiffusionPipeline.from_pretrained``, a modular pipeline's ``load_components``) the same is asked of the files that
networks came from, when they have come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from diffusers import SchedulerMixin
from torch import nn

from animate_anyone.errors import InputError
from animate_anyone.models.diffusers_files import MODULAR_INDEX, is_ours
from animate_anyone.models.folder import ALL_NETWORKS, check_weights
from animate_anyone.models.noise_schedule import check_schedule
from animate_anyone.models.pipeline_options import merging_of
from animate_anyone.models.reference_attention import spatial_attention_layers
from animate_anyone.models.shipped import INDEX
from animate_anyone.models.weight_files import is_wrapped
from animate_anyone.sampling.placement import make_fast_on_cpu

_CHECKED: ContextVar[bool] = ContextVar("checked", default=False)


@contextmanager
def checked_already() -> Iterator[None]:
    """Within it :func:`receive_pipeline` does nothing: whoever loads has looked at the files and places networks."""
    token = _CHECKED.set(True)
    try:
        yield
    finally:
        _CHECKED.reset(token)


def receive_pipeline(pipeline: Any) -> None:
    """See to the networks of a pipeline that diffusers has just loaded.

    Raises:
        InputError: as ``load_pipeline`` does of a folder's weights.
    """
    if _CHECKED.get():
        return
    networks = pipeline.networks
    for part, network in networks.items():
        origin = Path(str(getattr(network.config, "_name_or_path", "")))
        check_origin(part, network, origin if is_part(origin, part) else None)
    if not isinstance(pipeline.scheduler, SchedulerMixin):
        raise InputError(f"scheduler is a {type(pipeline.scheduler).__name__}; a model's is a scheduler of diffusers")
    check_fit(Path(str(pipeline.config["_name_or_path"])), pipeline)
    settle(networks)


def is_part(folder: Path, part: str) -> bool:
    """Whether a folder is that of a network in a model folder of ours, and not in somebody else's."""
    above = folder.parent
    return folder.name == part and folder.is_dir() and (is_ours(above / INDEX) or is_ours(above / MODULAR_INDEX))


def check_origin(part: str, network: nn.Module, folder: Path | None) -> None:
    """See that a network is of its class, and that the folder it was loaded from holds the weights of all of it.

    Args:
        folder: ``None`` where it was given by hand.
    """
    kind, plain = ALL_NETWORKS[part], getattr(network, "_orig_mod", network)  # what torch.compile wraps
    if not isinstance(plain, kind):
        raise InputError(f"{part} is a {type(plain).__name__}; a model's is a {kind.__name__}")
    if folder is None:
        return
    check_weights(folder)
    if is_wrapped(folder):  # diffusers has not read a single one of them
        raise InputError(f"{folder}: holds a compiled network's names; load the model by animate_anyone.load_pipeline")


def settle(networks: Mapping[str, Any]) -> None:
    """One number type, and what is fastest on a CPU, as ``load_pipeline`` has it.

    transformers keeps the number type of the files where none is asked for; diffusers does not.
    """
    encoder, unet = networks.get("image_encoder"), networks.get("denoising_unet")
    if encoder is not None and unet is not None and not getattr(encoder, "is_quantized", False):
        encoder.to(dtype=unet.dtype)
    computing = (networks.get(part) for part in ("denoising_unet", "reference_net", "vae"))
    make_fast_on_cpu(network for network in computing if network is not None and network.device.type == "cpu")


def check_fit(folder: Path, pipeline: Any) -> None:
    """Hold the networks' widths against each other, where one's output is another's input."""
    unet = pipeline.denoising_unet.config
    widths, object_widths = list(unet["block_out_channels"]), pipeline.denoising_unet.object_widths()
    references = [part for part in ("reference_net", "reference_control") if getattr(pipeline, part) is not None]
    poses = "pose_modulation" if pipeline.pose_guider is None else "pose_guider"
    guider = pipeline.guider.config
    scene = getattr(pipeline, "num_environment_channels", 0)  # of Animate Anyone 2
    fit: list[tuple[str, str, Any, Any]] = [
        (poses, "out_channels", guider["out_channels"], widths[0]),
        ("image_encoder", "projection_dim", pipeline.image_encoder.config.projection_dim, unet["cross_attention_dim"]),
        ("vae", "latent_channels", pipeline.vae.config["latent_channels"], unet["out_channels"]),
        *((p, "in_channels", getattr(pipeline, p).config["in_channels"], unet["out_channels"]) for p in references),
        ("denoising_unet", "in_channels", unet["in_channels"], pipeline.num_input_channels),
        ("denoising_unet", "environment_channels", unet["environment_channels"], scene),
        (
            "denoising_unet",
            "reference_merging",
            unet["reference_merging"],
            merging_of(pipeline.config["reference_path"]),
        ),
    ]
    if pipeline.scheduler is not None:  # where only a part of the work is done
        check_schedule(pipeline.scheduler, str(folder / "scheduler"))
    resnet = getattr(pipeline, "reference_resnet", None)
    if resnet is not None:
        same = set(resnet.config["layers"]) == set(spatial_attention_layers(pipeline.denoising_unet))
        fit.append(("reference_resnet", "whether it knows the denoising UNet's layers", same, True))
    objects = getattr(pipeline, "object_guider", None)  # of Animate Anyone 2
    if objects is not None:
        fit += [
            ("object_guider", "in_channels", objects.config["in_channels"], unet["out_channels"]),
            ("denoising_unet", "blends objects", unet["object_blending"] != "none", True),
            (*("object_guider", "block_out_channels"), list(objects.config["block_out_channels"]), object_widths),
        ]
    for part, setting, got, want in fit:
        if got != want:
            raise InputError(f"{folder / part}: {setting} is {got}; the other networks of this model need {want}")
    if guider["conditioning_channels"] == 6 and not pipeline.config["reference_pose"]:
        raise InputError(f"{folder / poses}: conditioning_channels is 6, which needs reference_pose in the index")
