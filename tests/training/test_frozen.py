"""Parts that are not trained; two recipes in a chain; one stage for all; networks that predict noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_recipes import SMALL, log, same, small, start, tensors
from test_ablations import small as ablation
from transformers import ResNetConfig, ResNetModel

import reference_paths
import tiny
from animate_anyone.errors import InputError
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.training.chain import train_file
from animate_anyone.training.frozen import parts_of
from animate_anyone.training.loop import train
from animate_anyone.training.stages import build_stage, run

__all__ = ["start"]
EPSILON = {"prediction_type": "epsilon", "rescale_betas_zero_snr": False}


def trained(stage: torch.nn.Module) -> set[str]:
    """The parts of which something is trained."""
    return {name for name, part in parts_of(stage).items() if any(p.requires_grad for p in part)}


def moved(before: Path, after: Path) -> set[str]:
    """The parts whose weights differ between two models."""
    one, other = tensors(before), tensors(after)
    assert one.keys() >= other.keys() or other.keys() >= one.keys()
    return {name.split("/")[0] for name in one.keys() & other.keys() if not torch.equal(one[name], other[name])}


def test_a_frozen_part_stays_as_it_is(start: Path, tmp_path: Path) -> None:
    first = run(small("image", tmp_path / "one", start, ema=0.0))
    assert trained(build_stage(small("image", tmp_path / "two", first))) == {
        *("denoising_unet", "reference_net", "pose_guider")
    }
    recipe = small("image", tmp_path / "two", first, frozen=["denoising_unet", "pose_guider"], ema=0.0)
    stage = build_stage(recipe)
    assert trained(stage) == {"reference_net"}
    train(recipe, stage)
    assert moved(first, tmp_path / "two" / "model") == {"reference_net"}
    assert json.loads((tmp_path / "two" / "model" / "training.json").read_text())[-1]["recipe"]["frozen"] == [
        *("denoising_unet", "pose_guider")
    ]


@pytest.mark.parametrize(
    ("stage", "frozen", "message"),
    [
        ("image", ["unet"], "frozen: 'unet' is no part; there are denoising_unet, temporal_layers, pose_guider"),
        ("image", ["reference_control"], "frozen: there is no reference_control here; there are denoising_unet"),
        ("image", ["denoising_unet", "reference_net", "pose_guider"], "nothing is left to be trained; leave one"),
        ("autoencoder", ["pose_guider"], "frozen goes with stage image, motion, environment, not autoencoder"),
        ("image", "pose_guider", "frozen is 'pose_guider'; it must be"),
    ],
)
def test_what_cannot_be_frozen(stage: str, frozen: Any, message: str, start: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as refused:
        build_stage(small(stage, tmp_path, start if stage == "image" else None, frozen=frozen))
    assert "\n" not in str(refused.value)


def test_finetuned_first_then_a_controlnet(start: Path, tmp_path: Path) -> None:
    """Table 3, as a chain: the ControlNet begins with what the first recipe made, and alone is trained."""
    settings = {k: v for k, v in SMALL.items() if k not in ("init", "precision")} | {
        "networks.unet": tiny.UNET,
        "networks.motion": tiny.MOTION,
        "networks.pose_guider": {"layout": "paper", "block_out_channels": [4, 8, 8, 8]},
        "objective.targets_per_reference": 2,
        "data.pose_scale": 2,
        "ema": 0.0,
        "accumulate": 1,
        "precision": "float32",
    }
    places = [f"init={start}", f"output={tmp_path / 'run'}"]
    train_file(
        "ablation/aa1_controlnet", [*(f"{name}={json.dumps(value)}" for name, value in settings.items()), *places]
    )
    first, last = (tmp_path / "run" / name / "model" for name in ("finetuned", "controlnet"))
    assert moved(first, last) == set()  # all that the first has
    assert load_pipeline(first, "cpu", "float32").config["reference_path"] == "none"
    loaded = load_pipeline(last, "cpu", "float32")
    assert loaded.config["reference_path"] == "controlnet"
    control, unet = loaded.reference_control, loaded.denoising_unet
    assert control is not None
    begun = build_stage(ablation("controlnet_after", tmp_path / "again", first))
    assert trained(begun) == {"reference_control"}
    theirs = begun.reference_control.state_dict()  # type: ignore[union-attr, operator]
    alike = [name for name, value in unet.state_dict().items() if name.startswith("down_blocks") and name in theirs]
    assert alike and all(torch.equal(theirs[name], unet.state_dict()[name]) for name in alike)
    assert any(not torch.equal(value, theirs[name]) for name, value in control.state_dict().items())


def test_one_stage_instead_of_two(start: Path, tmp_path: Path) -> None:
    """All parts with temporal layers on clips, from networks that are new."""
    recipe = ablation("one_stage", tmp_path, start, data__frames_per_clip=4)
    stage = build_stage(recipe)
    assert trained(stage) == {"denoising_unet", "temporal_layers", "reference_net", "pose_guider"}
    train(recipe, stage)
    assert all(line["loss"] > 0 for line in log(tmp_path))
    assert load_pipeline(tmp_path / "model", "cpu", "float32").denoising_unet.config["use_motion_module"]
    with pytest.raises(InputError, match=r"train the image stage first, or all parts in one stage: frozen=\[\]"):
        build_stage(ablation("one_stage", tmp_path / "other", start, data__frames_per_clip=4, frozen=None))


def test_stage_two_is_what_it_was(start: Path, tmp_path: Path) -> None:
    stage = build_stage(small("motion", tmp_path, start / "model"))
    assert trained(stage) == {"temporal_layers"}
    explicit = small("motion", tmp_path, start / "model", frozen=["denoising_unet", "reference_net", "pose_guider"])
    assert trained(build_stage(explicit)) == {"temporal_layers"}


@pytest.mark.parametrize("path", ["resnet", "concatenated"])
def test_designs_learn_and_can_be_dropped(path: str, start: Path, tmp_path: Path) -> None:
    """Every weight that is trained has a gradient; of what looks at the reference, zero where all are dropped."""
    changes: dict[str, Any] = {"networks__resnet": reference_paths.RESNET} if path == "resnet" else {}
    for dropout in (0.0, 0.9999999):
        stage: Any = build_stage(ablation(path, tmp_path, start, objective__condition_dropout=dropout, **changes))
        torch.manual_seed(0)
        for name, parameter in stage.denoising_unet.named_parameters():
            if name.startswith("conv_out") or any(
                part in name for part in (".concatenation.", ".proj_out.", ".to_out.")
            ):
                torch.nn.init.normal_(parameter, std=0.3)
        stage(stage.batch(0, 0, 1), torch.Generator().manual_seed(0))["loss"].backward()
        assert all(p.grad is not None for p in stage.parameters() if p.requires_grad)
        looks = stage.reference_resnet if path == "resnet" else stage.reference_net
        assert any(bool(p.grad.any()) for p in looks.parameters() if p.grad is not None) == (dropout == 0)


def test_a_resnet_begins_with_weights_of_a_folder(start: Path, tmp_path: Path) -> None:
    sizes = {name: value for name, value in reference_paths.RESNET.items() if name != "norm_num_groups"}
    published = ResNetModel(ResNetConfig(**sizes))
    init = tmp_path / "init"
    init.mkdir()
    for part in ("vae", "image_encoder"):
        (init / part).symlink_to(start / part)
    published.save_pretrained(init / "resnet")
    stage: Any = build_stage(ablation("resnet", tmp_path / "run", init, networks__resnet={}))
    got = stage.reference_resnet.resnet.state_dict()
    assert same({k: v for k, v in got.items()}, published.state_dict())
    assert stage.reference_resnet.config["norm_num_groups"] == 0
    assert any(p.requires_grad for p in stage.reference_resnet.resnet.parameters())
    (init / "resnet" / "model.safetensors").unlink()
    tiny.unet2d().save_pretrained(tmp_path / "unet")
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").rename(init / "resnet" / "model.safetensors")
    with pytest.raises(InputError, match="resnet: has no embedder"):
        build_stage(ablation("resnet", tmp_path / "run", init, networks__resnet={}))


def test_networks_that_predict_noise(start: Path, tmp_path: Path) -> None:
    """From stage one to a student; at zero terminal signal-to-noise ratio it is refused in one line."""
    changes = {f"networks__scheduler__{name}": value for name, value in EPSILON.items()}
    first = run(small("image", tmp_path / "one", start, **changes))
    second = run(small("motion", tmp_path / "two", first))
    loaded = load_pipeline(second, "cpu", "float32")
    assert loaded.scheduler.config["prediction_type"] == "epsilon"
    assert loaded.scheduler.alphas_cumprod[-1] > 0
    run(small("distil", tmp_path / "three", second))
    del changes["networks__scheduler__rescale_betas_zero_snr"]
    with pytest.raises(InputError, match=r"recipe: networks.scheduler: prediction_type 'epsilon' does not go") as said:
        build_stage(small("image", tmp_path / "four", start, **changes))
    assert "\n" not in str(said.value)
    with pytest.raises(InputError, match=r"min_snr_gamma is 5\.0; it needs prediction_type 'v_prediction'"):
        build_stage(small("motion", tmp_path / "five", first, objective__min_snr_gamma=5.0))


def test_all_patches_in_training(start: Path, tmp_path: Path) -> None:
    recipe = small("image", tmp_path, start, networks__pipeline__image_tokens="patches")
    stage: Any = build_stage(recipe)
    token = stage.token(stage.batch(0, 0, 1), 1)
    assert token.shape == (2, 5, 12)
    assert not token[0].any() and all(bool(one.any()) for one in token[1])
    train(recipe, stage)
    assert load_pipeline(tmp_path / "model", "cpu", "float32").config["image_tokens"] == "patches"
