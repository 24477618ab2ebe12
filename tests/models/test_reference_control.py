"""A ControlNet on the reference, which the method is compared with: what it adds to which rows; its model folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

import tiny
from animate_anyone.errors import InputError
from animate_anyone.models.folder import check_classes
from animate_anyone.models.reference_control import ReferenceControl, ReferenceResiduals
from animate_anyone.sampling.loading import load_pipeline, load_shapes
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.placement import Placement, put

FRAMES = 3
PARTS = {
    "clip": set(),
    "controlnet": {"reference_control"},
    "both": {"reference_control"},
    "reference_net": {"reference_net"},
}


def control(awake: bool = True) -> ReferenceControl:
    """One that fits ``tiny.denoising_unet``; awake: nothing in it is at zero effect."""
    made = ReferenceControl.from_unet2d(tiny.unet2d(1)).eval()
    if awake:
        torch.manual_seed(4)
        for name, parameter in made.named_parameters():
            if name.startswith("controlnet_"):
                nn.init.normal_(parameter, std=0.3)
    return made


def pipeline(path: str, **changes: Any) -> AnimateAnyonePipeline:
    """``tiny.pipeline`` whose reference gets in by ``path``."""
    made = tiny.pipeline(reference_pose=False)
    parts = {**made.components, "reference_net": None}
    parts["reference_control"] = control() if "reference_control" in PARTS[path] else None
    if path == "reference_net":
        parts["reference_net"] = made.reference_net
    return AnimateAnyonePipeline(
        **parts, **{**tiny.PIPELINE, "reference_pose": False, "reference_path": path, **changes}
    )


def inputs(samples: int) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, timesteps, image tokens."""
    torch.manual_seed(5)
    times = torch.arange(1, samples + 1) * 100
    return torch.randn(samples, 4, FRAMES, 8, 8), times, torch.randn(samples, 1, 12)


def rows_of(residuals: ReferenceResiduals, rows: slice) -> list[Tensor]:
    return [tensor[rows] for tensor in (*residuals.down, residuals.middle)]


def alike(one: list[Tensor], other: list[Tensor]) -> bool:
    assert len(one) == len(other)
    return all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one, other, strict=True))


@torch.no_grad()
def test_starts_without_effect() -> None:
    unet, (latents, times, tokens) = tiny.denoising_unet(), inputs(2)
    said = control(awake=False)(latents, times, tokens, torch.randn(2, 4, 8, 8))
    assert not any(tensor.any() for tensor in (*said.down, said.middle))
    assert torch.equal(unet(latents, times, tokens, reference=said), unet(latents, times, tokens))


@torch.no_grad()
def test_is_diffusers_controlnet_frame_by_frame() -> None:
    """What is fed to it and added: the same, one frame after the other, with diffusers' own classes."""
    net, (latents, times, tokens) = control(), inputs(2)
    reference = torch.randn(2, 4, 8, 8)
    said = net(latents, times, tokens, reference)
    row = 0
    for sample in range(2):
        for frame in range(FRAMES):
            down, middle = ControlNetModel.forward(
                net,
                latents[[sample], :, frame],
                times[sample],
                tokens[[sample]],
                reference[[sample]],
                return_dict=False,
            )
            assert alike(rows_of(said, slice(row, row + 1)), [*down, middle])
            row += 1


@torch.no_grad()
def test_the_denoising_unet_adds_the_residuals_to_the_right_frames() -> None:
    unet, (latents, times, tokens) = tiny.denoising_unet(use_motion_module=False), inputs(2)
    said = control()(latents, times, tokens, torch.randn(2, 4, 8, 8))
    whole = unet(latents, times, tokens, reference=said)
    assert not torch.allclose(whole, unet(latents, times, tokens), atol=1e-3)
    for sample in range(2):
        for frame in range(FRAMES):
            row = slice(sample * FRAMES + frame, sample * FRAMES + frame + 1)
            *down, middle = rows_of(said, row)
            alone = unet(
                latents[[sample], :, frame : frame + 1],
                times[sample],
                tokens[[sample]],
                reference=ReferenceResiduals(tuple(down), middle),
            )
            torch.testing.assert_close(whole[[sample], :, frame : frame + 1], alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_unconditional_rows_get_nothing() -> None:
    net, (latents, times, tokens) = control(), inputs(2)
    reference = torch.randn(1, 4, 8, 8)
    said = net(latents, times, tokens, reference, num_unconditional=1)
    assert not any(tensor.any() for tensor in rows_of(said, slice(0, FRAMES)))
    alone = net(latents[1:], times[1:], tokens[1:], reference)
    assert alike(rows_of(said, slice(FRAMES, None)), rows_of(alone, slice(None)))
    with pytest.raises(ValueError, match="6 rows cannot be shared among 4"):
        net(latents, times, tokens, reference, num_unconditional=3)


@pytest.mark.parametrize("path", PARTS)
def test_model_folder(path: str, tmp_path: Path) -> None:
    """Saved with the networks that it has, and no others; loaded strictly; the same video before and after."""
    made = pipeline(path)
    made.save_pretrained(tmp_path / "model")
    folders = {"denoising_unet", "pose_guider", "image_encoder", "vae", "scheduler", *PARTS[path]}
    assert {entry.name for entry in (tmp_path / "model").iterdir() if entry.is_dir()} == folders
    loaded, shapes = load_pipeline(tmp_path / "model", "cpu", "float32"), load_shapes(tmp_path / "model")
    put(made, Placement(device="cpu"), torch.device("cpu"))
    assert torch.equal(video(made), video(loaded))
    assert {p for p in ("reference_net", "reference_control") if getattr(shapes, p) is not None} == PARTS[path]


def test_a_folder_that_says_nothing_has_a_reference_net(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    index = json.loads((folder / "model_index.json").read_text())
    for key in ("reference_path", "reference_control"):
        del index[key]
    (folder / "model_index.json").write_text(json.dumps(index))
    loaded = load_pipeline(folder, "cpu", "float32")
    assert (loaded.config["reference_path"], loaded.reference_control) == ("reference_net", None)


def test_a_folder_must_hold_what_its_path_needs(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    pipeline("both").save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "reference_path": "hearsay"}))
    with pytest.raises(InputError, match="reference_path is 'hearsay'; there are reference_net, clip"):
        load_pipeline(folder, "cpu", "float32")
    (folder / "model_index.json").write_text(json.dumps({**index, "reference_control": [None, None]}))
    with pytest.raises(InputError, match=r"its reference_control is nothing; a model's is .*ReferenceControl"):
        check_classes(folder)
    (folder / "model_index.json").write_text(json.dumps(index))
    shutil.rmtree(folder / "reference_control")
    with pytest.raises(InputError, match="its part reference_control/ is missing"):
        load_pipeline(folder, "cpu", "float32")


def video(made: AnimateAnyonePipeline, reference: int = 7, **options: Any) -> Tensor:
    """Latents of three frames; ``reference`` seeds the picture."""
    random = np.random.default_rng(reference)
    picture = random.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    poses = np.random.default_rng(0).integers(0, 255, (3, *made.pose_picture_size((64, 64))[::-1], 3), dtype=np.uint8)
    options = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(0), **options}
    made.set_progress_bar_config(disable=True)
    return made(picture, poses, output_type="latent", **options)[0]


@pytest.mark.parametrize("path", PARTS)
def test_the_reference_shows(path: str) -> None:
    made = pipeline(path)
    assert not torch.allclose(video(made, 7), video(made, 8), atol=1e-3)


def test_what_each_path_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image token of `controlnet` is zero; that of `both` and `clip` is the picture's."""
    tokens = {}
    for path in ("clip", "controlnet", "both"):
        made = pipeline(path, guidance_scale=1.0)
        forward = made.denoising_unet.forward

        def listen(
            latents: Tensor, t: Any, token: Tensor, *args: Any, path: str = path, forward: Any = forward
        ) -> Tensor:
            tokens[path] = token
            return forward(latents, t, token, *args)

        monkeypatch.setattr(made.denoising_unet, "forward", listen)
        video(made)
    assert not tokens["controlnet"].any()
    assert tokens["clip"].any()
    assert torch.equal(tokens["clip"], tokens["both"])


def test_windows_and_guidance_keep_rows_apart() -> None:
    """Windows computed at once give what they give one by one, with guidance."""
    made = pipeline("both", window=2, overlap=1)
    torch.testing.assert_close(video(made, window_batch=1), video(made, window_batch=2), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference_path": "hearsay"}, "reference_path 'hearsay' is not known; give reference_net or clip"),
        ({"reference_path": "reference_net"}, "reference_net must be given"),
        ({"reference_path": "clip"}, "reference_control must not be given"),
        ({"reference_pose": True}, "goes without reference_pose and reference_latents"),
        ({"reference_latents": True}, "goes without reference_pose and reference_latents"),
    ],
)
def test_options_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipeline("both", **changes)
