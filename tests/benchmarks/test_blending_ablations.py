"""The table of the ways in which objects join the noise."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from conftest import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"


@pytest.fixture
def ablations(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """benchmarks/blending_ablations.py."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("blending_ablations", BENCHMARKS / "blending_ablations.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("machine", "ablations"):
        sys.modules.pop(name, None)


def report(inside: float | None) -> dict[str, Any]:
    figures = {"objects_inside": inside, "objects": 20.0, "person": 19.0, "environment": 99.0}
    return {"model": figures, "collage": {**figures, "objects_inside": 10.0}}


def test_rows_differ_in_how_objects_are_taken_in(ablations: ModuleType) -> None:
    rows = {name: recipe.to_dict() for name, recipe in ablations.recipes(7).items()}
    for name, recipe in rows.items():
        assert recipe.pop("output") == f"runs/ablation_blending/{name}"
        keys = ("object_blending", "blending_place", "blending_levels")
        taken = [recipe["environment"].pop(key) for key in keys]
        shares = recipe["optimizer"].pop("shares")
        assert (taken, list(shares)) == {
            "all_levels": (["paper", "hidden", "all"], ["spatial_blending", "object_"]),
            "hidden": (["paper", "hidden", "attention"], ["spatial_blending", "object_"]),
            "attention": (["paper", "attention", "attention"], ["spatial_blending", "object_"]),
            "input": (["input", "hidden", "all"], ["object_"]),
            "none": (["none", "hidden", "all"], []),
        }[name]
        assert recipe["environment"]["guess_objects"] == 0 and recipe["environment"]["new_objects"]
    assert all(recipe == rows["all_levels"] for recipe in rows.values())
    assert rows["all_levels"]["steps"] == 7


def test_table_and_gain(ablations: ModuleType) -> None:
    reports = {"all_levels": report(17.25), "none": report(13.0)}
    lines = ablations.result_table(reports).split("\n")
    assert lines[2].endswith("| 17.25 | 20.00 | 19.00 | 99.00 |") and lines[-1].startswith("| the first guess | 10.00")
    assert "+4.25 dB" in ablations.gain(reports)
    assert "not said" in ablations.gain({"all_levels": report(17.25)})
    assert " - |" in ablations.result_table({"none": report(None)})
