"""What ``models list`` and ``models show`` say: lines from settings and headers, no weights loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from animate_anyone.errors import InputError
from animate_anyone.interop import catalog, source
from animate_anyone.interop.catalog import Entry, WebFile, shown_size
from animate_anyone.models.shipped import INDEX, SHIPPED, shipped_folder
from animate_anyone.models.weight_files import read_headers, read_settings
from animate_anyone.progress import SILENT, Progress


def listing() -> list[str]:
    """Lines of ``models list``."""
    lines = ["shipped"]
    for name in SHIPPED:
        lines.append(f"  {name:<21}{_weight(shipped_folder(name)):>9}  {catalog.APACHE}")
    lines.append("known; to get one: animate-anyone models pull NAME")
    for entry in catalog.ENTRIES:
        about = "~" if any(wanted.computed for wanted in entry.sources) else ""
        here = source.state(source.default_folder(entry))
        where = f"  [{here}: {source.default_folder(entry)}]" if here else ""
        lines.append(f"  {entry.name:<21}{about + shown_size(entry.size):>9}  {entry.licence}{where}")
        lines.append(f"  {'':<32}{entry.about}")
        if entry.warning:
            lines.append(f"  {'':<32}warning: {entry.warning}")
    home = source.home()
    models = sorted(index.parent for index in home.glob(f"*/{INDEX}")) if home.is_dir() else []
    if models:
        lines.append(f"model folders in {home}")
        lines += [f"  {folder.name:<21}{_weight(folder):>9}" for folder in models]
    return lines


def describe(model: str, digest: bool = True, progress: Progress = SILENT) -> list[str]:
    """Lines of ``models show``.

    Args:
        model: a shipped or known name, a model folder, or a folder that was pulled.
        digest: whether to read the weights files through for their digest.
        progress: of that reading.

    Raises:
        InputError: it is nothing of these, or a model folder that would not load.
    """
    from animate_anyone.models.folder import model_folder

    if model not in SHIPPED and not Path(model).exists() and not source.is_path(model):
        entry = catalog.find(model, SHIPPED)
        return [*_known(entry), *_pulled(source.default_folder(entry))]
    if not (Path(model) / INDEX).is_file() and model not in SHIPPED and (lines := _pulled(Path(model))):
        return lines
    folder = model_folder(model)
    parts = _parts(folder)
    settings = [f"  {what + ':':<20}{value}" for what, value in setting_facts(folder).items()]
    return [f"{folder}", *parts, *settings, *(_digest(folder, progress) if digest else ())]


def pulled_folder(weights: str) -> Path:
    """The folder of a name that was pulled to its own place, or the folder itself.

    Raises:
        InputError: a known name that was not pulled.
    """
    if Path(weights).exists() or source.is_path(weights):
        return Path(weights)
    entry = catalog.find(weights)
    folder = source.default_folder(entry)
    if source.state(folder) != "whole":
        raise InputError(f"{weights}: is not here whole; type: animate-anyone models pull {weights}")
    return folder


def _weight_files(folder: Path) -> list[Path]:
    """All weights of a model folder, in the order of their names."""
    return sorted(folder.glob("*/*.safetensors"))


def _weight(folder: Path) -> str:
    return shown_size(sum(file.stat().st_size for file in _weight_files(folder)))


def _known(entry: Entry) -> list[str]:
    """What the catalogue knows."""
    lines = [f"{entry.name}: {entry.about}"]
    if entry.warning:
        lines.append(f"warning: {entry.warning}")
    for wanted in entry.sources:
        size = f"{shown_size(wanted.size)}{', computed' if wanted.computed else ''}"
        revision = f" ({wanted.revision})" if wanted.revision else ""
        lines.append(f"  {wanted.repo}{revision}, about {size}, licence: {wanted.licence}")
        digest = ""
        if isinstance(wanted, WebFile):
            known = f"sha256:{wanted.sha256}"
            digest = (
                f"  {known if wanted.sha256 else 'nobody states a digest; its tensors are checked when it is read'}"
            )
        lines += [f"    {'/'.join(filter(None, (wanted.into, pattern)))}{digest}" for pattern in wanted.files]
    lines.append(f"about {shown_size(entry.size)} in all; to get it: animate-anyone models pull {entry.name}")
    return lines


def _pulled(folder: Path) -> list[str]:
    """What the record of a pulled folder says; nothing where there is none."""
    record = source.read(folder)
    if record is None:
        return []
    lines = [f"{folder}: {record.name}, {source.state(folder)}, from {record.endpoint}"]
    for pinned in record.pinned:
        lines.append(f"  {pinned.repo}" + (f" at {pinned.commit} ({pinned.revision})" if pinned.commit else ""))
        lines += [f"    {pinned.local(f)}  {shown_size(f.size)}  {f.digest}" for f in pinned.files]
    return lines


@dataclass(frozen=True)
class NetworkFacts:
    """What the headers of a network's files say.

    Attributes:
        part: its folder.
        kind: its class.
        weights: numbers in its tensors.
        dtypes: their number types.
        size: of its files, bytes.
    """

    part: str
    kind: str
    weights: int
    dtypes: str
    size: int


def network_facts(folder: Path) -> list[NetworkFacts]:
    """Of all networks of a model folder, checked as ``models show`` does. Raises :class:`InputError` as that does."""
    from animate_anyone.models.folder import check_classes, check_weights, networks_of
    from animate_anyone.models.number_types import SAFETENSORS_DTYPES

    check_classes(folder)
    found = []
    for part, kind in networks_of(folder).items():
        check_weights(folder / part)
        weights, dtypes, size = 0, set(), 0
        for file in sorted((folder / part).glob("*.safetensors")):
            size += file.stat().st_size
            for shape, dtype in read_headers(file).values():
                weights += prod(shape)
                dtypes.add(str(SAFETENSORS_DTYPES.get(dtype, dtype)).removeprefix("torch."))
        found.append(NetworkFacts(part, kind.__name__, weights, " and ".join(sorted(dtypes)), size))
    return found


def _parts(folder: Path) -> list[str]:
    """A line per network: class, weights, dtype, bytes."""
    networks = network_facts(folder)
    lines = [
        f"  {n.part:<20}{n.kind:<30}{n.weights / 1e6:.2f} M weights  {n.dtypes}  {shown_size(n.size)}" for n in networks
    ]
    return [*lines, f"  {'in all':<46}{sum(n.weights for n in networks) / 1e6:.2f} M weights"]


def setting_facts(folder: Path) -> dict[str, Any]:
    """Schedule, guider, motion, and what the pipeline was trained with, by what they are called."""
    index, schedule = read_settings(folder / INDEX), read_settings(folder / "scheduler" / "scheduler_config.json")
    poses = "pose_modulation" if (folder / "pose_modulation").is_dir() else "pose_guider"  # Animate Anyone 2 or 1
    guider, unet = (read_settings(folder / part / "config.json") for part in (poses, "denoising_unet"))
    motion = unet.get("motion_max_seq_length") if unet.get("use_motion_module", True) else None
    widths = ", ".join(map(str, guider.get("block_out_channels", ["?"])))
    named = {
        "schedule": f"{schedule.get('beta_schedule')} betas {schedule.get('beta_start')} to "
        f"{schedule.get('beta_end')}, {schedule.get('num_train_timesteps')} timesteps, "
        f"{schedule.get('timestep_spacing')} spacing, offset {schedule.get('steps_offset')}",
        "prediction": f"{schedule.get('prediction_type')}, "
        f"{'zero' if schedule.get('rescale_betas_zero_snr') else 'not zero'} terminal SNR",
        poses.replace("_", " "): f"layout {guider.get('layout')}, widths {widths}",
        "positions": "no motion modules" if motion is None else f"{motion} frames at most in a window",
        "size": "x".join(map(str, index.get("size", ["?"]))),
        "skeleton style": index.get("skeleton_style"),
        "windows": f"{index.get('window')} frames, overlap {index.get('overlap')}",
        "guidance": index.get("guidance_scale"),
    }
    shown = {"size", "skeleton_style", "window", "overlap", "guidance_scale"}
    # Parts are pairs of library and class, of nothing where the model does without; what is left are settings that
    # this listing does not know by name.
    parts = {path.name for path in folder.iterdir() if path.is_dir()} | {k for k, v in index.items() if v == [None] * 2}
    rest = {k: v for k, v in index.items() if k not in shown | parts and not k.startswith("_")}
    return {**named, **rest}


def _digest(folder: Path, progress: Progress) -> list[str]:
    """SHA-256 over names and SHA-256 of the weights files: equal for equal weights in equal files."""
    whole = hashlib.sha256()
    weights = _weight_files(folder)
    for file in progress.track(weights, total=len(weights), description="digest"):
        whole.update(f"{file.relative_to(folder).as_posix()} {source.digests(file)[0]}\n".encode())
    return [f"  {'weights digest:':<20}sha256:{whole.hexdigest()}"]
