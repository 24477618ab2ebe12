"""benchmarks/mending.py on tiny models: a row of each way, and what its figures are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import tiny


@pytest.mark.parametrize("scenes", [False, True])
def test_a_row_of_each_way(
    load_benchmark: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenes: bool
) -> None:
    mending = load_benchmark("mending")
    make = tiny.environment_pipeline if scenes else tiny.pipeline
    model = make(num_inference_steps=1, carried_reference=True, reference_latents=True)
    model.save_pretrained(tmp_path / "model")
    output = tmp_path / "out.md"
    given = ["--model", str(tmp_path / "model"), "--clips", "1", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["mending.py", *given, "--output", str(output)])
    mending.main()
    lines = [line.split("|")[1:-1] for line in output.read_text().splitlines() if line.startswith("|")]
    rows = {name.strip(): [float(cell) for cell in cells] for name, *cells in lines[2:]}
    assert list(rows) == ["first guess", *(name for name, _ in mending.ways())]
    guess, shipped, more = rows["first guess"], rows["as shipped"], rows["head 0.8"]
    assert guess != shipped and shipped != more


def test_a_perfect_result_has_perfect_figures(load_benchmark: Callable[[str], ModuleType]) -> None:
    mending = load_benchmark("mending")
    pipeline = tiny.pipeline(num_inference_steps=1, carried_reference=True, reference_latents=True)
    clip = mending.make_clip(pipeline, mending.FIRST, None)
    person, frame, ssim, identity, colour = mending.figures(clip.truth, clip)
    assert person == frame == np.inf and ssim == pytest.approx(1) and identity == pytest.approx(1) and colour == 0
