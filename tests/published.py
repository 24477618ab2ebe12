"""Stand-ins for published weights: tiny networks in exactly the files and names that the projects ship."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

import tiny
from animate_anyone.models.denoising_unet import DenoisingUNet
from animate_anyone.models.pose_guider import PoseGuider
from animate_anyone.models.reference_net import ReferenceNet

# Motion modules of published files have 8 heads and 32 groups, whatever the UNet has.
UNET: dict[str, Any] = {**tiny.UNET, "block_out_channels": [32, 64], "attention_head_dim": 4}
MOTION = {"motion_num_attention_heads": 8, "motion_norm_num_groups": 32}
POSITIONS = 24
GUIDER = (4, 8, 12, 16)


def motion_name(ours: str) -> str:
    """A motion module's tensor as AnimateDiff names it."""
    head, _, tail = ours.partition(".motion_modules.")
    number, _, rest = tail.partition(".")
    for new, old in (
        ("pos_embed.pe", "attention_blocks.0.pos_encoder.pe"),
        ("attn1.", "attention_blocks.0."),
        ("attn2.", "attention_blocks.1."),
        ("norm1.", "norms.0."),
        ("norm2.", "norms.1."),
        ("norm3.", "ff_norm."),
    ):
        rest = rest.replace(new, old)
    return f"{head}.motion_modules.{number}.temporal_transformer.{rest}"


def motion_tensors(network: nn.Module, tables: bool = True) -> dict[str, Tensor]:
    """A network's motion modules as a file of their own; each position table twice, or none."""
    out = {motion_name(k): v for k, v in network.state_dict().items() if "motion_modules." in k}
    for name in [k for k in out if k.endswith("pos_encoder.pe")]:
        if tables:
            out[name.replace("attention_blocks.0", "attention_blocks.1")] = out[name].clone()
        else:
            del out[name]
    return out


def save(tensors: dict[str, Tensor], path: Path) -> None:
    """As the suffix says."""
    if path.suffix == ".safetensors":
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, path)
    else:
        torch.save(tensors, path)


@cache
def networks(positions: int, guider: tuple[int, ...]) -> dict[str, Any]:
    """The networks whose weights the files hold, to be read only."""
    torch.manual_seed(5)
    denoising = DenoisingUNet.from_unet2d(UNet2DConditionModel(**UNET), motion_max_seq_length=positions, **MOTION)
    reference = ReferenceNet.from_unet2d(UNet2DConditionModel(**UNET))
    pose_guider = PoseGuider(UNET["block_out_channels"][0], guider, layout="open")
    for net in (denoising, reference, pose_guider):
        tiny.wake(net)
    return {
        "denoising_unet": denoising.eval(),
        "reference_net": reference.eval(),
        "pose_guider": pose_guider.eval(),
        "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**tiny.IMAGE_ENCODER)).eval(),
        "vae": AutoencoderKL(**tiny.VAE).eval(),
    }


def write_moore(
    folder: Path,
    *,
    suffix: str = ".pth",
    inside: bool = False,
    tables: bool = True,
    positions: int = POSITIONS,
    guider: tuple[int, ...] = GUIDER,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Any]:
    """A folder as Moore-AnimateAnyone (with ``guider`` novita, without ``tables`` MusePose) lays it out.

    Returns:
        The networks, to be read only.
    """
    made = Path(_moore(suffix, inside, tables, positions, guider, dtype).name)
    shutil.copytree(made, folder, dirs_exist_ok=True)
    return networks(positions, guider)


@cache
def _moore(
    suffix: str, inside: bool, tables: bool, positions: int, guider: tuple[int, ...], dtype: torch.dtype
) -> TemporaryDirectory[str]:
    """A folder as :func:`write_moore` has it, written once; it is gone when the process ends."""
    kept, made = TemporaryDirectory(), networks(positions, guider)
    folder = Path(kept.name)
    denoising = {k: v for k, v in made["denoising_unet"].state_dict().items() if "motion_modules." not in k}
    motion = motion_tensors(made["denoising_unet"], tables)
    files = {
        "denoising_unet": denoising | (motion if inside else {}),
        "reference_unet": made["reference_net"].state_dict(),
        "pose_guider": made["pose_guider"].state_dict(),
    }
    if not inside:
        files["motion_module"] = motion
    for name, tensors in files.items():
        save({k: v if k.endswith(".pe") else v.to(dtype) for k, v in tensors.items()}, folder / f"{name}{suffix}")
    (folder / "stable-diffusion-v1-5/unet").mkdir(parents=True)
    told = {"_class_name": "UNet2DConditionModel", **UNET}
    (folder / "stable-diffusion-v1-5/unet/config.json").write_text(json.dumps(told))
    made["image_encoder"].save_pretrained(folder / "image_encoder")
    made["vae"].save_pretrained(folder / "sd-vae-ft-mse")
    return kept


def write_animatediff(
    path: Path,
    *,
    middle: bool = True,
    wrapped: bool = False,
    positions: int = POSITIONS,
    widths: tuple[int, ...] = (32, 64),
) -> MotionAdapter:
    """An AnimateDiff file: v2 has modules in the middle, v1 and v3 have not; v3 is wrapped by its trainer."""
    torch.manual_seed(6)
    adapter = MotionAdapter(block_out_channels=widths, motion_max_seq_length=positions, use_motion_mid_block=middle)
    tensors = motion_tensors(adapter)
    if wrapped:
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in tensors.items()}}, path)
    else:
        save(tensors, path)
    return adapter
