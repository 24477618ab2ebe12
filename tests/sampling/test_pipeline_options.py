"""One table of what travels with a model: signatures, saved folders, conversions and training have its names."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from animate_anyone.errors import InputError
from animate_anyone.interop.preset import Preset
from animate_anyone.models.folder import ALL_NETWORKS
from animate_anyone.models.pipeline_options import ANIMATE_ANYONE, check_options
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline import AnimateAnyonePipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline

PARTS = {"self", "scheduler", *ALL_NETWORKS}
ANIMATE_ANYONE_2 = {
    **ANIMATE_ANYONE,
    **{"formulation": "shape_agnostic", "uses_objects": True, "uses_depth": True, "object_latents": "alone"},
}


@pytest.mark.parametrize(
    ("kind", "table"), [(AnimateAnyonePipeline, ANIMATE_ANYONE), (AnimateAnyone2Pipeline, ANIMATE_ANYONE_2)]
)
def test_signatures_have_its_names_and_defaults(kind: type, table: dict[str, Any]) -> None:
    parameters = inspect.signature(kind.__init__).parameters  # type: ignore[misc]
    options = {name: p.default for name, p in parameters.items() if name not in PARTS}
    assert options == table


# None of them at its default.
OTHERS: dict[str, Any] = {
    "size": [32, 64],
    "skeleton_style": "scaled",
    "reference_pose": True,
    "reference_latents": True,
    "carried_reference": True,
    "num_inference_steps": 3,
    "guidance_scale": 1.5,
    "window": 7,
    "overlap": 1,
    "aggregation": "wrap",
    "stretch": True,
    "image_tokens": "patches",
    "shared_noise": True,
    "keep_detail": True,
}
OF_SCENES = {"formulation": "box", "uses_objects": False, "uses_depth": False, "object_latents": "changes"}


def test_saved_and_loaded_whole(tmp_path: Path) -> None:
    assert OTHERS.keys() == ANIMATE_ANYONE.keys() - {"reference_path"}
    assert OTHERS.keys() | OF_SCENES.keys() == ANIMATE_ANYONE_2.keys() - {"reference_path"}
    scenes = {**OTHERS, **OF_SCENES, "stretch": False}
    made = {"1": tiny.pipeline(**OTHERS)}
    uses = {name: OF_SCENES[name] for name in ("formulation", "object_latents")}
    made["2"] = tiny.environment_pipeline(
        object_blending="none", modulated=False, **{**OTHERS, "stretch": False}, **uses
    )
    for (name, pipeline), want in zip(made.items(), (OTHERS, scenes), strict=True):
        pipeline.save_pretrained(tmp_path / name)
        index = json.loads((tmp_path / name / "model_index.json").read_text())
        assert {key: index[key] for key in want} == want
        again = load_pipeline(tmp_path / name, "cpu", "float32")
        assert {key: again.config[key] for key in want} == want


def test_conversions_write_all_of_them() -> None:
    options = Preset("somebody", "linear").pipeline_options()
    assert options.keys() - {"reference_control", "reference_resnet"} == ANIMATE_ANYONE.keys()
    assert (options["aggregation"], options["stretch"]) == ("wrap", True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": "mean"}, "aggregation 'mean' is not known"),
        ({"carried_reference": True}, "set that too"),
        ({"reference_latents": True, "keep_detail": True}, "set carried_reference too"),
        ({"image_tokens": "some"}, "image_tokens 'some' is not known; give pooled or patches"),
        ({"reference_path": "elsewhere"}, "reference_path 'elsewhere'"),
        ({"reference_path": "clip", "reference_pose": True}, "goes without reference_pose"),
    ],
)
def test_what_does_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_options(options)
