"""Stable Diffusion's original single file: its names, written out here, lead to diffusers' networks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

import tiny
from animate_anyone.errors import InputError
from animate_anyone.interop.key_map import MappedNetwork
from animate_anyone.interop.stable_diffusion import read_unet, read_vae
from animate_anyone.interop.weight_file import WeightFile

UNET = {
    **tiny.UNET,
    "block_out_channels": [16, 32, 32],
    "layers_per_block": 2,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 4,
}
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def original_unet_name(name: str) -> str:
    """Two layers a block: down blocks are runs of three, the last of each halves the grid; up blocks likewise."""
    end, _, kind = name.rpartition(".")
    if end in ENDS:
        return f"model.diffusion_model.{ENDS[end]}.{kind}"
    block = re.match(r"(down|up|mid)_blocks?\.(\d+\.)?(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", name)
    assert block, name
    side, i, part, j, rest = block[1], int((block[2] or "0.")[:-1]), block[3], int(block[4]), block[5]
    if part == "resnets":
        layer, _, tail = rest.partition(".")
        rest = f"{RESNET[layer]}.{tail}"
    if side == "mid":
        place = f"middle_block.{ {'resnets': 2 * j, 'attentions': 1}[part] }"
    elif part == "downsamplers":
        place, rest = f"input_blocks.{3 * (i + 1)}.0", rest.replace("conv.", "op.")
    elif part == "upsamplers":
        place = f"output_blocks.{3 * i + 2}.{1 if UNET['up_block_types'][i] == 'UpBlock2D' else 2}"
    else:
        first = 3 * i + j + 1 if side == "down" else 3 * i + j
        place = f"{'input' if side == 'down' else 'output'}_blocks.{first}.{0 if part == 'resnets' else 1}"
    return f"model.diffusion_model.{place}.{rest}"


def original_vae_name(name: str) -> str:
    levels = len(tiny.VAE["block_out_channels"])
    name = re.sub(r"up_blocks\.(\d+)", lambda m: f"up.{levels - 1 - int(m[1])}", name.replace("down_blocks.", "down."))
    for new, old in (
        ("mid_block.resnets.0", "mid.block_1"),
        ("mid_block.resnets.1", "mid.block_2"),
        ("mid_block.attentions.0", "mid.attn_1"),
        ("resnets", "block"),
        ("downsamplers.0", "downsample"),
        ("upsamplers.0", "upsample"),
        ("conv_shortcut", "nin_shortcut"),
        ("conv_norm_out", "norm_out"),
        ("group_norm", "norm"),
        ("to_q", "q"),
        ("to_k", "k"),
        ("to_v", "v"),
        ("to_out.0", "proj_out"),
    ):
        name = name.replace(new, old)
    return f"first_stage_model.{name}"


@pytest.fixture(scope="module")
def networks() -> tuple[UNet2DConditionModel, AutoencoderKL]:
    torch.manual_seed(0)
    return UNet2DConditionModel(**UNET), AutoencoderKL(**tiny.VAE)


def checkpoint(networks: tuple[UNet2DConditionModel, AutoencoderKL]) -> dict[str, Tensor]:
    unet, vae = networks
    out = {original_unet_name(name): tensor for name, tensor in unet.state_dict().items()}
    for name, tensor in vae.state_dict().items():
        attention = re.search(r"to_(q|k|v|out\.0)\.weight$", name)  # 1x1 convolutions there
        out[original_vae_name(name)] = tensor[:, :, None, None] if attention else tensor
    out["cond_stage_model.transformer.text_model.final_layer_norm.bias"] = torch.zeros(4)
    out["alphas_cumprod"], out["sqrt_one_minus_alphas_cumprod"] = torch.zeros(1000), torch.zeros(1000)
    return out


def holds(part: MappedNetwork, network: torch.nn.Module) -> None:
    wanted = network.state_dict()
    assert part.shapes.keys() == wanted.keys()
    found = part.read(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


def test_both_networks_are_found(networks: tuple[UNet2DConditionModel, AutoencoderKL], tmp_path: Path) -> None:
    torch.save({"state_dict": checkpoint(networks), "global_step": 7}, tmp_path / "sd.ckpt")
    file = WeightFile(tmp_path / "sd.ckpt")
    unet, vae = read_unet(file, UNET), read_vae(file, tiny.VAE)
    holds(unet, networks[0])
    holds(vae, networks[1])
    assert (
        "there is no text here" in unet.left["sd.ckpt: cond_stage_model.transformer.text_model.final_layer_norm.bias"]
    )
    assert "autoencoder" in unet.left["sd.ckpt: first_stage_model.quant_conv.bias"]
    assert "UNet" in vae.left["sd.ckpt: model.diffusion_model.out.2.bias"]


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "first_stage_model.", ""])
def test_what_is_not_known_is_an_error(
    networks: tuple[UNet2DConditionModel, AutoencoderKL], tmp_path: Path, prefix: str
) -> None:
    tensors = checkpoint(networks)
    tensors[f"{prefix}novelty.weight"] = torch.zeros(3)
    torch.save(tensors, tmp_path / "sd.ckpt")
    file = WeightFile(tmp_path / "sd.ckpt")
    with pytest.raises(InputError, match=rf"sd.ckpt: has an unknown tensor {prefix}novelty.weight"):
        read_unet(file, UNET) and read_vae(file, tiny.VAE)


@pytest.mark.parametrize(
    "name", ["model.diffusion_model.middle_block.0.in_layers.2.weight", "first_stage_model.quant_conv.bias"]
)
def test_what_is_missing_is_an_error(
    networks: tuple[UNet2DConditionModel, AutoencoderKL], tmp_path: Path, name: str
) -> None:
    tensors = checkpoint(networks)
    del tensors[name]
    torch.save(tensors, tmp_path / "sd.ckpt")
    file = WeightFile(tmp_path / "sd.ckpt")
    with pytest.raises(InputError, match=r"sd.ckpt: nothing for "):
        read_unet(file, UNET) and read_vae(file, tiny.VAE)
