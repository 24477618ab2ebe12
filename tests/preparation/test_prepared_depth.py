"""Depth of training clips by a network from a folder: written with the poses, read by training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scenedetect")

import tiny_depth
from animate_anyone.engines.engine import Resources
from animate_anyone.errors import InputError
from animate_anyone.preparation import work
from animate_anyone.preparation.prepare import prepare, read_manifest
from animate_anyone.preparation.settings import VERSION, PrepareSettings
from animate_anyone.preparation.stage import needs
from animate_anyone.structures import PoseSequence
from waving import Waving, video

LATER = ("rtmlib_mode", "rtmlib_detector", "rtmlib_pose", "depth")


@pytest.fixture
def waving(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Poses without depth; gives the options that the estimator was loaded with."""
    loaded: list[dict[str, Any]] = []

    def load(name: str, device: str, **options: Any) -> Waving:
        loaded.append(options)
        return Waving()

    monkeypatch.setattr(work, "load_estimator", load)
    work.clip_stages.cache_clear()
    yield loaded
    work.clip_stages.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_depth.save("relative", tmp_path_factory.mktemp("depth"))


def test_clips_have_the_depth_of_a_network(tmp_path: Path, folder: Path, waving: list[dict[str, Any]]) -> None:
    video(tmp_path / "1.mp4", 26)
    settings = PrepareSettings(min_height=64, depth=str(folder))
    prepare([tmp_path / "1.mp4"], tmp_path / "with", settings)
    prepare([tmp_path / "1.mp4"], tmp_path / "without", replace(settings, depth=None))
    poses = []
    for name in ("with", "without"):
        (clip,) = [line for line in read_manifest(tmp_path / name) if line["status"] == "kept"]
        poses.append(PoseSequence.load(tmp_path / name / clip["files"]["poses"]["path"]))
    seen, blind = poses
    assert blind.depth is None and seen.depth is not None
    assert seen.depth.shape == seen.scores.shape and np.isfinite(seen.depth).all() and seen.depth.any()
    assert np.array_equal(seen.scores, blind.scores)
    prepare([tmp_path / "1.mp4"], tmp_path / "again", settings)
    (line,) = [line for line in read_manifest(tmp_path / "again") if line["status"] == "kept"]
    (first,) = [line for line in read_manifest(tmp_path / "with") if line["status"] == "kept"]
    assert line["files"]["poses"]["sha256"] == first["files"]["poses"]["sha256"]


def test_settings(folder: Path, tmp_path: Path, waving: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    plain, deep = PrepareSettings(), PrepareSettings(depth=str(folder))
    of_before = {name: value for name, value in asdict(plain).items() if name not in (*LATER, "device")}
    text = json.dumps({"version": VERSION} | of_before, default=str, sort_keys=True)
    assert plain.digest == hashlib.sha256(text.encode()).hexdigest()[:16]  # data sets of before are not made anew
    assert deep.digest != plain.digest != PrepareSettings(pose_estimator="rtmlib", rtmlib_mode="lightweight").digest
    on_gpu = replace(deep, device="cuda")  # mediapipe on the CPU, the network on the GPU
    assert on_gpu.digest == deep.digest
    monkeypatch.setattr(work, "load_depth", lambda *given: given)
    assert needs(work.clip_stages(on_gpu)) == Resources(cpus=1.0, gpus=1.0)
    assert needs(work.clip_stages(deep)) == Resources(cpus=1.0, gpus=0.0)
    work.clip_stages(PrepareSettings(pose_estimator="rtmlib", rtmlib_detector="d.onnx", rtmlib_pose="p.onnx"))
    assert waving[-1] == {"mode": "balanced", "detector": "d.onnx", "pose": "p.onnx"}
    for wrong, message in (
        ({"depth": str(tmp_path)}, "no config"),
        ({"rtmlib_mode": "best"}, "rtmlib has no mode 'best'"),
        ({"rtmlib_pose": "p.onnx"}, "--rtmlib-pose: the pose estimator is mediapipe"),
        ({"objects": "ask", "object_weights": "x"}, "--objects ask: replace asks"),
    ):
        with pytest.raises(InputError, match=message):
            PrepareSettings(**wrong)  # type: ignore[arg-type]
