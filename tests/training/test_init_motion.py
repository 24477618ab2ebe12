"""``init_motion``: the motion and the environment stage start from AnimateDiff's temporal layers."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, MotionAdapter
from safetensors.torch import load_file
from test_paper_size import SMALL, recipe
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

import published
import tiny
from animate_anyone.errors import InputError
from animate_anyone.training.check import check_lines
from animate_anyone.training.config import Recipe
from animate_anyone.training.stages import build_stage, run

# As AnimateDiff's files: name, positions, whether there are modules in the middle, whether a trainer wrapped them.
VERSIONS: dict[str, dict[str, Any]] = {
    "mm_sd_v15.ckpt": {"positions": 24, "middle": False},
    "mm_sd_v15_v2.ckpt": {"positions": 32, "middle": True},
    "v3_sd15_mm.ckpt": {"positions": 32, "middle": False, "wrapped": True},
}


def start_folder(folder: Path) -> Path:
    """Stable Diffusion's parts, in networks of a few thousand weights."""
    tiny.unet2d(block_out_channels=[32, 64], attention_head_dim=4, layers_per_block=2).save_pretrained(folder / "unet")
    AutoencoderKL(**tiny.VAE).save_pretrained(folder / "vae")
    CLIPVisionModelWithProjection(CLIPVisionConfig(**tiny.IMAGE_ENCODER)).save_pretrained(folder / "image_encoder")
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start_folder(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def trained(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stage one leaves."""
    output = tmp_path_factory.mktemp("first")
    return run(recipe("aa1_stage1", init=str(start), output=str(output), batch=1, accumulate=1, **SMALL))


def two(init: Path, motion: Path | None, **changes: Any) -> Recipe:
    given = {"init": str(init), "init_motion": motion and str(motion), "batch": 1, "accumulate": 1}
    return recipe("aa1_stage2", output="nowhere", **{**given, **SMALL, **changes})


def aa2(init: Path, motion: Path | None, **changes: Any) -> Recipe:
    small = {"environment.modulation": {"num_attention_heads": 2}, "batch": 1, "accumulate": 1}
    return recipe(
        "aa2", init=str(init), init_motion=motion and str(motion), **{"output": "nowhere", **small, **SMALL, **changes}
    )


def temporal(unet: torch.nn.Module) -> dict[str, Tensor]:
    """Those of AnimateDiff's: what is attended to of frames before a clip is ours."""
    layers = {name: tensor for name, tensor in unet.state_dict().items() if ".motion_modules." in name}
    return {name: tensor for name, tensor in layers.items() if ".temporal_reference." not in name}


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("stage", ["motion", "environment"])
def test_each_version_starts_the_temporal_layers(
    name: str, stage: str, start: Path, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version = VERSIONS[name]
    made = published.write_animatediff(tmp_path / name, **version)
    with caplog.at_level(logging.WARNING, "animate_anyone"):
        # The environment stage needs no trained model of Animate Anyone.
        unet = build_stage(
            two(trained, tmp_path / name) if stage == "motion" else aa2(start, tmp_path / name)
        ).denoising_unet
    assert unet.config["motion_max_seq_length"] == version["positions"]
    found, given = temporal(unet), made.state_dict()
    assert {name for name in found if not name.startswith("mid_block.")} <= given.keys() <= found.keys()
    for tensor_name, tensor in given.items():
        assert torch.equal(found[tensor_name], tensor), tensor_name
    said = [record.getMessage() for record in caplog.records]
    assert f"{version['positions']} positions" in said[0]
    assert any("none for the middle block: those start at zero effect" in line for line in said) != version["middle"]
    if not version["middle"]:
        assert not found["mid_block.motion_modules.0.proj_out.weight"].any()


def test_an_adapters_folder_and_a_folder_with_one_file(trained: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    adapter = MotionAdapter(block_out_channels=(32, 64), motion_max_seq_length=24, motion_num_attention_heads=4)
    adapter.save_pretrained(tmp_path / "adapter")
    unet = build_stage(two(trained, tmp_path / "adapter")).denoising_unet
    assert unet.config["motion_num_attention_heads"] == 4
    assert all(torch.equal(temporal(unet)[name], tensor) for name, tensor in adapter.state_dict().items())

    (tmp_path / "pulled").mkdir()
    made = published.write_animatediff(tmp_path / "pulled" / "mm_sd_v15_v2.ckpt")
    (tmp_path / "pulled" / "source.json").write_text("{}")
    unet = build_stage(two(trained, tmp_path / "pulled")).denoising_unet
    assert all(torch.equal(temporal(unet)[name], tensor) for name, tensor in made.state_dict().items())


def refused(wanted: Recipe) -> str:
    with pytest.raises(InputError) as caught:
        build_stage(wanted)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_is_one_line(trained: Path, start: Path, tmp_path: Path) -> None:
    assert "no such file or folder" in refused(two(trained, tmp_path / "absent.ckpt"))
    published.write_animatediff(tmp_path / "wide.ckpt", widths=(32, 96))
    assert "this denoising UNet needs" in refused(two(trained, tmp_path / "wide.ckpt"))
    published.write_animatediff(tmp_path / "deep.ckpt", widths=(32, 64, 64))
    assert "no place for" in refused(two(trained, tmp_path / "deep.ckpt"))
    published.write_animatediff(tmp_path / "flat.ckpt", widths=(32,))
    assert "no motion modules for all blocks" in refused(two(trained, tmp_path / "flat.ckpt"))
    assert "holds no motion modules" in refused(two(trained, start / "unet"))
    torch.save({"up_blocks.0.motion_modules.0.norm.bias": torch.zeros(32)}, tmp_path / "part.ckpt")
    assert "nothing for down_blocks.0.motion_modules" in refused(two(trained, tmp_path / "part.ckpt"))
    published.write_animatediff(tmp_path / "short.ckpt", positions=16)
    assert "the temporal layers take 16" in refused(two(trained, tmp_path / "short.ckpt"))


def test_temporal_layers_are_not_replaced(start: Path, tmp_path: Path) -> None:
    published.write_animatediff(tmp_path / "mm.ckpt")
    model = run(aa2(start, tmp_path / "mm.ckpt", output=str(tmp_path / "out")))
    assert "has temporal layers already" in refused(aa2(model, tmp_path / "mm.ckpt"))


def test_where_nothing_is_in_a_row_it_is_refused(start: Path) -> None:
    with pytest.raises(InputError, match=r"init_motion is 'mm.ckpt', and this trains no temporal layers"):
        recipe("aa1_stage1", init=str(start), init_motion="mm.ckpt")
    with pytest.raises(InputError, match=r"data\.consecutive=true"):
        aa2(start, Path("mm.ckpt"), **{"data.consecutive": False})


def test_check_counts_a_start_from_published_files(
    start: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--check`` computes without values: temporal layers of AnimateDiff, and an image encoder of a ``.bin``."""
    monkeypatch.setattr("animate_anyone.training.check.measure_rate", lambda *work: 1e9)
    published.write_animatediff(tmp_path / "mm.ckpt")
    copied = tmp_path / "start"
    shutil.copytree(start, copied)
    encoder = copied / "image_encoder"
    torch.save(load_file(encoder / "model.safetensors"), encoder / "pytorch_model.bin")
    (encoder / "model.safetensors").unlink()
    for given in (two(trained, tmp_path / "mm.ckpt"), aa2(copied, tmp_path / "mm.ckpt")):
        assert any("denoising_unet" in line for line in check_lines(given))
