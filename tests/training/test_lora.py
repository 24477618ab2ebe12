"""Adapters: what is trained, what a checkpoint holds, and that the saved model is one as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from paper_runs import paper
from small_recipes import log, same, tensors
from test_distributed import close
from test_init_motion import start_folder
from test_paper_size import SMALL, recipe

from animate_anyone.errors import InputError
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.training.check import check_lines
from animate_anyone.training.config import Recipe
from animate_anyone.training.lora import PROJECTIONS, merged
from animate_anyone.training.stages import build_stage, run

pytest.importorskip("peft", reason="PEFT is not installed; pip install 'animate-anyone[lora]'")

LORA: dict[str, Any] = {"lora": {"rank": 2}, "optimizer.lr": 1e-2}
NAMES = ("aa1_stage1", "aa1_stage2", "aa2")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start_folder(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def models(start: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Whole models, by the recipe that made them."""
    root = tmp_path_factory.mktemp("models")
    made: dict[str, Path] = {}
    for name in NAMES:
        init = made["aa1_stage1"] if name == "aa1_stage2" else start
        changes = {"environment.modulation": {"num_attention_heads": 2}} if name == "aa2" else {}
        small = {"batch": 1, "accumulate": 1, "optimizer.lr": 1e-2, **SMALL, **changes}
        made[name] = run(recipe(name, init=str(init), output=str(root / name), save_dtype="float32", **small))
    return made


def lora(name: str, output: Path, models: dict[str, Path], **changes: Any) -> Recipe:
    """A recipe with adapters on a whole model, such as it makes itself."""
    return paper(name, output, models[name], models[name], **{"batch": 2, **LORA, **changes})


@pytest.mark.parametrize("name", NAMES)
def test_adapters_alone_are_trained_and_the_model_holds_them(
    name: str, models: dict[str, Path], tmp_path: Path
) -> None:
    model = run(lora(name, tmp_path / "out", models))
    kept = tensors(tmp_path / "out/checkpoint")
    weights = [n for n in kept if n.startswith("weights.safetensors:")]
    assert weights and all(".lora_A." in n or ".lora_B." in n for n in weights)
    assert any("reference_net." in n for n in weights) == (name != "aa1_stage2")
    assert name != "aa1_stage2" or all(".motion_modules." in n for n in weights)
    load_pipeline(model, "cpu", "float32")
    before, after = tensors(models[name]), tensors(model)
    assert before.keys() == after.keys()
    changed = {n for n, tensor in after.items() if not torch.equal(tensor, before[n])}
    assert changed and all(n.endswith(tuple(f".{p}.weight" for p in PROJECTIONS)) for n in changed)


def test_a_merged_network_computes_what_the_adapted_one_does(models: dict[str, Path], tmp_path: Path) -> None:
    stage = build_stage(lora("aa1_stage1", tmp_path, models, lora={"rank": 2, "alpha": 6.0}))
    with torch.no_grad():
        for name, parameter in stage.named_parameters():
            if ".lora_" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    given = (
        torch.randn(1, 4, 1, 8, 8),
        torch.tensor([3]),
        torch.randn(1, 1, stage.denoising_unet.config["cross_attention_dim"]),
    )
    state = {name: value.clone() for name, value in stage.state_dict().items()}
    with torch.no_grad():
        adapted = stage.denoising_unet(*given)
        with merged(stage):
            assert not any(".lora_" in name for name in stage.state_dict())
            torch.testing.assert_close(stage.denoising_unet(*given), adapted, rtol=1e-4, atol=1e-5)
    assert same(state, stage.state_dict())


def test_stopped_and_resumed(models: dict[str, Path], tmp_path: Path) -> None:
    run(lora("aa1_stage1", tmp_path / "straight", models))
    run(lora("aa1_stage1", tmp_path / "cut", models, steps=2))
    run(lora("aa1_stage1", tmp_path / "cut", models), resume=True)
    assert same(tensors(tmp_path / "cut"), tensors(tmp_path / "straight"))
    close(tmp_path / "cut", tmp_path / "straight")
    assert log(tmp_path / "cut")[-1]["step"] == 3
    with pytest.raises(InputError, match="was trained with another lora"):
        run(lora("aa1_stage1", tmp_path / "cut", models, steps=4, lora={"rank": 3}), resume=True)


def test_check_counts_them(models: dict[str, Path], tmp_path: Path) -> None:
    asked = lora("aa1_stage1", tmp_path, models)
    trained = sum(p.numel() for p in build_stage(asked).denoising_unet.parameters() if p.requires_grad)
    lines = [line.split() for line in check_lines(asked)]
    assert ["denoising_unet", f"{trained:,}"] in [line[:2] for line in lines]
    assert ["pose_guider", "0"] in [line[:2] for line in lines]


def test_what_would_stay_untrained_is_refused(start: Path, models: dict[str, Path], tmp_path: Path) -> None:
    for name, init, said in (
        ("aa1_stage1", start, "lora finetunes a whole model, and .* has no denoising_unet/; give init=MODEL"),
        ("aa1_stage2", models["aa1_stage1"], "has none; give init_motion=FOLDER"),
        ("aa2", models["aa1_stage2"], "is none of Animate Anyone 2"),
    ):
        with pytest.raises(InputError, match=said):
            build_stage(paper(name, tmp_path, init, init, batch=2, **LORA))
    with pytest.raises(InputError, match=r"lora\.rank is 0; it must be above 0"):
        recipe("aa1_stage1", lora={"rank": 0})
