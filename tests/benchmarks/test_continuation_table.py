"""benchmarks/continuation.py on a tiny model: a row of each way, and what its figures are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import tiny
from animate_anyone.evaluation.environment_suite import SuiteScene
from animate_anyone.models.temporal_reference import with_temporal_reference


@pytest.mark.parametrize("trained", [True, False])
def test_a_row_of_each_way(
    load_benchmark: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: bool
) -> None:
    continuation = load_benchmark("continuation")
    model = tiny.environment_pipeline(num_inference_steps=1 if trained else 2, reference_pose=False)
    if trained:
        model.register_modules(denoising_unet=with_temporal_reference(model.denoising_unet, 2))
    model.save_pretrained(tmp_path / "model")
    output = tmp_path / "out.md"
    given = ["--model", str(tmp_path / "model"), "--scenes", "1", "--frames", "7", "--segment", "3", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["continuation.py", *given, "--output", str(output)])
    continuation.main()
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in output.read_text().splitlines()
        if "|" in line
    ]
    titles, first, *others = rows[0], *rows[2:]
    assert titles[1:5] == ["0-2", "3-5", "6-6", "last less first"]
    assert first[0] == ("segments, shown the last 2 frames" if trained else "segments, 2 frames overwritten")
    assert [row[0] for row in others] == ["segments, shown nothing", "windows, overlap 2"]
    assert "1 scene of 7 frames of" in output.read_text() and "forwards and backwards" in output.read_text()
    for row in (first, *others):
        assert float(row[4]) == pytest.approx(float(row[3]) - float(row[1]), abs=0.011)
        assert 0 < float(row[1]) < 60


def test_figures_of_known_errors(load_benchmark: Callable[[str], ModuleType]) -> None:
    """A last segment with twice the error is 6 dB worse; a leap between segments is flicker at the seam alone."""
    continuation = load_benchmark("continuation")
    scene = SuiteScene.of(0, (64, 64), "shape_agnostic", 6)
    frames = scene.frames.clip(40, 200)
    scene = replace(scene, frames=frames)
    made = frames.copy()
    made[:3] += 5
    made[3:] += 10
    first, last = continuation.person_by_segment(made, scene, 3)
    assert first - last == pytest.approx(20 * np.log10(2), abs=1e-3)
    cells = continuation.measure([made], [scene], 3, [[0, 1, 2], [3, 4, 5]])
    assert float(cells[3]) == pytest.approx(5) and float(cells[4]) == 0


def test_backwards_the_first_segment_is_the_last() -> None:
    """A scene made both ways has the same frames in its first and last segment."""
    forwards, backwards = (SuiteScene.of(0, (64, 64), "shape_agnostic", 6, backwards=way) for way in (False, True))
    assert np.array_equal(forwards.frames[::-1], backwards.frames)
    assert np.array_equal(forwards.region[::-1], backwards.region)
    assert np.array_equal(forwards.truth.pose.keypoints[::-1], backwards.truth.pose.keypoints)
    assert np.array_equal(forwards.character.picture, backwards.character.picture)
