"""The table of Animate Anyone 2's ablation: what is in it, and that measuring alone takes what is trained."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tiny
from animate_anyone.evaluation.environment_suite import MEASURES, SuiteScene
from animate_anyone.training.recipe_file import load_recipe
from conftest import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"


@pytest.fixture
def ablations(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """benchmarks/environment_ablations.py."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("environment_ablations", BENCHMARKS / "environment_ablations.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("machine", "ablations"):
        sys.modules.pop(name, None)


def scene(seed: int, objects: float | None, inside: float | None) -> dict[str, Any]:
    return {"seed": seed, "model": {"objects": objects, "objects_inside": inside}}


def report(formulation: str, model: list[float | None], copied: list[float | None], **more: Any) -> dict[str, Any]:
    """Figures in the order of ``MEASURES``."""
    figures = {"model": model, "copy_source": copied}
    named = {who: dict(zip(MEASURES, values, strict=True)) for who, values in figures.items()}
    return {**named, "settings": {"formulation": formulation}, **more}


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n")]


def test_every_recipe_is_a_row(ablations: ModuleType) -> None:
    assert {*ablations.ROWS, *ablations.IN_A_ROW} == {file.stem for file in ablations.RECIPES.glob("*.yaml")}


def test_table(ablations: ModuleType) -> None:
    """Nothing made comes first, once for every mask; more is better; what is missing is a dash, never bold."""
    reports = {
        "without_blending": report("shape_agnostic", [21, 20, 19, 30, 19, 12, 18.126], [9, 8, 7, 99, 15, 7, 14]),
        "exact": report("exact", [23, 19, 18, 31, 21, None, 17], [9, 8, 7, 99, 16, None, 13]),
        "shape_agnostic": report("shape_agnostic", [22, 21, 20, 29, 20, 13, 16], [9, 8, 7, 99, 15, 7, 14]),
    }
    rows = cells(ablations.result_table(reports))
    assert rows[0] == ["", "person", "(occluded)", "(front)", "environment", "objects", "(inside)", "edge"]
    assert rows[2:] == [
        ["copy_source, shape_agnostic", "9.00", "8.00", "7.00", "99.00", "15.00", "7.00", "14.00"],
        ["copy_source, exact", "9.00", "8.00", "7.00", "99.00", "16.00", "-", "13.00"],
        ["the method", "22.00", "**21.00**", "**20.00**", "29.00", "20.00", "**13.00**", "16.00"],
        ["exact mask emptied", "**23.00**", "19.00", "18.00", "**31.00**", "**21.00**", "-", "17.00"],
        ["without spatial blending", "21.00", "20.00", "19.00", "30.00", "19.00", "12.00", "**18.13**"],
    ]


def test_gain_is_the_mean_over_scenes_that_both_have(ablations: ModuleType) -> None:
    with_it = [scene(0, 20.0, 15.0), scene(1, None, None), scene(2, 18.0, None), scene(3, 17.0, 10.0)]
    without = [scene(0, 19.0, 12.0), scene(1, None, None), scene(2, 17.5, None), scene(3, 17.0, 11.0)]
    rows = {"shape_agnostic": {"scenes": with_it}, "without_blending": {"scenes": without}}
    said, other = ablations.blending_gain(rows).split(" What objects gain")
    assert "not said" in other
    assert "gives objects, beside merging them with the noise latents, +1.00 dB inside" in said
    assert "the 2 of 4 scenes that have such pixels (seeds 0, 3), better in 1 of them" in said
    assert said.endswith("+0.50 dB, mean over 3 scenes.")


@pytest.mark.parametrize(
    ("reports", "reason"),
    [
        ({"shape_agnostic": {"scenes": []}}, "needs both variants"),
        ({"shape_agnostic": {"scenes": [scene(0, 20.0, None)]}, "without_blending": {"scenes": [scene(0, 19.0, None)]}},
         "the region hides none in 1 scenes"),
    ],
)  # fmt: skip
def test_no_gain_where_there_is_nothing_to_compare(ablations: ModuleType, reports: dict[str, Any], reason: str) -> None:
    said = ablations.blending_gain(reports)
    assert reason in said
    assert "dB" not in said


def test_variants_that_are_missing_are_named(ablations: ModuleType) -> None:
    (said,) = ablations.left_out({"box": {}, "exact": {}, "shape_agnostic": {}})
    assert said == (
        "**Not trained, left out:** without spatial blending, without objects, without pose modulation, "
        "clips in a row, the method, clips in a row, without its Conv3D."
    )
    assert ablations.left_out({name: {} for name in (*ablations.ROWS, *ablations.IN_A_ROW)}) == []


def test_masks_on_another_body(ablations: ModuleType) -> None:
    own = report("exact", [23, 19, 18, 31, 21, None, 17], [9, 8, 7, 99, 16, None, 13])
    other = dict(zip(MEASURES, [20, 19, 18, 31, 21, None, 12], strict=True))
    reports = {"exact": {**own, "another_body": other, "another_body_copied": {"person": 8.5}}}
    assert cells(ablations.mask_table(reports))[2:] == [
        ["exact mask emptied", "23.00", "20.00", "-3.00", "17.00", "12.00", "8.50"]
    ]


def test_clips_in_a_row(ablations: ModuleType) -> None:
    reports = {name: {"model": {"person": 20.0}, "jittered": {"person": 19.5}} for name in ablations.IN_A_ROW}
    assert cells(ablations.row_table(reports))[2] == ["the method", "20.00", "19.50", "-0.50"]


def test_jitter_moves_the_poses_alone(ablations: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SuiteScene.of.__func__, "__defaults__", (2, False))
    told: list[Any] = []

    def made(pipeline: Any, scene: SuiteScene, **_: Any) -> Any:
        told.append(scene)
        return scene.frames

    monkeypatch.setattr(ablations, "put_back", made)
    figures = ablations.jittered(tiny.environment_pipeline(), 2, ablations.SILENT)
    assert figures["person"] == 99.0
    for seed, scene in enumerate(told):
        off = scene.truth.pose.keypoints - SuiteScene.of(seed, (64, 64), "shape_agnostic").truth.pose.keypoints
        assert 0.5 < off.std() / (ablations.JITTER * 64) < 2


def test_coarse_blocks_are_the_box(ablations: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plus sign fills its box under 2x2 blocks and not under 3x3; an L leaves out a block of 2x2."""
    monkeypatch.setattr(SuiteScene.of.__func__, "__defaults__", (2, False))
    assert 0 <= ablations.box_share(1, (64, 64)) <= 1
    one = SuiteScene.of(0, (64, 64), "box")
    mask = np.zeros((2, 64, 64), bool)
    mask[0, 10:30, 19:21] = mask[0, 19:21, 10:30] = True
    mask[1, 10:30, 10:12] = mask[1, 28:30, 10:30] = True
    region = np.zeros((2, 64, 64), bool)
    region[:, 10:30, 10:30] = True
    fake = type("Fake", (), {"truth": type("Truth", (), {"mask": one.truth.mask.new_tensor(mask)}), "region": region})
    monkeypatch.setattr(ablations, "SuiteScene", type("Suite", (), {"of": staticmethod(lambda *_: fake)}))
    assert ablations.box_share(3, (64, 64)) == 0.5


def write_result(ablations: ModuleType, root: Path, name: str, steps: int) -> Path:
    """A tiny model where the recipe's result would be, and its history."""
    recipe = load_recipe(ablations.RECIPES / f"{name}.yaml")
    assert recipe.environment is not None
    model = tiny.environment_pipeline(recipe.environment.object_blending)
    model.register_to_config(formulation=recipe.environment.formulation, num_inference_steps=1)
    output = root / recipe.output
    model.save_pretrained(output / "model")
    history = [{"recipe": recipe.to_dict(), "steps_done": steps}]
    (output / "model" / "training.json").write_text(json.dumps(history))
    return output


def test_measuring_alone_takes_what_is_trained(
    ablations: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """First nothing is; then two are, and one is half way. Nothing is trained, reports lie beside the models."""
    monkeypatch.chdir(tmp_path)  # comes back here
    monkeypatch.setattr(ablations, "REPOSITORY", tmp_path)
    monkeypatch.setattr("animate_anyone.evaluation.environment_suite.FRAMES", 3)
    monkeypatch.setattr(SuiteScene.of.__func__, "__defaults__", (3, False))
    result = tmp_path / "out.md"
    asked = ["environment_ablations.py", "--measure-only", "--characters", "1", "--output", str(result)]
    monkeypatch.setattr(sys, "argv", asked)
    ablations.main()
    assert capsys.readouterr().out.strip() == (
        "nothing is trained in runs/ablations_environment, nothing measured: python benchmarks/environment_ablations.py"
    )
    assert list(tmp_path.iterdir()) == []

    method = write_result(ablations, tmp_path, "shape_agnostic", 600)
    without = write_result(ablations, tmp_path, "without_blending", 600)
    half = write_result(ablations, tmp_path, "box", 300)
    ablations.main()
    text = result.read_text()
    rows = cells(text.split("\n\n")[2])
    assert [row[0] for row in rows[2:]] == ["copy_source, shape_agnostic", "the method", "without spatial blending"]
    assert "**Not trained, left out:** bounding box emptied, exact mask emptied, without objects, without pose" in text
    assert "gives objects" in text and "mean over the 1 of 1 scenes" in text
    assert "64x64 pixels, 600 steps of 8 clips with 4 target frames each, same seed (0)" in text
    assert "1 held-out scenes of 3 frames, 1 denoising steps" in text
    kept = json.loads((method / "report.json").read_text())
    assert rows[3][1].strip("*") == f"{kept['model']['person']:.2f}"
    assert Image.open(without / "sheet.png").width > 10 * 64
    assert {entry.name for entry in half.iterdir()} == {"model"}
