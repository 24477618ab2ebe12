"""Which model is meant, where it lies, and how it is loaded: strictly."""

from __future__ import annotations

import inspect
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, SchedulerMixin
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from animate_anyone.errors import InputError
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.object_guider import ObjectGuider
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.pose_modulation import PoseModulation
from animate_anyone.models.reference_attention import spatial_attention_layers
from animate_anyone.models.reference_control import CONTROLLED, REFERENCE_PATHS, ReferenceControl
from animate_anyone.models.reference_net import ReferenceNet
from animate_anyone.models.weight_files import check_content, plain_name, read_settings, shards
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.sampling.placement import Placement, check_attention, put, quantization_config

Network = TypeVar("Network", bound=nn.Module)

SHIPPED = ("puppet", "puppet-environment")
NETWORKS = {
    "denoising_unet": DenoisingUNet,
    "reference_net": ReferenceNet,
    "pose_guider": PoseGuider,
    "image_encoder": CLIPVisionModelWithProjection,
    "vae": AutoencoderKL,
}
PARTS = (*NETWORKS, "scheduler")
# Every network that some model has; NETWORKS are those of the method.
_KINDS: dict[str, Any] = {
    **NETWORKS,
    "reference_control": ReferenceControl,
    "pose_modulation": PoseModulation,
    "object_guider": ObjectGuider,
}
# Class name in a model's index -> the pipeline, the method's name, and the verb that takes such models.
_PIPELINES: dict[str, tuple[type[AnimateAnyonePipeline], str, str]] = {
    "AnimateAnyonePipeline": (AnimateAnyonePipeline, "Animate Anyone", "animate"),
    "AnimateAnyone2Pipeline": (AnimateAnyone2Pipeline, "Animate Anyone 2", "replace"),
}
# What the libraries below raise for files that are not what they should be.
_UNUSABLE = (OSError, ValueError, RuntimeError, KeyError, IndexError, TypeError, AttributeError, SafetensorError)


def model_folder(model: str | Path) -> Path:
    """The folder of a shipped model's name, or the folder itself.

    Raises:
        InputError: it is neither, or a part is missing.
    """
    if str(model) in SHIPPED:
        folder = Path(str(files("animate_anyone") / "weights" / str(model)))
    else:
        folder = Path(model)
        if not folder.is_dir():
            raise InputError(f"{model}: no model of that name and no such folder; shipped: {', '.join(SHIPPED)}")
    if not (folder / "model_index.json").is_file():
        raise InputError(f"{folder}: no model_index.json there; give a model folder, or one of: {', '.join(SHIPPED)}")
    parts = (*networks_of(folder), "scheduler")
    for part in parts:
        if not (folder / part).is_dir():
            raise InputError(f"{folder}: its part {part}/ is missing; a model holds {', '.join(parts)}")
    return folder


def networks_of(folder: Path) -> dict[str, Any]:
    """The networks of a model folder, by part: :data:`NETWORKS`, or those that the settings in its index ask for."""
    index = read_json(folder / "model_index.json")
    path = index.get("reference_path", "reference_net")
    if path not in REFERENCE_PATHS:
        raise InputError(
            f"{folder / 'model_index.json'}: reference_path is {path!r}; there are {', '.join(REFERENCE_PATHS)}"
        )
    second = index.get("_class_name") == AnimateAnyone2Pipeline.__name__
    modulated = second and bool(index.get("uses_depth", True))
    there = {
        "reference_net": path == "reference_net",
        "reference_control": path in CONTROLLED,
        "pose_guider": not modulated,
        "pose_modulation": modulated,
        "object_guider": second and bool(index.get("uses_objects", True)),
    }
    return {part: kind for part, kind in _KINDS.items() if there.get(part, True)}


def pipeline_class(folder: Path) -> type[AnimateAnyonePipeline]:
    """The pipeline that a model folder's index names. Raises :class:`InputError` where it is none of ours."""
    name = read_json(folder / "model_index.json").get("_class_name")
    if not isinstance(name, str) or name not in _PIPELINES:
        raise InputError(f"{folder / 'model_index.json'}: it is {name}; a model's is {' or '.join(_PIPELINES)}")
    return _PIPELINES[name][0]


def check_verb(model: str | Path, verb: str) -> None:
    """See, before anything is loaded, that a model is one for ``animate`` or one for ``replace``.

    Raises:
        InputError: it is for the other verb, or no model at all.
    """
    _, method, right = _PIPELINES[pipeline_class(model_folder(model)).__name__]
    if verb != right:
        raise InputError(f"{model}: is a model of {method}; type `animate-anyone {right}`, or give another --model")


def load_pipeline(
    model: str | Path, device: str = "auto", dtype: str = "auto", *, placement: Placement | None = None
) -> AnimateAnyonePipeline:
    """Load a model folder: an ``AnimateAnyonePipeline``, or an ``AnimateAnyone2Pipeline`` where its index says so.

    Args:
        model: a shipped model's name or a model folder.
        device, dtype: short for a placement that says nothing else.
        placement: how it is put onto this machine, instead.

    Raises:
        InputError: an unknown name, a missing part, weights that are missing, left over or of a
            wrong shape, each by name; or a placement that this machine does not allow.
    """
    folder = model_folder(model)
    placement = placement or Placement(device, dtype)
    where, kind = placement.resolve()
    check_classes(folder)
    networks = {part: check_weights(folder / part) for part in networks_of(folder)}
    sizes = head_sizes(networks["denoising_unet"])
    modulation = networks.get("pose_modulation")
    if isinstance(modulation, PoseModulation):
        sizes |= {modulation.attention.head_size}
    check_attention(placement.attention, sizes, where, kind)
    wrapped = [part for part in networks if _is_wrapped(folder / part)]
    if wrapped and placement.quantize != "none":
        raise InputError(f"{folder / wrapped[0]}: holds a compiled network's names; it cannot be quantised so")
    try:
        pipeline = pipeline_class(folder).from_pretrained(
            folder,
            **{part: _load_wrapped(_KINDS[part], folder / part, kind) for part in wrapped},
            dtype=kind,
            local_files_only=True,
            use_safetensors=True,
            quantization_config=quantization_config(placement.quantize, kind),
        )
    except (*_UNUSABLE, ImportError) as error:  # an import fails where a quantiser is too old
        raise InputError(f"{folder}: cannot be loaded: {_first_line(error)}") from error
    check_fit(folder, pipeline)
    put(pipeline, placement, where)
    return pipeline


def load_shapes(model: str | Path) -> AnimateAnyonePipeline:
    """A model folder's pipeline with networks that have shapes and no values (torch's meta device): to plan with.

    Raises :class:`InputError` as :func:`load_pipeline` does.
    """
    folder = model_folder(model)
    check_classes(folder)
    kind = pipeline_class(folder)
    options = inspect.signature(kind.__init__).parameters
    networks: dict[str, Any] = {part: None for part in _KINDS if part in options}
    networks |= {part: check_weights(folder / part) for part in networks_of(folder)}
    known = read_json(folder / "model_index.json")
    index = {k: v for k, v in known.items() if k in options and k not in (*_KINDS, "scheduler")}
    try:
        scheduler = DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
        pipeline = kind(**networks, scheduler=scheduler, **index)
    except _UNUSABLE as error:
        raise InputError(f"{folder}: cannot be loaded: {_first_line(error)}") from error
    check_fit(folder, pipeline)
    return pipeline


def head_sizes(unet: nn.Module) -> set[int]:
    """Channels per head of a network's attentions over space."""
    return {attn.to_q.out_features // attn.heads for attn in spatial_attention_layers(unet).values()}


def bytes_on_disk(model: str | Path) -> int:
    """What a model's weight files take."""
    folder = model_folder(model)
    return sum(file.stat().st_size for part in networks_of(folder) for file in _weight_files(folder / part))


def check_fit(folder: Path, pipeline: AnimateAnyonePipeline) -> None:
    """Hold the networks' widths against each other, where one's output is another's input."""
    unet = pipeline.denoising_unet.config
    references = [part for part in ("reference_net", "reference_control") if getattr(pipeline, part) is not None]
    poses = "pose_modulation" if pipeline.pose_guider is None else "pose_guider"
    guider = getattr(pipeline, poses).config
    for part, setting, got, want in (
        (poses, "out_channels", guider["out_channels"], unet["block_out_channels"][0]),
        ("image_encoder", "projection_dim", pipeline.image_encoder.config.projection_dim, unet["cross_attention_dim"]),
        ("vae", "latent_channels", pipeline.vae.config["latent_channels"], unet["out_channels"]),
        *((p, "in_channels", getattr(pipeline, p).config["in_channels"], unet["out_channels"]) for p in references),
        ("denoising_unet", "in_channels", unet["in_channels"], pipeline.num_input_channels),
        *_fit_of_scene(pipeline),
    ):
        if got != want:
            raise InputError(f"{folder / part}: {setting} is {got}; the other networks of this model need {want}")
    if guider["conditioning_channels"] == 6 and not pipeline.config["reference_pose"]:
        raise InputError(f"{folder / poses}: conditioning_channels is 6, which needs reference_pose in the index")


def _fit_of_scene(pipeline: AnimateAnyonePipeline) -> list[tuple[str, str, Any, Any]]:
    """Part, setting, what it is and must be, of what Animate Anyone 2 adds."""
    unet = pipeline.denoising_unet.config
    if not isinstance(pipeline, AnimateAnyone2Pipeline):
        return [("denoising_unet", "environment_channels", unet["environment_channels"], 0)]
    channels = pipeline.num_environment_channels
    fit: list[tuple[str, str, Any, Any]] = [
        ("denoising_unet", "environment_channels", unet["environment_channels"], channels)
    ]
    if pipeline.object_guider is not None:
        guider = pipeline.object_guider.config
        fit += [
            ("object_guider", "in_channels", guider["in_channels"], unet["out_channels"]),
            ("object_guider", "block_out_channels", [*guider["block_out_channels"]], [*unet["block_out_channels"]]),
            ("denoising_unet", "blends objects", unet["object_blending"] != "none", True),
        ]
    return fit


def load_network(kind: type[Network], folder: Path) -> Network:
    """One network of a model folder, float32, from files alone: nothing is looked for on the net.

    Raises :class:`InputError` where it is not there or cannot be loaded.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is not there; give a model folder that has {folder.name}/")
    try:
        if _is_wrapped(folder):
            return _load_wrapped(kind, folder, torch.float32)
        return kind.from_pretrained(  # type: ignore[attr-defined, no-any-return]
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    except _UNUSABLE as error:
        raise InputError(f"{folder}: cannot be loaded: {_first_line(error)}") from error


def check_classes(folder: Path) -> None:
    """Hold ``model_index.json`` against what a model of ours is made of: every part's module and class.

    diffusers imports the modules that it names.
    """
    file = folder / "model_index.json"
    index, kind = read_json(file), pipeline_class(folder)
    networks = networks_of(folder)
    for part in _KINDS:
        network = networks.get(part)
        # The libraries' classes go by the library's own name, as diffusers writes them.
        module = None if network is None else network.__module__
        if module is not None and not module.startswith(f"{__package__.partition('.')[0]}."):
            module = module.partition(".")[0]
        want = [module, network and network.__name__]
        found = index.get(part, [None, None])
        if network is None and part not in inspect.signature(kind.__init__).parameters:
            continue
        if found != want:
            raise InputError(f"{file}: its {part} is {_dotted(found)}; a model's is {_dotted(want)}")
    found = index.get("scheduler")
    library, name = found if isinstance(found, list) and len(found) == 2 else (None, None)
    scheduler = getattr(diffusers, name, None) if library == "diffusers" and isinstance(name, str) else None
    if not (isinstance(scheduler, type) and issubclass(scheduler, SchedulerMixin)):
        raise InputError(f"{file}: its scheduler is {_dotted(found)}; a model's is diffusers.DDIMScheduler")


def _dotted(named: Any) -> str:
    """What an index says of a part, as one name."""
    if not isinstance(named, list) or named == [None, None]:
        return "nothing" if named is None or isinstance(named, list) else repr(named)[:100]
    return ".".join(map(str, named))[:200]


def check_weights(folder: Path) -> nn.Module:
    """Hold the tensors in a network's files against its ``config.json``: names and shapes must be the same.

    Nothing but headers is read. The loaders of the libraries below only log what is missing or left over.

    Returns:
        The network that ``config.json`` describes, its weights shapes only.
    """
    with torch.device("meta"):
        network = _from_config(_KINDS[folder.name], folder)
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found: dict[str, tuple[int, ...]] = {}
    for file in _weight_files(folder):
        try:
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    found[plain_name(name)] = tuple(tensors.get_slice(name).get_shape())
        except (OSError, SafetensorError) as error:
            raise InputError(f"{file}: damaged, or not a safetensors file: {_first_line(error)}") from None
    # Buffers that are computed, not trained, may be left out of the files.
    trained = {name for name, _ in network.named_parameters()}
    for problem, names in (
        ("has no", trained - found.keys()),
        ("has an unknown", found.keys() - wanted.keys()),
        ("has another shape of", {n for n in found.keys() & wanted.keys() if found[n] != wanted[n]}),
    ):
        if names:
            rest = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise InputError(f"{folder} {problem} {min(names)}{rest}; the weights are not this model's")
    return network


def _from_config(kind: Any, folder: Path) -> nn.Module:
    """The network that a part's ``config.json`` describes."""
    config = read_json(folder / "config.json")
    try:
        if kind is CLIPVisionModelWithProjection:
            return CLIPVisionModelWithProjection(CLIPVisionConfig(**config))
        network: nn.Module = kind.from_config(config)
        return network
    except _UNUSABLE as error:
        raise InputError(f"{folder / 'config.json'}: no network can be built from it: {_first_line(error)}") from error


def _is_wrapped(folder: Path) -> bool:
    """Whether a network's files name tensors as a wrapper does (``torch.compile``), which the libraries do not know."""
    for file in _weight_files(folder):
        try:
            with safe_open(file, "pt") as tensors:
                if any(name != plain_name(name) for name in tensors.keys()):  # noqa: SIM118
                    return True
        except (OSError, SafetensorError):
            return False  # whoever loads it says so
    return False


def _load_wrapped(kind: type[Network], folder: Path, dtype: torch.dtype) -> Network:
    """A network whose files name tensors as a wrapper does."""
    network = _from_config(kind, folder)
    tensors: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        tensors |= {plain_name(name): tensor for name, tensor in load_file(file).items()}
    buffers = {name for name, _ in network.named_buffers()}
    missing, unknown = network.load_state_dict(tensors, strict=False)
    odd = [name for name in (*missing, *unknown) if name not in buffers]
    if odd:
        raise InputError(f"{folder}: {odd[0]} is missing or unknown; the weights are not this model's")
    return network.to(dtype).eval()  # type: ignore[return-value]


def _weight_files(folder: Path) -> list[Path]:
    """The files that a network is loaded from: those that an index names, else all; their content looked at."""
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    named = [shards(index) for index in indexes]  # whichever is read, none names a file elsewhere
    found = named[0] if named else sorted(folder.glob("*.safetensors"))
    if not found:
        raise InputError(f"{folder}: no .safetensors file there; weights in other formats are not read")
    for file in found:
        check_content(file)
    return found


def read_json(file: Path) -> dict[str, Any]:
    """A settings file of a model; :class:`InputError` where it is missing or is none."""
    return read_settings(file)


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{text[:300]}…" if len(text) > 300 else text or type(error).__name__
