"""The start of training temporal layers: those of AnimateDiff (v1, v2, v3) in a denoising UNet that has none."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from torch._subclasses.fake_tensor import unset_fake_temporarily

from animate_anyone.errors import InputError
from animate_anyone.interop.animatediff import positions, read_motion_adapter
from animate_anyone.interop.weight_file import WeightFile
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.weight_files import read_settings


def start_from_animatediff(unet: DenoisingUNet, path: Path) -> tuple[DenoisingUNet, list[str]]:
    """A copy of ``unet``, which has no temporal layers, with those of an AnimateDiff file; and lines for the user.

    The number of positions is the file's (v1: 24, v2 and v3: 32). Where the file has nothing for the middle block
    (v1, v3), its temporal layers start at zero effect, as :meth:`DenoisingUNet.with_motion` makes them.

    Args:
        path: a file, a folder that holds one, or a folder of diffusers' ``MotionAdapter``, whose configuration is
            then believed on the number of heads.

    Raises:
        InputError: it is not there, no file of motion modules, or of other widths or blocks than ``unet``.
    """
    if not path.exists():
        raise InputError(f"recipe: init_motion {path}: no such file or folder; give AnimateDiff's motion modules")
    file = WeightFile(path)
    with unset_fake_temporarily():  # where memory is foretold without values
        adapter = read_motion_adapter(file)
        length = positions(file)
    motion: dict[str, int] = {}
    if length is not None:
        motion["motion_max_seq_length"] = length
    if (path / "config.json").is_file():
        heads = read_settings(path / "config.json").get("motion_num_attention_heads")
        if isinstance(heads, int) and heads > 0:
            motion["motion_num_attention_heads"] = heads
    model = unet.with_motion(**motion)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if ".motion_modules." in name}
    given = adapter.shapes.keys() - adapter.computed.keys()
    middle = adapter.config["use_motion_mid_block"]
    missing = {name for name in wanted.keys() - adapter.shapes.keys() if middle or not name.startswith("mid_block.")}
    _refuse(path, "has motion modules that this denoising UNet has no place for", given - wanted.keys())
    _refuse(path, "has no motion modules for all blocks of this denoising UNet", missing)
    for name in sorted(given):
        if adapter.shapes[name] != wanted[name]:
            got, want = ("x".join(map(str, shape)) for shape in (adapter.shapes[name], wanted[name]))
            raise InputError(f"{path}: {name} is {got}; this denoising UNet needs {want}")
    with unset_fake_temporarily():
        values = adapter.read(given)
    model.load_state_dict(values, strict=False)
    lines = [f"temporal layers start from {path}: {model.config['motion_max_seq_length']} positions"]
    if not middle and any(name.startswith("mid_block.") for name in wanted):
        lines.append(f"{path} has none for the middle block: those start at zero effect")
    return model, lines


def _refuse(path: Path, what: str, names: Collection[str]) -> None:
    if names:
        more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        raise InputError(f"{path}: {what}: {min(names)}{more}")
