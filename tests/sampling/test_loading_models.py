"""Model folders: the file format, and how strictly it is read."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

import tiny
from animate_anyone.errors import InputError
from animate_anyone.models.folder import NETWORKS
from animate_anyone.sampling.loading import load_network, load_pipeline, load_shapes

PARTS = (*NETWORKS, "scheduler")


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of a whole model, to be spoilt."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def weights(folder: Path, part: str) -> Path:
    """The file with a network's weights."""
    (file,) = (folder / part).glob("*.safetensors")
    return file


def refused(folder: Path | str) -> str:
    """The message with which a folder is refused."""
    with pytest.raises(InputError) as caught:
        load_pipeline(folder, "cpu", "float32")
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_index_is_a_file_format(tiny_model: Path) -> None:
    """Folders that people have hold these names: a module that is renamed makes them unreadable."""
    index = json.loads((tiny_model / "model_index.json").read_text())
    assert {k: v for k, v in index.items() if k != "_diffusers_version"} == {
        "_class_name": "AnimateAnyonePipeline",
        "denoising_unet": ["animate_anyone.models.denoising_unet", "DenoisingUNet"],
        "reference_net": ["animate_anyone.models.reference_net", "ReferenceNet"],
        "pose_guider": ["animate_anyone.models.pose_guider", "PoseGuider"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "size": [64, 64],
        "skeleton_style": "scaled",
        "reference_pose": True,
        "reference_latents": False,
        "carried_reference": False,
        "num_inference_steps": 20,
        "guidance_scale": 2.0,
        "window": 8,
        "overlap": 2,
        "aggregation": "fade",
        "stretch": False,
        "reference_path": "reference_net",
        "image_tokens": "pooled",
        "shared_noise": False,
        "keep_detail": False,
        "reference_control": [None, None],
        "reference_resnet": [None, None],
    }
    for_diffusers = {"pipeline.py", "block.py", "modular_config.json", "modular_model_index.json"}
    assert {path.name for path in tiny_model.iterdir()} == {"model_index.json", *PARTS, *for_diffusers}


def test_whole_folder_is_loaded(folder: Path) -> None:
    pipeline = load_pipeline(folder, "cpu", "float32")
    want = tiny.pipeline()
    for part in NETWORKS:
        ours, theirs = getattr(pipeline, part).state_dict(), getattr(want, part).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), part


def test_shards_are_read(folder: Path) -> None:
    pipeline = tiny.pipeline()
    shutil.rmtree(folder)
    pipeline.save_pretrained(folder, max_shard_size="200KB")
    shards = sorted((folder / "denoising_unet").glob("*.safetensors"))
    assert len(shards) > 1
    load_pipeline(folder, "cpu", "float32")
    shards[1].unlink()
    assert f"{shards[1].name} is missing" in refused(folder)
    (folder / "denoising_unet" / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    assert "index.json: names no weights" in refused(folder)


def test_unknown_name() -> None:
    message = refused("no-such-model")
    assert message.startswith("no-such-model: no model of that name")
    assert "puppet" in message


def test_not_a_model_folder(tmp_path: Path) -> None:
    assert "model_index.json" in refused(tmp_path)


@pytest.mark.parametrize("part", PARTS)
def test_part_is_missing(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    assert f"its part {part}/ is missing" in refused(folder)


def drop(tensors: dict[str, Any], name: str) -> None:
    del tensors[name]


def add(tensors: dict[str, Any], name: str) -> None:
    tensors["stranger.weight"] = torch.zeros(2)


def bend(tensors: dict[str, Any], name: str) -> None:
    tensors[name] = torch.zeros(*tensors[name].shape, 1)


@pytest.mark.parametrize("part", NETWORKS)
@pytest.mark.parametrize(
    ("change", "message"),
    [(drop, "has no {name}"), (add, "has an unknown stranger.weight"), (bend, "has another shape of {name}")],
)
def test_wrong_tensor(folder: Path, part: str, change: Callable[[dict[str, Any], str], None], message: str) -> None:
    file = weights(folder, part)
    tensors = load_file(file)
    name = sorted(tensors)[len(tensors) // 2]
    change(tensors, name)
    save_file(tensors, file, {"format": "pt"})
    assert f"{folder / part} {message.format(name=name)}" in refused(folder)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def nothing(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("part", NETWORKS)
@pytest.mark.parametrize("change", [half, nothing])
def test_damaged_file(folder: Path, part: str, change: Callable[[bytes], bytes]) -> None:
    file = weights(folder, part)
    file.write_bytes(change(file.read_bytes()))
    assert refused(folder).startswith(f"{file}: damaged, or not a safetensors file")


INSTEAD = {
    "git-lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n",
        "is a pointer of git-lfs, .*pull",
    ),
    "page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page, not the file itself"),
    "bare page": (b"<html>\n<head>", "is a web page, not the file itself"),
    "answer": (b"Entry not found\n", "holds a line of text, not weights: 'Entry not found'"),
}


@pytest.mark.parametrize("instead", INSTEAD)
def test_what_stands_in_place_of_weights_is_named(folder: Path, instead: str) -> None:
    content, message = INSTEAD[instead]
    file = weights(folder, "vae")
    file.write_bytes(content)
    assert re.match(rf"{file}: {message}", refused(folder))
    with pytest.raises(InputError, match=message):
        load_network(AutoencoderKL, folder / "vae")


@pytest.mark.parametrize("name", ["model_index.json", "vae/config.json"])
@pytest.mark.parametrize("instead", ["git-lfs", "page"])
def test_what_stands_in_place_of_settings_is_named(folder: Path, name: str, instead: str) -> None:
    content, message = INSTEAD[instead]
    (folder / name).write_bytes(content)
    assert re.match(rf"{folder / name}: {message}", refused(folder))


@pytest.mark.parametrize("before", ["_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod."])
def test_names_of_wrapped_networks(folder: Path, before: str) -> None:
    """As torch.compile and data-parallel training write them; a compiled block inside too."""
    want = load_file(weights(folder, "vae"))
    for part in ("vae", "denoising_unet", "image_encoder"):
        file = weights(folder, part)
        inner = {"mid_block.": "mid_block._orig_mod.", "decoder.mid_block.": "decoder.mid_block._orig_mod."}
        named = {}
        for name, tensor in load_file(file).items():
            start = next((start for start in inner if name.startswith(start)), "")
            named[before + inner.get(start, "") + name.removeprefix(start)] = tensor
        save_file(named, file, {"format": "pt"})
    pipeline, right = load_pipeline(folder, "cpu", "float32"), tiny.pipeline()
    for part in NETWORKS:
        ours, theirs = getattr(pipeline, part).state_dict(), getattr(right, part).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), part
    vae = load_network(AutoencoderKL, folder / "vae")
    assert not vae.training
    loaded = vae.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in want.items())
    assert load_pipeline(folder, "cpu", "bfloat16").vae.dtype == torch.bfloat16


@pytest.fixture
def in_shards(folder: Path) -> Path:
    """The denoising UNet's folder, its weights in several files."""
    shutil.rmtree(folder)
    tiny.pipeline().save_pretrained(folder, max_shard_size="200KB")
    return folder / "denoising_unet"


@pytest.mark.parametrize(
    "name", ["../vae/{vae}", "{absolute}", "", ".", "sub\\w.safetensors", "C:w.safetensors", "a\0b"]
)
def test_shards_lie_in_their_folder(in_shards: Path, name: str) -> None:
    other = sorted((in_shards.parent / "vae").glob("*.safetensors"))[0]
    index = in_shards / "diffusion_pytorch_model.safetensors.index.json"
    told = json.loads(index.read_text())
    told["weight_map"]["conv_in.bias"] = name.format(vae=other.name, absolute=other.absolute())
    index.write_text(json.dumps(told))
    assert "which is no file of its folder" in refused(in_shards.parent)


def test_shards_are_no_links_out(in_shards: Path, tmp_path: Path) -> None:
    shard = sorted(in_shards.glob("*.safetensors"))[0]
    elsewhere = shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(elsewhere)
    assert "is a link out of its folder" in refused(in_shards.parent)


def test_snapshots_of_the_hubs_cache_are_read(in_shards: Path, tmp_path: Path) -> None:
    """Their files are links to the blobs beside."""
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "1"
    blobs.mkdir(parents=True)
    shutil.copytree(in_shards.parent, snapshot)
    for number, shard in enumerate(sorted((snapshot / "denoising_unet").glob("*.safetensors"))):
        shard.rename(blobs / str(number))
        shard.symlink_to(Path("../../../blobs") / str(number))
    load_pipeline(snapshot, "cpu", "float32")


@pytest.mark.parametrize("part", NETWORKS)
def test_weights_are_missing(folder: Path, part: str) -> None:
    weights(folder, part).unlink()
    assert refused(folder).startswith(f"{folder / part}: no .safetensors file there")


class Trap:
    """Leaves a file where a pickle of it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


@pytest.mark.parametrize("part", NETWORKS)
def test_pickles_are_not_opened(folder: Path, tmp_path: Path, part: str) -> None:
    file, sprung = weights(folder, part), tmp_path / "sprung"
    file.unlink()
    torch.save(Trap(sprung), file.with_suffix(".bin"))
    torch.save(Trap(sprung), file.with_name("pytorch_model.bin"))
    assert "no .safetensors file there" in refused(folder)
    assert not sprung.exists()


@pytest.mark.parametrize("part", NETWORKS)
def test_config_is_missing_or_broken(folder: Path, part: str) -> None:
    config = folder / part / "config.json"
    config.write_text("{")
    assert refused(folder).startswith(f"{config}: cannot be read")
    config.unlink()
    assert refused(folder).startswith(f"{config}: is missing")


def set_in(file: Path, **values: Any) -> None:
    """Change settings of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_config_that_nothing_can_be_built_from(folder: Path) -> None:
    set_in(folder / "pose_guider/config.json", layout="other")
    assert "pose_guider/config.json: no network can be built from it: layout 'other'" in refused(folder)


def test_scheduler_config_is_broken(folder: Path) -> None:
    (folder / "scheduler/scheduler_config.json").write_text("{")
    assert "scheduler_config.json" in refused(folder)


def test_index_of_another_kind_of_model(folder: Path) -> None:
    index = folder / "model_index.json"
    set_in(index, vae=["diffusers", "UNet2DModel"])
    assert "model_index.json: its vae is diffusers.UNet2DModel; a model's is diffusers.AutoencoderKL" in refused(folder)
    for vae in (["os", "AutoencoderKL"], ["vae", "AutoencoderKL"], ["AutoencoderKL"], "AutoencoderKL", None):
        set_in(index, vae=vae)
        assert "model_index.json: its vae is" in refused(folder)
        with pytest.raises(InputError, match="its vae is"):
            load_shapes(folder)
    set_in(index, vae=["diffusers", "AutoencoderKL"], pose_guider=["elsewhere", "PoseGuider"])
    assert "its pose_guider is elsewhere.PoseGuider; a model's is animate_anyone.models." in refused(folder)
    set_in(index, pose_guider=["animate_anyone.models.pose_guider", "PoseGuider"], reference_control=["os", "system"])
    assert "its reference_control is os.system; a model's is nothing" in refused(folder)
    set_in(index, reference_control=[None, None])
    for scheduler in (["os", "DDIMScheduler"], ["diffusers", "AutoencoderKL"], ["diffusers", 3], None):
        set_in(index, scheduler=scheduler)
        assert "model_index.json: its scheduler is" in refused(folder)
    set_in(index, scheduler=["diffusers", "DDIMScheduler"], _class_name=["a", "b"])
    assert "model_index.json: it is ['a', 'b']" in refused(folder)
    set_in(index, _class_name="StableDiffusionPipeline")
    assert "model_index.json: it is StableDiffusionPipeline" in refused(folder)
    index.write_text("[]")
    assert "model_index.json: holds no settings" in refused(folder)
    index.write_text("{")
    assert "model_index.json: cannot be read" in refused(folder)


def test_networks_that_do_not_fit_each_other(folder: Path) -> None:
    from animate_anyone.models.pose_guider import PoseGuider

    shutil.rmtree(folder / "pose_guider")
    PoseGuider(24, (4, 8, 8, 8)).save_pretrained(folder / "pose_guider")
    assert "pose_guider: out_channels is 24; the other networks of this model need 16" in refused(folder)


def test_input_channels_must_be_what_the_pipeline_gives(folder: Path) -> None:
    set_in(folder / "model_index.json", reference_latents=True)
    assert "denoising_unet: in_channels is 4; the other networks of this model need 8" in refused(folder)


def test_shapes_without_values(tiny_model: Path) -> None:
    """Everything that needs no values is as in the loaded pipeline."""
    shapes, whole = load_shapes(tiny_model), load_pipeline(tiny_model, "cpu", "float32")
    assert {**shapes.config, "_name_or_path": None} == {**whole.config, "_name_or_path": None}
    assert dict(shapes.scheduler.config) == dict(whole.scheduler.config)
    for part in NETWORKS:
        ours, theirs = getattr(shapes, part).state_dict(), getattr(whole, part).state_dict()
        assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}
        assert {t.device.type for t in ours.values()} == {"meta"}
    assert shapes.plan(12) == whole.plan(12)


def test_shapes_are_read_as_strictly(folder: Path) -> None:
    file = weights(folder, "vae")
    file.write_bytes(half(file.read_bytes()))
    with pytest.raises(InputError, match="damaged"):
        load_shapes(folder)


def test_a_guider_that_sees_the_references_pose_needs_it(folder: Path) -> None:
    from animate_anyone.models.pose_guider import PoseGuider

    shutil.rmtree(folder / "pose_guider")
    PoseGuider(16, (4, 8, 8, 8), conditioning_channels=6).save_pretrained(folder / "pose_guider")
    load_pipeline(folder, "cpu")
    set_in(folder / "model_index.json", reference_pose=False)
    assert "conditioning_channels is 6, which needs reference_pose" in refused(folder)
