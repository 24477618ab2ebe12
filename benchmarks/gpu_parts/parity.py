"""What the reference implementation computed, computed again on the device in several number types."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpu_parts.measure import KINDS, Machine, tensor_float_32
from gpu_parts.report import Part, Unit

TESTS = Path(__file__).resolve().parents[2] / "tests" / "parity"
FOLDER = TESTS / "fixture"
REQUIRED = 1e-4
"""The tests' bound in float32; outputs are of order 1."""
ROUNDINGS = 16
"""The bound elsewhere: so many roundings of the largest value that is wanted."""
# Half a step at 1: how much a number type rounds off, of a number. TF32 has the fraction of float16.
ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32 with TF32": 2.0**-11}

Case = tuple[str, Tensor, Tensor]
"""Name, what came out, what is wanted."""


def parity(machine: Machine, folder: Path = FOLDER) -> Part:
    """Worst error of every case beside its bound."""
    kinds = ["float32", *(["float32 with TF32"] if machine.cuda else []), "float16", "bfloat16"]
    return Part(
        "Parity with the reference implementation",
        f"Largest absolute difference from what the reference implementation computed in float32 on a CPU, on the same "
        f"weights ({folder.name}). Bounds: {REQUIRED:g} in float32, as in the tests; elsewhere {ROUNDINGS} roundings "
        "of the largest value that is wanted. `float32` is without TF32; `float32 with TF32`: convolutions and matrix "
        "products may round to it (PyTorch's default allows convolutions to).",
        ["number type, case", "largest error", "bound", "within"],
        [Unit(name, 1 if machine.tiny else 4, lambda name=name: rows(machine, folder, name)) for name in kinds],
    )


@torch.no_grad()
def rows(machine: Machine, folder: Path, name: str) -> Iterator[list[str]]:
    """All cases of a folder in one number type."""
    kind = KINDS[name.split()[0]]
    with tensor_float_32(name.endswith("TF32")):
        for case, got, want in cases(machine.device, kind, folder):
            error = (got.float().cpu() - want).abs().max().item()
            bound = REQUIRED if name == "float32" else ROUNDINGS * ROUNDING[name] * want.abs().max().item()
            within = "yes" if error <= bound else "**no**"
            yield [f"{name}, {case}", f"{error:.1e}", f"{bound:.1e}", within]


def cases(device: torch.device, kind: torch.dtype, folder: Path) -> Iterator[Case]:
    """What the tests of one forward compare (tests/parity/test_forward.py), on a device."""
    if str(TESTS) not in sys.path:
        sys.path.append(str(TESTS))
    from reference_files import ReferenceFiles

    files = ReferenceFiles(folder)

    def read(case: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        # As it is on the CPU; and on the device in this number type.
        wanted = files.tensors(case)
        given = {n: t.to(device, kind if t.is_floating_point() else t.dtype) for n, t in wanted.items()}
        return wanted, given

    wanted, given = read("pose_guider")
    yield "pose guider", files.pose_guider().to(device, kind)(given["pose_image"]), wanted["pose_features"]

    wanted, given = read("fwd_full_cfg")
    yield from first_blocks(
        files.reference_net().to(device, kind), files.denoising_unet(True, "all").to(device, kind), wanted, given
    )
    if files.trimmed:
        return
    reference_net = files.reference_net().to(device, kind)
    for case in files.cases("fwd_"):
        settings, (wanted, given) = files.settings(case), read(case)
        blocks = {"full": "all", "midup": "mid_up"}[settings["fusion_blocks"]]
        unet = files.denoising_unet("with motion" in settings["denoiser"], blocks).to(device, kind)
        unconditional = len(given["latents"]) // 2 if settings["do_classifier_free_guidance"] else 0
        token, seen = given["encoder_hidden_states"], None
        if settings["reference_used"]:
            features = reference_net(given["ref_latents"][unconditional:], token[unconditional:])
            seen = unet.project_reference(features, num_unconditional=unconditional)
        pose = given["pose_features"] if settings["pose_cond_fea_given"] else None
        yield case, unet(given["latents"], given["timestep"], token, pose, seen), wanted["output"]


def first_blocks(reference_net: Any, unet: Any, wanted: dict[str, Tensor], given: dict[str, Tensor]) -> Iterator[Case]:
    """Block by block, as far as the folder goes: pose slot, reference attention, motion modules."""
    token = given["encoder_hidden_states"]
    features = reference_net(given["ref_latents"][1:], token[1:])
    yield from (
        (f"ReferenceNet {name}", features[name], wanted[f"bank/{name}"])
        for name in features
        if f"bank/{name}" in wanted
    )
    seen: dict[str, Tensor] = {}
    names = [key.removeprefix("den/") for key in wanted if key.startswith("den/")]
    for name in names:
        unet.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: seen.__setitem__(name, out[0] if isinstance(out, tuple) else out)
        )
    keys_values = unet.project_reference(features, num_unconditional=1)
    unet(given["latents"], given["timestep"], token, given["pose_features"], keys_values)
    frames = given["latents"].shape[2]
    for name in names:
        got, want = seen[name], wanted[f"den/{name}"]
        if want.ndim == 5:  # kept of the last row: its first and last frame
            got = got.unflatten(0, (-1, frames))[-1:, [0, -1]].transpose(1, 2)
        yield f"DenoisingUNet {name}", got, want
