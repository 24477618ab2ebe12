"""``models start`` and parts of Stable Diffusion by themselves: whole, as safetensors, or one clear line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

import tiny
from animate_anyone.errors import InputError
from animate_anyone.interop import source
from animate_anyone.interop.convert import convert_folder
from animate_anyone.interop.start import Sources, find_sources, make_start
from animate_anyone.training.starting_folder import load_published

KINDS: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "image_encoder": CLIPVisionModelWithProjection,
}


def as_pickle(folder: Path, name: str) -> Path:
    """A network's folder whose weights are a ``.bin`` from now on."""
    from safetensors.torch import load_file

    (file,) = folder.glob("*.safetensors")
    torch.save(load_file(file), folder / name)
    file.unlink()
    return folder


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Path]:
    """One folder a part; the image encoder's weights are a pickle, as they are published."""
    torch.manual_seed(0)
    folders = {part: tmp_path / "given" / part for part in KINDS}
    tiny.unet2d().save_pretrained(folders["unet"])
    AutoencoderKL(**tiny.VAE).save_pretrained(folders["vae"])
    CLIPVisionModelWithProjection(CLIPVisionConfig(**tiny.IMAGE_ENCODER)).save_pretrained(folders["image_encoder"])
    as_pickle(folders["image_encoder"], "pytorch_model.bin")
    return folders


def equal(one: torch.nn.Module, other: torch.nn.Module) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def test_the_folder_holds_three_networks_and_what_they_were_made_of(parts: dict[str, Path], tmp_path: Path) -> None:
    lines = make_start("aa1", parts, tmp_path / "start")
    assert lines[-1] == f"to train, type: animate-anyone train recipes/aa1_stage1.yaml init={tmp_path / 'start'}"
    assert {path.name for path in (tmp_path / "start").iterdir()} == {*KINDS, "start.json"}
    assert not list((tmp_path / "start").rglob("*.bin"))
    for part, kind in KINDS.items():
        equal(load_published(kind, tmp_path / "start" / part), load_published(kind, parts[part]))
    told = json.loads((tmp_path / "start" / "start.json").read_text())
    assert told["start_of"] == "aa1"
    digest = source.digests(parts["image_encoder"] / "pytorch_model.bin")[0]
    assert told["parts"]["image_encoder"]["files"] == {"pytorch_model.bin": f"sha256:{digest}"}


@pytest.mark.parametrize("part", KINDS)
def test_training_reads_a_pickle_and_convert_a_part_alone(part: str, parts: dict[str, Path], tmp_path: Path) -> None:
    wanted = KINDS[part].from_pretrained(parts[part], use_safetensors=part != "image_encoder")
    if part != "image_encoder":
        as_pickle(parts[part], "diffusion_pytorch_model.bin")
    equal(load_published(KINDS[part], parts[part]), wanted)
    places = {"folder": parts[part], "above": parts[part].parent, "file": next(parts[part].glob("*.bin"))}
    for name, place in places.items():
        convert_folder(place, tmp_path / name)
        equal(KINDS[part].from_pretrained(tmp_path / name / part, use_safetensors=True), wanted)
        others = {path.name for path in (tmp_path / name).iterdir()} - {part}
        assert others == (KINDS.keys() - {part} if name == "above" else set())


def test_the_whole_of_clip(parts: dict[str, Path], tmp_path: Path) -> None:
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(text_config={**text, "vocab_size": 50}, vision_config=tiny.IMAGE_ENCODER, projection_dim=12)
    clip = CLIPModel(config)
    clip.save_pretrained(tmp_path / "clip")
    lines = make_start("aa2", {**parts, "image_encoder": tmp_path / "clip"}, tmp_path / "start")
    assert "recipes/aa2.yaml" in lines[-1]
    encoder = CLIPVisionModelWithProjection.from_pretrained(tmp_path / "start" / "image_encoder")
    assert encoder.config.projection_dim == 12
    assert torch.equal(encoder.visual_projection.weight, clip.visual_projection.weight)


def _damage(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _more(file: Path) -> None:
    torch.save({**torch.load(file), "novelty": torch.zeros(2)}, file)


def _less(file: Path) -> None:
    torch.save(dict(list(torch.load(file).items())[1:]), file)


def _runs(file: Path) -> None:
    torch.save({"layer": Path}, file)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_damage, "damaged, or not a file of weights"),
        (_more, "unknown tensor novelty"),
        (_less, "nothing for"),
        (_runs, "refused, nothing of it was run"),
        (Path.unlink, "no weights there"),
    ],
)
def test_what_is_not_whole_is_one_line_and_writes_nothing(
    spoil: Callable[[Path], None], says: str, parts: dict[str, Path], tmp_path: Path
) -> None:
    spoil(parts["image_encoder"] / "pytorch_model.bin")
    for make in (
        lambda: make_start("aa1", parts, tmp_path / "start"),
        lambda: find_sources({part: str(place) for part, place in parts.items()}),
        lambda: convert_folder(parts["image_encoder"], tmp_path / "start"),
    ):
        with pytest.raises(InputError) as caught:
            make()
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"given"}


def test_parts_that_do_not_fit_each_other(parts: dict[str, Path], tmp_path: Path) -> None:
    AutoencoderKL(**{**tiny.VAE, "latent_channels": 16}).save_pretrained(tmp_path / "vae")
    with pytest.raises(InputError, match="the vae has latent_channels 16; the UNet's in_channels is 4"):
        make_start("aa1", {**parts, "vae": tmp_path / "vae"}, tmp_path / "start")
    with pytest.raises(InputError, match="holds no unet"):
        make_start("aa1", {**parts, "unet": parts["vae"]}, tmp_path / "start")
    with pytest.raises(InputError, match="give aa1 or aa2"):
        make_start("aa3", parts, tmp_path / "start")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        make_start("aa1", parts, tmp_path / "full")


def test_a_folder_of_stable_diffusion_brings_its_autoencoder(
    parts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANIMATE_ANYONE_HOME", str(tmp_path / "home"))
    whole = parts["unet"].parent
    (whole / "image_encoder" / "config.json").unlink()
    found = find_sources({"unet": str(whole)})
    assert (found.places["unet"], found.places["vae"]) == (whole, whole)
    assert [entry.name for entry, _ in found.absent] == ["clip-image-encoder"]
    nothing: Sources = find_sources({})
    assert [entry.name for entry, _ in nothing.absent] == [
        "stable-diffusion-1.5",
        "sd-vae-ft-mse",
        "clip-image-encoder",
    ]
