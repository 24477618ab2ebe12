"""Videos of a model in training: what is made and measured, and that training does not notice."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_recipes import log, same, small, tensors
from small_recipes import start as start
from test_stage_environment import IN_A_ROW
from test_stage_environment import small as small_environment
from torch import nn

from animate_anyone.evaluation.image_metrics import ssim, ssim_masked
from animate_anyone.media import open_video, read_picture
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.training import validation_cases
from animate_anyone.training.config import Monitor, Recipe
from animate_anyone.training.stages import build_stage, run
from animate_anyone.training.time_limit import TimeLimit
from animate_anyone.training.validation import evaluating, measure, random_numbers_kept
from animate_anyone.training.validation_cases import studio_case

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
SETTINGS: dict[str, Any] = {"validate_every": 2, "validation_clips": 2, "validation_frames": 3, "validation_steps": 1}


def recipe(name: str, start: Path, out: Path, **changes: Any) -> Recipe:
    settings: dict[str, Any] = {"data__size": 32, "steps": 3, **changes}
    if name == "autoencoder":
        return small(name, out, **{"objective__crop": None, **settings})
    if name in ("image", "motion"):
        return small(name, out, start / "model" if name == "motion" else start, **settings)
    return small_environment(out, start, **settings, **(IN_A_ROW if name == "in a row" else {}))


def validated(asked: Recipe, **changes: Any) -> Recipe:
    return replace(asked, monitor=Monitor(**{**SETTINGS, **changes}))


def lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "validation.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["image", "motion", "scenes", "in a row"])
def test_videos_and_the_same_weights(start: Path, tmp_path: Path, name: str) -> None:
    """Bit for bit what is trained without; the model is the one that is saved, the average, made anew from files."""
    run(recipe(name, start, tmp_path / "plain"))
    asked = validated(recipe(name, start, tmp_path / "watched"))
    run(asked)
    assert same(tensors(tmp_path / "plain" / "model"), tensors(tmp_path / "watched" / "model"))
    assert same(tensors(tmp_path / "plain" / "checkpoint"), tensors(tmp_path / "watched" / "checkpoint"))
    losses = ([line["loss"] for line in log(tmp_path / which)] for which in ("plain", "watched"))
    assert next(losses) == next(losses)

    told = lines(tmp_path / "watched")
    assert [line["step"] for line in told] == [2, 3]
    folder = tmp_path / "watched" / "validation" / "000003"
    assert {file.name for file in folder.iterdir()} == {"studio_0.mp4", "studio_1.mp4", "sheet.png"}
    info = open_video(folder / "studio_0.mp4").info
    assert (info.num_frames, info.width, info.height) == (3, 96, 32)
    assert read_picture(folder / "sheet.png").shape[1] > 10 * 32
    for who in ("model", "copy_reference"):
        assert told[1][who].keys() == {"person_psnr", "person_ssim", "psnr", "ssim"}
        assert all(isinstance(figure, float) for figure in told[1][who].values())
    saved = load_pipeline(tmp_path / "watched" / "model")
    case = studio_case(asked, 1)
    # Training computes with layers as they are, a pipeline on a CPU with faster forms of them.
    assert measure(case.make(saved, 1), case) == pytest.approx(told[1]["cases"][1]["model"], abs=2e-3)


def test_bfloat16(start: Path, tmp_path: Path) -> None:
    run(validated(recipe("image", start, tmp_path, precision="bfloat16", steps=2)))
    assert [line["step"] for line in lines(tmp_path)] == [2]


def test_cases_are_fixed_and_never_trained_on(start: Path, tmp_path: Path) -> None:
    asked = validated(recipe("image", start, tmp_path))
    one, again, other = studio_case(asked, 0), studio_case(replace(asked, seed=5), 0), studio_case(asked, 1)
    assert np.array_equal(one.frames, again.frames) and not np.array_equal(one.frames, other.frames)
    stage = build_stage(asked)
    (trained,) = stage.clips.clips(np.array([validation_cases.FIRST_SEED]))  # the same seed of the other split
    assert not any(np.array_equal(frame, one.frames[0]) for frame in trained["frames"])


def test_where_there_is_none_a_line_says_so(
    start: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(asked: Recipe, limit: TimeLimit | None = None) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "animate_anyone"):
            run(validated(asked), limit=limit)
        assert not (Path(asked.output) / "validation").exists()
        return [record.message for record in caplog.records if "validation" in record.message]

    assert said(recipe("autoencoder", start, tmp_path / "1")) == ["stage autoencoder makes no videos: no validation"]
    limit = TimeLimit(100)
    timed = "no validation in a run with a time limit (--minutes)"
    assert said(recipe("image", start, tmp_path / "2"), limit) == [timed]
    monkeypatch.delitem(validation_cases.SOURCES, "studio")
    none = "data.source studio has no cases for validation: no validation"
    assert said(recipe("image", start, tmp_path / "3")) == [none]


def test_what_fails_is_told_and_training_goes_on(
    start: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*given: object) -> Any:
        raise torch.OutOfMemoryError("no memory\nat all")

    monkeypatch.setitem(validation_cases.SOURCES, "studio", short)
    run(recipe("image", start, tmp_path / "plain"))
    run(validated(recipe("image", start, tmp_path / "watched")))
    assert "validation after step 2 was left out: no memory at all" in [record.message for record in caplog.records]
    assert same(tensors(tmp_path / "plain" / "model"), tensors(tmp_path / "watched" / "model"))


def test_modes_and_random_numbers_are_as_before() -> None:
    network = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(2, 2)))
    network[1].eval()
    modes = [module.training for module in network.modules()]
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    with pytest.raises(KeyError), evaluating(network), random_numbers_kept(torch.device("cpu")):
        assert not any(module.training for module in network.modules())
        torch.manual_seed(5)
        torch.rand(7)
        raise KeyError
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.rand(3), wanted)


def test_similarity_over_a_mask() -> None:
    one = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    other = one.copy()
    other[:, 16:] = 0
    left, right = np.zeros((2, 32, 32), bool)
    left[:, :12], right[:, 20:] = True, True
    assert ssim_masked(one, other, left) == pytest.approx(1) and ssim_masked(one, other, right) < 0.3
    inside = np.zeros((32, 32), bool)
    inside[3:-3, 3:-3] = True
    assert ssim_masked(one, other, inside) == pytest.approx(ssim(one, other))
    with pytest.raises(ValueError, match="true nowhere"):
        ssim_masked(one, other, np.zeros((32, 32), bool))
