"""Which model is meant, where it lies, and how it is loaded: strictly."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from animate_anyone.errors import InputError
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline

SHIPPED = ("puppet",)
PARTS = ("denoising_unet", "reference_net", "pose_guider", "image_encoder", "vae", "scheduler")


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
    for part in PARTS:
        if not (folder / part).is_dir():
            raise InputError(f"{folder}: its part {part}/ is missing; a model holds {', '.join(PARTS)}")
    return folder


def choose_device(device: str) -> torch.device:
    """``auto`` takes CUDA, then Apple's MPS, then the CPU. Raises :class:`InputError` for what is not there."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InputError(f"device {device!r} is not there; give auto, cpu, cuda, cuda:N or mps") from None
    return chosen


DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """``auto`` takes float16 on a GPU and float32 on a CPU."""
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not known; give auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def load_pipeline(model: str | Path, device: str = "auto", dtype: str = "auto") -> AnimateAnyonePipeline:
    """Load a model folder.

    Raises:
        InputError: an unknown name, a missing part, weights that are missing, left over or of a
            wrong shape, each by name.
    """
    folder = model_folder(model)
    where = choose_device(device)
    kind = choose_dtype(dtype, where)
    try:
        pipeline = AnimateAnyonePipeline.from_pretrained(folder, torch_dtype=kind, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise InputError(f"{folder}: cannot be loaded: {_first_line(error)}") from error
    check_weights(folder, pipeline)
    return pipeline.to(where)


def check_weights(folder: Path, pipeline: AnimateAnyonePipeline) -> None:
    """Hold the files' tensors against the networks' own: names and shapes must be the same.

    The loaders of the libraries below only log what is missing or left over.
    """
    for part in ("denoising_unet", "reference_net", "pose_guider", "image_encoder", "vae"):
        wanted = {name: tuple(tensor.shape) for name, tensor in getattr(pipeline, part).state_dict().items()}
        found: dict[str, tuple[int, ...]] = {}
        for file in _weight_files(folder / part):
            try:
                with safe_open(file, "pt") as tensors:
                    found |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
            except (OSError, SafetensorError) as error:
                raise InputError(f"{file}: not a safetensors file: {_first_line(error)}") from None
        # Buffers that are computed, not trained, may be left out of the files.
        trained = {name for name, _ in getattr(pipeline, part).named_parameters()}
        for problem, names in (
            ("has no", trained - found.keys()),
            ("has an unknown", found.keys() - wanted.keys()),
            ("has another shape of", {n for n in found.keys() & wanted.keys() if found[n] != wanted[n]}),
        ):
            if names:
                rest = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
                raise InputError(f"{folder / part} {problem} {min(names)}{rest}; the weights are not this model's")


def _weight_files(folder: Path) -> list[Path]:
    for index in folder.glob("*.safetensors.index.json"):
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise InputError(f"{folder}: {missing[0]} is missing; {index.name} names it")
        return [folder / name for name in names]
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise InputError(f"{folder}: no .safetensors file there")
    return found


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{text[:300]}…" if len(text) > 300 else text or type(error).__name__
