"""Published layouts become model folders with the same numbers; what does not fit is refused by name."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

import published
import tiny
from animate_anyone.errors import InputError
from animate_anyone.interop.convert import convert_folder
from animate_anyone.sampling.loading import load_pipeline

NETWORKS = ("denoising_unet", "reference_net", "pose_guider", "image_encoder", "vae")


def equal(one: torch.nn.Module, other: torch.nn.Module) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name


def refused(source: Path, output: Path, **options: Any) -> str:
    """The one line; nothing is written."""
    with pytest.raises(InputError) as caught:
        convert_folder(source, output, **options)
    assert "\n" not in str(caught.value)
    assert not list(output.parent.glob(f"{output.name}*"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "project"),
    [
        ({}, "Moore-AnimateAnyone: guider widths 4, 8, 12, 16; 24 positions; motion modules in a file of their own"),
        ({"suffix": ".safetensors"}, "Moore-AnimateAnyone"),
        ({"inside": True}, "motion modules inside denoising_unet"),
        ({"guider": (16, 32, 64, 128)}, "novita-ai/AnimateAnyone: guider widths 16, 32, 64, 128; 24 positions"),
        ({"tables": False, "positions": 128}, "MusePose: guider widths 4, 8, 12, 16; 128 positions"),
    ],
    ids=["pth", "safetensors", "motion inside", "novita", "musepose"],
)
def test_whole_model(tmp_path: Path, options: dict[str, Any], project: str) -> None:
    made = published.write_moore(tmp_path / "weights", **options)
    lines = convert_folder(tmp_path / "weights", tmp_path / "model")
    assert any(project in line for line in lines), lines
    pipeline = load_pipeline(tmp_path / "model", "cpu", "float32")
    for name in NETWORKS:
        equal(getattr(pipeline, name), made[name])


def test_it_animates_as_the_networks_do(tmp_path: Path) -> None:
    made = published.write_moore(tmp_path / "weights")
    convert_folder(tmp_path / "weights", tmp_path / "model")
    ours = load_pipeline(tmp_path / "model", "cpu", "float32")
    other = load_pipeline(tmp_path / "model", "cpu", "float32")
    other.register_modules(**made)
    rng = np.random.default_rng(0)
    reference, poses = (rng.integers(0, 256, (*n, 50, 40, 3), np.uint8) for n in ((), (9,)))
    frames = []
    for pipeline in (ours, other):
        pipeline.set_progress_bar_config(disable=True)
        options: dict[str, Any] = {"size": (64, 64), "window": 6, "overlap": 2, "num_inference_steps": 2}
        frames.append(pipeline(reference, poses, generator=torch.Generator().manual_seed(0), **options).frames)
    assert frames[0].shape == (9, 64, 64, 3)
    assert np.abs(frames[0].astype(int) - frames[1]).max() <= 1


@pytest.mark.parametrize(
    ("dtype", "kept"), [(None, torch.float16), ("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_precision(tmp_path: Path, dtype: str | None, kept: torch.dtype) -> None:
    """As the files have it, or as asked for; half precision is not made single without being asked."""
    published.write_moore(tmp_path / "weights", dtype=torch.float16)
    convert_folder(tmp_path / "weights", tmp_path / "model", dtype)
    for part in ("denoising_unet", "reference_net", "pose_guider"):
        tensors = load_file(tmp_path / "model" / part / "diffusion_pytorch_model.safetensors")
        assert {v.dtype for k, v in tensors.items() if not k.endswith(".pe")} == {kept}


def test_what_travels_with_the_weights(tmp_path: Path) -> None:
    """The index is that of a folder saved by the pipeline; schedule and windows are the project's own."""
    published.write_moore(tmp_path / "weights")
    convert_folder(tmp_path / "weights", tmp_path / "model")
    tiny.pipeline().save_pretrained(tmp_path / "saved")
    ours, saved = (json.loads((tmp_path / n / "model_index.json").read_text()) for n in ("model", "saved"))
    assert ours.keys() == saved.keys()
    for name, value in saved.items():
        if (isinstance(value, list) and isinstance(value[0], str)) or name.startswith("_"):
            assert ours[name] == value, name
    assert (ours["aggregation"], ours["stretch"], ours["skeleton_style"]) == ("wrap", True, "dwpose")
    assert (ours["guidance_scale"], ours["window"], ours["overlap"]) == (3.5, 24, 4)
    schedule = json.loads((tmp_path / "model/scheduler/scheduler_config.json").read_text())
    assert schedule["beta_schedule"] == "linear"
    assert schedule["rescale_betas_zero_snr"]
    assert schedule["timestep_spacing"] == "trailing"
    assert schedule["prediction_type"] == "v_prediction"
    assert not schedule["clip_sample"]


def test_the_other_schedule(tmp_path: Path) -> None:
    published.write_moore(tmp_path / "weights")
    lines = convert_folder(tmp_path / "weights", tmp_path / "model", beta_schedule="scaled_linear")
    schedule = json.loads((tmp_path / "model/scheduler/scheduler_config.json").read_text())
    assert schedule["beta_schedule"] == "scaled_linear"
    assert "betas scaled_linear (its training says scaled_linear)" in lines
    assert "give linear or scaled_linear" in refused(tmp_path / "weights", tmp_path / "none", beta_schedule="cosine")
    published.write_moore(tmp_path / "muse", tables=False, positions=128)
    convert_folder(tmp_path / "muse", tmp_path / "muse_model")
    schedule = json.loads((tmp_path / "muse_model/scheduler/scheduler_config.json").read_text())
    index = json.loads((tmp_path / "muse_model/model_index.json").read_text())
    assert schedule["beta_schedule"] == "scaled_linear"
    assert index["window"] == 48


def test_settings_beside_the_weights(tmp_path: Path) -> None:
    """A project's inference.yaml says what no tensor does."""
    published.write_moore(tmp_path / "weights")
    file = tmp_path / "weights" / "inference_v2.yaml"
    file.write_text(
        "unet_additional_kwargs: {motion_module_kwargs: {num_attention_heads: 4}}\n"
        "noise_scheduler_kwargs: {num_train_timesteps: 1000, beta_schedule: scaled_linear, steps_offset: 0}\n"
    )
    convert_folder(tmp_path / "weights", tmp_path / "model")
    pipeline = load_pipeline(tmp_path / "model", "cpu", "float32")
    assert pipeline.denoising_unet.config["motion_num_attention_heads"] == 4
    assert pipeline.scheduler.config["steps_offset"] == 0
    assert pipeline.scheduler.config["beta_schedule"] == "scaled_linear"
    file.write_text("noise_scheduler_kwargs: {beta_schedul: linear}\n")
    assert "unknown setting beta_schedul" in refused(tmp_path / "weights", tmp_path / "none")


def test_both_formats_beside_each_other(tmp_path: Path) -> None:
    """The second is looked at too: whoever changed one of them is told."""
    published.write_moore(tmp_path / "weights")
    folder = tmp_path / "weights"
    tensors = torch.load(folder / "pose_guider.pth")
    published.save(tensors, folder / "pose_guider.safetensors")
    lines = convert_folder(folder, tmp_path / "model")
    assert "pose_guider.pth: not used, pose_guider.safetensors beside it holds the same tensors" in lines
    tensors["conv_in.bias"] = torch.zeros(5)
    torch.save(tensors, folder / "pose_guider.pth")
    assert "differs from pose_guider.safetensors beside it in conv_in.bias" in refused(folder, tmp_path / "none")


# --- what does not fit


def rename(tensors: dict[str, Tensor], name: str) -> None:
    tensors[f"{name}_"] = tensors.pop(name)


def reshape(tensors: dict[str, Tensor], name: str) -> None:
    tensors[name] = torch.zeros(*tensors[name].shape[:-1], tensors[name].shape[-1] + 1)


def drop(tensors: dict[str, Tensor], name: str) -> None:
    del tensors[name]


def add(tensors: dict[str, Tensor], name: str) -> None:
    tensors["extra.weight"] = torch.zeros(2)


SOME = {
    "denoising_unet": "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight",
    "reference_unet": "mid_block.resnets.1.conv2.weight",
    "motion_module": "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.norms.1.weight",
    "pose_guider": "blocks.2.weight",
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rename, "has an unknown tensor {name}_, and nothing for {start}"),
        (reshape, "{name} is "),
        (drop, "nothing for {start}"),
        (add, "has an unknown tensor extra.weight"),
    ],
    ids=["renamed", "misshapen", "missing", "added"],
)
@pytest.mark.parametrize("file", SOME)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_one_wrong_tensor(
    tmp_path: Path, file: str, suffix: str, change: Callable[[dict[str, Tensor], str], None], says: str
) -> None:
    published.write_moore(tmp_path / "weights", suffix=suffix)
    path, name = tmp_path / "weights" / f"{file}{suffix}", SOME[file]
    tensors = dict(load_file(path) if suffix == ".safetensors" else torch.load(path))
    change(tensors, name)
    published.save(tensors, path)
    line = refused(tmp_path / "weights", tmp_path / "model")
    assert path.name in line
    # Where one is missing our name stands in the line; both begin alike.
    assert says.format(name=name, start=name.split(".transformer_blocks")[0].split(".temporal")[0]) in line


@pytest.mark.parametrize(
    "layer", ["conv_in.weight", "conv_in.bias", "blocks.1.weight", "blocks.1.bias", "conv_out.weight"]
)
def test_the_guiders_widths_are_not_taken_from_one_tensor(tmp_path: Path, layer: str) -> None:
    """A wrong shape is named where it is, not where the rest no longer fits it."""
    published.write_moore(tmp_path / "weights")
    path = tmp_path / "weights" / "pose_guider.pth"
    tensors = torch.load(path)
    shape = tensors[layer].shape
    tensors[layer] = torch.zeros(shape[0] + 3, *shape[1:])
    torch.save(tensors, path)
    assert f"pose_guider.pth: {layer} is" in refused(tmp_path / "weights", tmp_path / "model")


@pytest.mark.parametrize("file", SOME)
def test_missing_file(tmp_path: Path, file: str) -> None:
    published.write_moore(tmp_path / "weights")
    (tmp_path / "weights" / f"{file}.pth").unlink()
    assert f"{file}.pth (or .safetensors) is missing" in refused(tmp_path / "weights", tmp_path / "model")


@pytest.mark.parametrize(
    ("folder", "says"),
    [("sd-vae-ft-mse", "autoencoder is missing"), ("image_encoder", "CLIP image encoder is missing")],
)
def test_missing_folder(tmp_path: Path, folder: str, says: str) -> None:
    import shutil

    published.write_moore(tmp_path / "weights")
    shutil.rmtree(tmp_path / "weights" / folder)
    assert says in refused(tmp_path / "weights", tmp_path / "model")


class _Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.path, "ran"))


@pytest.mark.parametrize("kind", ["zip", "plain pickle", "inside a checkpoint"])
def test_a_pickle_that_calls_a_function(tmp_path: Path, kind: str) -> None:
    published.write_moore(tmp_path / "weights")
    path, trace = tmp_path / "weights" / "reference_unet.pth", tmp_path / "trace"
    bomb = {"conv_in.weight": _Bomb(trace)}
    if kind == "zip":
        torch.save(bomb, path)
    elif kind == "plain pickle":
        path.write_bytes(pickle.dumps(bomb))
    else:
        torch.save({**torch.load(path), "more": _Bomb(trace)}, path)
    line = refused(tmp_path / "weights", tmp_path / "model")
    assert "reference_unet.pth: refused, nothing of it was run" in line
    assert not trace.exists()
    pickle.loads(pickle.dumps(bomb))
    assert trace.exists()  # it would have


def test_damaged_files(tmp_path: Path) -> None:
    published.write_moore(tmp_path / "weights")
    path = tmp_path / "weights" / "reference_unet.pth"
    whole = path.read_bytes()
    for content in (b"", b"nonsense" * 100, whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert "reference_unet.pth: " in refused(tmp_path / "weights", tmp_path / "model")
    torch.save([torch.zeros(2)], path)
    assert "weights are tensors by name" in refused(tmp_path / "weights", tmp_path / "model")
    torch.save({"conv_in.weight": "text"}, path)
    assert "'conv_in.weight' is a str" in refused(tmp_path / "weights", tmp_path / "model")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    published.write_moore(tmp_path / "weights")
    path = tmp_path / "weights" / "reference_unet.pth"
    tensors = torch.load(path)
    tensors["conv_in.bias"][1] = value
    torch.save(tensors, path)
    what = "NaN" if value != value else "infinity"
    assert f"reference_unet.pth: conv_in.bias holds {what}" in refused(tmp_path / "weights", tmp_path / "model")
    tensors["conv_in.bias"][1] = 1e6
    torch.save(tensors, path)
    line = refused(tmp_path / "weights", tmp_path / "model", dtype="float16")
    assert "conv_in.bias holds values too large for float16; give --dtype float32 or bfloat16" in line
    convert_folder(tmp_path / "weights", tmp_path / "model", dtype="bfloat16")


@pytest.mark.parametrize(
    "name", ["reference_unet.pth", "sd-vae-ft-mse/diffusion_pytorch_model.safetensors", "sd-vae-ft-mse/config.json"]
)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of git-lfs, not the file itself"),
        (b"<!doctype html>\n<html></html>", "is a web page, not the file itself"),
    ],
)
def test_what_stands_in_a_files_place_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    published.write_moore(tmp_path / "weights")
    path = tmp_path / "weights" / name
    assert path.is_file()
    path.write_bytes(content)
    assert f"{path}: {message}" in refused(tmp_path / "weights", tmp_path / "model")


def test_names_of_compiled_networks(tmp_path: Path) -> None:
    published.write_moore(tmp_path / "weights")
    convert_folder(tmp_path / "weights", tmp_path / "plain")
    for name, before in (("reference_unet", "_orig_mod."), ("pose_guider", "module._orig_mod.")):
        path = tmp_path / "weights" / f"{name}.pth"
        tensors = {before + key: value for key, value in torch.load(path).items()}
        torch.save({k.replace("mid_block.", "mid_block._orig_mod."): v for k, v in tensors.items()}, path)
    convert_folder(tmp_path / "weights", tmp_path / "model")
    for part in ("reference_net", "pose_guider"):
        (ours,), (theirs,) = ((tmp_path / f / part).glob("*.safetensors") for f in ("model", "plain"))
        assert ours.read_bytes() == theirs.read_bytes()


def test_position_tables_that_differ(tmp_path: Path) -> None:
    published.write_moore(tmp_path / "weights")
    path = tmp_path / "weights" / "motion_module.pth"
    tensors = torch.load(path)
    name = next(k for k in tensors if k.endswith("attention_blocks.1.pos_encoder.pe"))
    tensors[name] = tensors[name] + 1
    torch.save(tensors, path)
    assert f"{name} is not the table of" in refused(tmp_path / "weights", tmp_path / "model")


@pytest.mark.parametrize("options", [{}, {"positions": 128}], ids=["24 positions", "128 positions"])
def test_one_position_table_is_missing(tmp_path: Path, options: dict[str, Any]) -> None:
    """Tables are computed where a file holds none of them, not where it lost one."""
    published.write_moore(tmp_path / "weights", **options)
    path = tmp_path / "weights" / "motion_module.pth"
    tensors = torch.load(path)
    lost = next(k for k in tensors if k.endswith("attention_blocks.0.pos_encoder.pe"))
    del tensors[lost]
    torch.save(tensors, path)
    assert "pos_embed.pe" in refused(tmp_path / "weights", tmp_path / "model")


def test_output_is_never_overwritten(tmp_path: Path) -> None:
    published.write_moore(tmp_path / "weights")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("kept")
    with pytest.raises(InputError, match="exists already"):
        convert_folder(tmp_path / "weights", tmp_path / "model")
    assert (tmp_path / "model" / "mine").read_text() == "kept"


def test_nothing_is_left_when_writing_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published.write_moore(tmp_path / "weights")

    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("animate_anyone.interop.writing.save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        convert_folder(tmp_path / "weights", tmp_path / "model")
    assert {path.name for path in tmp_path.iterdir()} == {"weights"}


def test_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = published.write_moore(tmp_path / "weights")
    monkeypatch.setattr("animate_anyone.interop.writing.SHARD_BYTES", 200_000)
    convert_folder(tmp_path / "weights", tmp_path / "model")
    files = sorted((tmp_path / "model/denoising_unet").glob("*.safetensors"))
    assert len(files) > 3
    assert all(file.stat().st_size < 300_000 for file in files)
    equal(load_pipeline(tmp_path / "model", "cpu", "float32").denoising_unet, made["denoising_unet"])


def test_views_into_one_buffer(tmp_path: Path) -> None:
    """MusePose's tensors share one storage: each is written with its own size alone."""
    published.write_moore(tmp_path / "weights")
    path = tmp_path / "weights" / "pose_guider.pth"
    tensors, buffer = torch.load(path), torch.randn(3_000_000)
    at = 0
    for name, tensor in tensors.items():
        tensors[name] = buffer[at : at + tensor.numel()].view(tensor.shape)
        at += tensor.numel()
    torch.save(tensors, path)
    assert path.stat().st_size > 10_000_000
    convert_folder(tmp_path / "weights", tmp_path / "model")
    written = tmp_path / "model/pose_guider/diffusion_pytorch_model.safetensors"
    assert written.stat().st_size < 100_000
    assert all(torch.equal(v, tensors[k]) for k, v in load_file(written).items())


# --- AnimateDiff and Stable Diffusion by themselves


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mm_sd_v15_v2.ckpt", {}),
        ("mm_sd_v15.ckpt", {"middle": False}),
        ("v3_sd15_mm.ckpt", {"middle": False, "wrapped": True}),
        ("mm.safetensors", {}),
    ],
)
def test_animatediff(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    made = published.write_animatediff(tmp_path / name, **options)
    lines = convert_folder(tmp_path / name, tmp_path / "adapter")
    assert "24 positions" in lines[0]
    equal(MotionAdapter.from_pretrained(tmp_path / "adapter"), made)
    # The folder that comes out is a folder that goes in.
    convert_folder(tmp_path / "adapter", tmp_path / "again")
    equal(MotionAdapter.from_pretrained(tmp_path / "again"), made)


def test_animatediff_that_is_not_whole(tmp_path: Path) -> None:
    published.write_animatediff(tmp_path / "mm.ckpt")
    tensors = torch.load(tmp_path / "mm.ckpt")
    rename(tensors, next(k for k in tensors if k.endswith("norms.0.bias")))
    torch.save(tensors, tmp_path / "mm.ckpt")
    assert "mm.ckpt: has an unknown tensor" in refused(tmp_path / "mm.ckpt", tmp_path / "adapter")


def test_stable_diffusion_folder(tmp_path: Path) -> None:
    unet = UNet2DConditionModel(**published.UNET)
    unet.save_pretrained(tmp_path / "sd/unet")
    convert_folder(tmp_path / "sd", tmp_path / "start")
    equal(UNet2DConditionModel.from_pretrained(tmp_path / "start/unet"), unet)


def test_old_names_of_the_autoencoders_attention(tmp_path: Path) -> None:
    made = published.write_moore(tmp_path / "weights")
    path = tmp_path / "weights/sd-vae-ft-mse/diffusion_pytorch_model.safetensors"
    old = {}
    for name, tensor in load_file(path).items():
        for new, was in (
            (".to_q.", ".query."),
            (".to_k.", ".key."),
            (".to_v.", ".value."),
            (".to_out.0.", ".proj_attn."),
        ):
            name = name.replace(new, was)
        old[name] = tensor
    published.save(old, path)
    assert any(".proj_attn." in name for name in old)
    convert_folder(tmp_path / "weights", tmp_path / "model")
    equal(AutoencoderKL.from_pretrained(tmp_path / "model/vae"), made["vae"])


def test_what_is_none_of_these(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty: no weights there" in refused(tmp_path / "empty", tmp_path / "model")
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "other.pth")
    assert "neither Animate Anyone" in refused(tmp_path / "other.pth", tmp_path / "model")
    assert "no such file or folder" in refused(tmp_path / "absent", tmp_path / "model")
    published.write_moore(tmp_path / "two" / "one")
    published.write_moore(tmp_path / "two" / "other")
    assert "give the folder of one model" in refused(tmp_path / "two", tmp_path / "model")
