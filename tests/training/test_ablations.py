"""The ablation's recipes: alike in all but the question, and each really trains; and the table made of them."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from small_recipes import SMALL, log, same, tensors

import reference_paths
import tiny
from animate_anyone.errors import InputError
from animate_anyone.models.folder import model_folder
from animate_anyone.models.reference_control import REFERENCE_PATHS
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.training.config import Recipe
from animate_anyone.training.loop import train
from animate_anyone.training.recipe_file import load_recipe
from animate_anyone.training.stage_image import ImageBatch, ImageStage
from animate_anyone.training.stages import build_stage
from conftest import REPOSITORY

RECIPES = REPOSITORY / "recipes" / "ablation"
FILES = {"none": "finetuned"}  # of a path the recipe, where it has another name
ALL = 0.9999999  # of the conditions dropped


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a VAE and an image encoder alone."""
    root, made = tmp_path_factory.mktemp("start"), tiny.pipeline()
    made.vae.save_pretrained(root / "vae")
    made.image_encoder.save_pretrained(root / "image_encoder")
    return root


def small(path: str, output: Path, init: Path, **changes: Any) -> Recipe:
    """A recipe of the ablation made small; a change's dots are written as double underscores."""
    settings: dict[str, Any] = {
        **SMALL,
        "init": str(init),
        "output": str(output),
        "networks.unet": tiny.UNET,
        "networks.motion": tiny.MOTION,
        "networks.pose_guider": {"layout": "paper", "block_out_channels": [4, 8, 8, 8]},
        "objective.targets_per_reference": 2,
    }
    if path == "resnet":
        settings["networks.resnet"] = reference_paths.RESNET
    settings |= {name.replace("__", "."): value for name, value in changes.items()}
    return load_recipe(
        RECIPES / f"{FILES.get(path, path)}.yaml", [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    )


def stage_of(path: str, output: Path, init: Path, **changes: Any) -> ImageStage:
    stage = build_stage(small(path, output, init, **changes))
    assert isinstance(stage, ImageStage)
    return stage


def loss(stage: ImageStage, batch: ImageBatch) -> torch.Tensor:
    return stage(batch, torch.Generator().manual_seed(0))["loss"]


def test_recipes_differ_in_the_question_alone() -> None:
    plain = {}
    for path in REFERENCE_PATHS:
        name = FILES.get(path, path)
        recipe = load_recipe(RECIPES / f"{name}.yaml").to_dict()
        assert recipe.pop("output") == f"runs/ablations/elsewhere/{name}"
        assert recipe["networks"]["pipeline"].pop("reference_path") == path
        assert bool(recipe["networks"].pop("resnet")) == (path == "resnet")
        assert recipe["data"]["reference"] == "elsewhere"
        plain[path] = recipe
    assert all(recipe == plain["reference_net"] for recipe in plain.values())
    after, together = (load_recipe(RECIPES / f"{name}.yaml").to_dict() for name in ("controlnet_after", "controlnet"))
    changed = {name for name in after if after[name] != together[name]}
    assert changed == {"output", "init", "frozen"}
    assert after["init"] == load_recipe(RECIPES / "finetuned.yaml").output + "/model"
    # What would let the reference in by another way is off.
    assert not plain["clip"]["networks"]["pipeline"].keys() & {"reference_latents", "reference_pose"}
    assert plain["clip"]["networks"]["pose_guider"].get("conditioning_channels", 3) == 3
    motion = load_recipe(RECIPES / "temporal.yaml")
    assert (motion.stage, motion.init) == ("motion", "runs/ablations/elsewhere/reference_net/model")
    whole, image = load_recipe(RECIPES / "one_stage.yaml"), load_recipe(RECIPES / "reference_net.yaml")
    assert (whole.stage, whole.frozen, whole.init, whole.networks) == ("motion", (), image.init, image.networks)
    assert whole.data == motion.data
    frames = image.steps * image.batch * image.objective.targets_per_reference + motion.steps * motion.batch * 24
    assert whole.steps * whole.batch * 24 == frames


def test_another_vae_is_refused(start: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"networks.unet.in_channels is 8; the VAE in .* makes 4 channels"):
        stage_of("clip", tmp_path, start, networks__unet={**tiny.UNET, "in_channels": 8})


def test_unknown_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"reference_path is 'hearsay'; it must be reference_net or clip"):
        small("clip", tmp_path, tmp_path, networks__pipeline__reference_path="hearsay")


LOOKS = {
    "reference_net": "reference_net",
    "clip": None,
    "controlnet": "reference_control",
    "both": "reference_control",
    "resnet": "reference_resnet",
    "concatenated": "reference_net",
    "none": None,
}
"""Of a path the network that looks at the reference."""


@pytest.mark.parametrize("path", REFERENCE_PATHS)
def test_each_recipe_trains_and_its_model_loads(path: str, start: Path, tmp_path: Path) -> None:
    stage = stage_of(path, tmp_path, start)
    before = {name: parameter.clone() for name, parameter in stage.named_parameters() if parameter.requires_grad}
    looks = LOOKS[path]
    kinds = {name.split(".")[0] for name in before}
    assert kinds == {"denoising_unet", "pose_guider", *([looks] if looks else [])}
    train(small(path, tmp_path, start), stage)
    assert all(line["loss"] > 0 for line in log(tmp_path))
    assert load_pipeline(tmp_path / "model", "cpu", "float32").config["reference_path"] == path
    saved = tensors(tmp_path / "model")
    assert any(name.startswith(f"{looks}/") for name in saved) == (looks is not None)
    assert not any(name.startswith("reference_net/") for name in saved) or looks == "reference_net"


@pytest.mark.parametrize("path", ["controlnet", "both"])
def test_the_controlnet_learns_and_can_be_dropped(path: str, start: Path, tmp_path: Path) -> None:
    """Every weight has a gradient; with all conditions dropped it is zero, and the reference does not matter."""
    stage = stage_of(path, tmp_path, start, objective__condition_dropout=0)
    control = stage.reference_control
    assert control is not None
    tiny.wake(stage.pose_guider)
    for network in (stage.denoising_unet, control):
        for name, parameter in network.named_parameters():
            if name.startswith(("controlnet_", "conv_out")):
                torch.nn.init.normal_(parameter, std=0.3)
    made = stage.batch(0, 0, 1)
    latents = stage.encode(torch.cat([made.reference[:, None], made.frames], 1))  # type: ignore[list-item]
    batch = replace(made, frames=None, latents=latents)
    first = loss(stage, batch)
    first.backward()
    trained = {name: p for name, p in stage.named_parameters() if p.requires_grad}
    assert all(parameter.grad is not None for parameter in trained.values())
    assert all(bool(p.grad.any()) for name, p in control.named_parameters() if name.startswith("controlnet_down"))  # type: ignore[union-attr]
    other = replace(batch, latents=latents.clone())
    other.latents[:, 0] *= -1  # type: ignore[index]  # the reference's; its token comes from the picture
    assert loss(stage, other) != first

    dropped = stage_of(path, tmp_path, start, objective__condition_dropout=ALL)
    dropped.load_state_dict(stage.state_dict())
    without = loss(dropped, batch)
    assert torch.equal(without, loss(dropped, other))
    without.backward()
    assert dropped.reference_control is not None
    assert all(p.grad is not None and not p.grad.any() for p in dropped.reference_control.parameters())


def test_a_stopped_ablation_goes_on_from_its_model(start: Path, tmp_path: Path) -> None:
    """A model of a path can be trained further: its ControlNet is taken over, not made anew."""
    train(small("both", tmp_path / "one", start), stage_of("both", tmp_path / "one", start))
    again = stage_of("both", tmp_path / "two", tmp_path / "one" / "model")
    saved = tensors(tmp_path / "one" / "model" / "reference_control")
    assert again.reference_control is not None
    for name, parameter in again.reference_control.named_parameters():
        assert torch.equal(parameter, saved[f"diffusion_pytorch_model.safetensors:{name}"])


@pytest.fixture
def ablations(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """benchmarks/ablations.py."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    spec = importlib.util.spec_from_file_location("ablations", REPOSITORY / "benchmarks" / "ablations.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("machine", None)


def report(**model: Any) -> dict[str, Any]:
    return {
        "model": model,
        "copy_reference": {"psnr": 10.0, "flicker_person": 3.0},
        "same_clip": {"model": {"person_psnr": 15.0 + model["psnr"]}, "copy_reference": {"person_psnr": 16.0}},
        "made": {"parameters": "1.25", "steps": "2 + 3", "frames": "1,000"},
    }


def test_table(ablations: ModuleType) -> None:
    """One row for each design, with figures or without; the best is bold, up or down; gaps are gaps."""
    reports = {
        "clip": report(psnr=11.0, person_psnr=9.0, flicker_person=1.0, novel=1, parts={"head": 2.0}, identity=None),
        "reference_net": report(psnr=12.0, person_psnr=8.5, flicker_person=2.0, identity=0.5),
        "temporal": report(psnr=13.0, person_psnr=8.0, flicker_person=0.5),
    }
    table = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in ablations.result_table(reports).split("\n")
    ]
    rows = {row[0]: dict(zip(table[0], row, strict=True)) for row in (table[0], *table[2:])}
    assert list(rows) == ["", "the reference, repeated", *ablations.ROWS.values()]
    assert (rows["the reference, repeated"]["PSNR ↑"], rows["the reference, repeated"]["colour ↓"]) == ("10.000", "-")
    assert rows["CLIP features"]["person PSNR ↑"] == "**9.000**"
    assert rows["without temporal layers"]["identity ↑"] == "**0.500**"
    assert [rows[row]["flicker of the person ↓"] for row in ("CLIP features", "the method")] == ["1.000", "**0.500**"]
    assert rows["the method"]["person PSNR, same clip ↑"] == "**28.000**"
    assert rows["the method"]["steps"] == "2 + 3"
    assert rows["the method"]["the paper's FVD ↓"] == "81.6"
    gaps = rows["one stage"]
    assert (gaps["PSNR ↑"], gaps["parameters, M"], gaps["steps"]) == ("-", "not trained", "not trained")
    assert ablations.left_out(reports)[0].startswith(
        "**Not trained:** ControlNet (trained together), ControlNet (after"
    )
    said = ablations.standing(reports)
    assert said.startswith("By PSNR over the person: CLIP features (9.00), without temporal layers (8.50), the method")
    assert said.endswith(
        "Of 3 pairs of designs that the later text's FVD on UBC ranks, 3 stand the other way round here: CLIP features "
        "before without temporal layers, the method; without temporal layers before the method."
    )


def test_differences_between_designs_are_told_with_their_error(ablations: ModuleType) -> None:
    reports = {
        name: {"clips": [{"model": {"person_psnr": value}} for value in values]}
        for name, values in {"clip": (9.0, 11.0), "reference_net": (8.0, 8.0), "temporal": (8.0, 7.0)}.items()
    }
    said = ablations.apart(reports)
    assert said.endswith("CLIP features +2.00 ± 1.00; the method -0.50 ± 0.50.")
    assert "not said" in ablations.apart({"clip": reports["clip"], "temporal": reports["temporal"]})


def test_every_row_is_trained_after_what_it_begins_with(ablations: ModuleType) -> None:
    """In the order in which they are trained; nothing of the folder is forgotten."""
    recipes = ablations.all_recipes()
    files = {path.stem for path in RECIPES.glob("*.yaml")} - {"autoencoder", "aa1_controlnet"}
    assert recipes.keys() == files
    seen: list[str] = []
    for recipe in recipes.values():
        assert recipe.init in ("runs/ablations/start", *(f"{output}/model" for output in seen))
        seen.append(recipe.output)


def test_measured_elsewhere_and_in_the_same_clip(ablations: ModuleType, start: Path, tmp_path: Path) -> None:
    recipe = small("concatenated", tmp_path / "one", start)
    ablations.train_missing({"concatenated": recipe})
    told = ablations.measure(recipe, 1)
    assert told["settings"]["reference"].startswith("a frame of another clip of the same character")
    assert told["same_clip"]["model"]["person_psnr"] != told["model"]["person_psnr"]
    assert told["made"]["steps"] == "2"
    assert told["made"]["frames"] == "8"  # two steps of two clips with two targets each
    assert json.loads((tmp_path / "one" / "report.json").read_text())["made"] == told["made"]
    assert "features concatenated" in ablations.result_table({"concatenated": told})


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_what_is_trained_is_not_trained_again(
    ablations: ModuleType, start: Path, tmp_path: Path, precision: str
) -> None:
    """A model says what ``auto`` was where it was trained."""
    recipe = small("clip", tmp_path / "clip", start, precision=precision)
    assert not ablations.is_trained(recipe)
    ablations.train_missing({"clip": recipe})
    assert ablations.is_trained(recipe)
    before = (tmp_path / "clip" / "log.jsonl").read_text()
    ablations.train_missing({"clip": recipe})
    assert (tmp_path / "clip" / "log.jsonl").read_text() == before
    assert not ablations.is_trained(small("clip", tmp_path / "clip", start, precision=precision, seed=1))


def test_start_is_an_autoencoder_of_its_own_and_the_shipped_image_encoder(
    ablations: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained where it is missing, and kept where it is there; nothing of the shipped model's VAE."""
    settings = {**SMALL, "networks.vae": tiny.VAE, "objective.crop": 32, "output": str(tmp_path / "autoencoder")}
    changes = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    recipe = load_recipe(RECIPES / "autoencoder.yaml", changes)
    folder = tmp_path / "start"
    (folder / "vae.part").mkdir(parents=True)  # a copy that was interrupted
    ablations.start(folder, recipe)
    assert {entry.name for entry in folder.iterdir()} == {"vae", "image_encoder"}
    assert same(tensors(folder / "vae"), tensors(tmp_path / "autoencoder" / "model" / "vae"))
    assert same(tensors(folder / "image_encoder"), tensors(model_folder("puppet") / "image_encoder"))
    shutil.rmtree(folder / "image_encoder")
    monkeypatch.setattr(ablations, "train", None)
    ablations.start(folder, load_recipe(RECIPES / "autoencoder.yaml", [*changes, "seed=1"]))
    assert (folder / "image_encoder").is_dir()


def test_recipes_fit_what_they_begin_with() -> None:
    vae = load_recipe(RECIPES / "autoencoder.yaml").networks.vae
    encoder = json.loads((model_folder("puppet") / "image_encoder" / "config.json").read_text())
    one = load_recipe(RECIPES / "reference_net.yaml")
    unet = one.networks.unet
    assert vae["latent_channels"] == unet["in_channels"] == unet["out_channels"]
    assert one.data.size == unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
    assert encoder["projection_dim"] == unet["cross_attention_dim"]


def test_measuring_alone_trains_nothing(
    ablations: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `make bench-all` calls it: in a fresh clone one line, no result, no failure; nothing is written over."""
    monkeypatch.chdir(tmp_path)  # comes back here
    monkeypatch.setattr(ablations, "REPOSITORY", tmp_path)
    output = tmp_path / "out.md"
    monkeypatch.setattr(sys, "argv", ["ablations.py", "--measure-only", "--output", str(output)])
    ablations.main()
    assert capsys.readouterr().out.strip() == (
        "nothing is trained in runs/ablations, nothing measured: python benchmarks/ablations.py"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_bench_all_trains_nothing_and_stays_small(tmp_path: Path) -> None:
    """Which options it gives, to a Python that does nothing."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    command = ["make", "--no-print-directory", "bench-all", f"VENV={tmp_path}", f"PYTHON={python}"]
    said = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.splitlines()
    called = [line.strip() for line in said if line.startswith("benchmarks/")]
    assert len(called) == len(list((REPOSITORY / "benchmarks").glob("*.py")))
    assert [line for line in called if " " in line] == [
        "benchmarks/ablations.py --measure-only",
        "benchmarks/blending_ablations.py --measure-only",
        "benchmarks/environment_ablations.py --measure-only",
        "benchmarks/environment_networks.py --counts",
        "benchmarks/gpu.py --only-on-gpu",
    ]


@pytest.mark.parametrize("number", [0, -3])
def test_no_characters_are_refused(
    ablations: ModuleType, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ablations.py", "--measure-only", "--characters", str(number)])
    with pytest.raises(SystemExit) as caught:
        ablations.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(f"--characters {number}: give 1 or more\n")
