"""``replace`` with networks from folders: depth of the limbs, and objects by asking; tiny random ones, real layouts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace as changed
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import replaced
import tiny
import tiny_depth
import tiny_qwen
from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.errors import InputError
from animate_anyone.media import probe
from animate_anyone.perception.objects.asking import QwenVL, Reply
from animate_anyone.structures import PoseSequence
from animate_anyone.workflows import source_video
from animate_anyone.workflows.decomposed import Decomposed
from animate_anyone.workflows.driving import open_driver
from animate_anyone.workflows.replace import Settings, dry_run, replace
from animate_anyone.workflows.resuming import describe_job
from animate_anyone.workflows.settings import Report
from animate_anyone.workflows.source_video import Networks, decompose

Run = Any


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("networks")
    tiny.environment_pipeline().save_pretrained(folder / "model")
    for kind in ("relative", "points"):
        tiny_depth.save(kind, folder / kind)
    tiny_qwen.save("qwen2_5_vl", folder / "qwen")
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def run(folders: dict[str, Path], dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    def run(name: str = "out.mp4", **settings: Any) -> tuple[Path, Report]:
        replaced.look_with(monkeypatch, dancers)
        options = Settings(
            **{"model": str(folders["model"]), "steps": 1, "guidance": 1.0, "device": "cpu", "frames": slice(0, 3)}
            | settings
        )
        return tmp_path / name, replace(dancers / "me.png", dancers / "dance.mp4", tmp_path / name, options)

    yield run


class WithoutDepth(replaced.Truth):
    """Poses as rtmlib gives them."""

    def estimate(self, *given: Any, **options: Any) -> PoseSequence:
        return changed(super().estimate(*given, **options), depth=None)


@pytest.mark.parametrize("kind", ["relative", "points"])
def test_depth_from_a_folder_where_the_estimator_gives_none(
    kind: str, folders: dict[str, Path], dancers: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(name: str, device: str, **options: Any) -> WithoutDepth:
        assert (name, options["mode"], options["pose"]) == ("rtmlib", "performance", Path("pose.onnx"))
        return WithoutDepth(dancers)

    def look_with(patch: pytest.MonkeyPatch, folder: Path) -> None:
        usual(patch, folder)
        patch.setattr(source_video, "load_estimator", blind)

    usual = replaced.look_with
    monkeypatch.setattr(replaced, "look_with", look_with)
    given = {"pose_estimator": "rtmlib", "rtmlib_mode": "performance", "rtmlib_pose": Path("pose.onnx")}
    first, _ = run("one.mp4", **given, depth=folders[kind], keep=tmp_path / "kept")
    assert probe(first).num_frames == 3
    poses = PoseSequence.load(tmp_path / "kept" / "poses.npz")
    assert poses.depth is not None and poses.depth[:, :18].any()
    again, _ = run("two.mp4", **given, depth=folders[kind])
    assert first.read_bytes()[100:1000] == again.read_bytes()[100:1000]
    with pytest.raises(InputError, match="or --depth FOLDER"):
        run(**given)


def test_depth_takes_the_place_of_the_estimators(
    folders: dict[str, Path], dancers: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before the poses are cleaned; and what was found is kept with it, so that a run that is killed goes on."""

    class Rows:
        def planes(self, frame: Any) -> Any:
            return np.tile(np.arange(64, dtype=np.float32)[:, None], (1, 64))[None]

    estimator = replaced.Truth(dancers)
    networks = Networks(estimator, replaced.Boxes(), depth=Rows())
    driver = open_driver(dancers / "dance.mp4", slice(0, 4))
    scene, _ = decompose(driver, networks)
    assert scene.pose.depth is not None
    nose, neck = scene.pose.depth[:, JOINT["nose"]], scene.pose.depth[:, JOINT["neck"]]
    assert (nose < neck).all() and (neck < -0.01).all()
    plain, _ = decompose(driver, changed(networks, depth=None))
    assert not np.allclose(plain.pose.depth, scene.pose.depth, atol=0.01)  # type: ignore[arg-type]
    assert np.abs(plain.pose.keypoints - scene.pose.keypoints).max() < 3
    picture = np.zeros((8, 8, 3), np.uint8)
    Decomposed.of(scene, source_video.Subject(picture, None), []).save(tmp_path / "found.zip")
    kept = Decomposed.load(tmp_path / "found.zip").pose.depth
    assert kept is not None and kept.tobytes() == scene.pose.depth.tobytes()
    jobs = [
        describe_job("replace", dancers / "me.png", dancers / "dance.mp4", Settings(device="cpu", depth=depth), None)
        for depth in (None, folders["relative"], folders["points"])
    ]
    assert len({json.dumps(job, default=str) for job in jobs}) == 3


def test_objects_by_asking(run: Run, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[int, ...]] = []

    def answer(self: QwenVL, picture: Any) -> Reply:
        shown.append(picture.shape)
        return Reply('[{"label": "ball", "bbox_2d": [10, 20, 30, 40]}]', (80, 80))

    monkeypatch.setattr(QwenVL, "__call__", answer)
    _, report = run(objects="ask", object_weights=folders["qwen"])
    assert len(shown) == 1 and any(line.startswith("objects: ball in") for line in report.lines)


def test_an_answer_that_is_none_comes_before_the_long_work(
    run: Run, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def follow(*_: Any, **__: Any) -> None:
        raise AssertionError("the work had begun")

    monkeypatch.setattr(source_video, "track_person", follow)
    monkeypatch.setattr("animate_anyone.perception.objects.asking._MOST_TOKENS", 8)
    with pytest.raises(InputError, match="no list of at most 8 objects") as error:
        run(objects="ask", object_weights=folders["qwen"])
    assert "\n" not in str(error.value) and not (tmp_path / "out.mp4").exists()


def test_folders_are_looked_at_first(folders: dict[str, Path], dancers: Path, tmp_path: Path) -> None:
    for more, message in (
        ({"objects": "ask"}, "--objects ask: a model of Qwen-VL's kind is asked; give its folder"),
        ({"objects": "ask", "object_weights": folders["relative"]}, "holds a 'depth_anything' model"),
        ({"depth": folders["qwen"]}, "config.json says Qwen2_5_VLForConditionalGeneration"),
        ({"depth": tmp_path}, "no config.json there"),
    ):
        settings = Settings(model=str(folders["model"]), device="cpu", **more)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=message):
            dry_run(dancers / "me.png", dancers / "dance.mp4", tmp_path / "out.mp4", settings)


def test_networks_are_put_where_the_model_is(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    loaded: list[tuple[Any, ...]] = []

    def load(kind: str) -> Any:
        return lambda *given, **more: loaded.append((kind, *given, *more.values()))

    monkeypatch.setattr(source_video, "load_depth", load("depth"))
    monkeypatch.setattr(source_video, "AskingLocator", load("asking"))
    monkeypatch.setattr(source_video, "load_estimator", load("poses"))
    monkeypatch.setattr(source_video, "load_masker", load("masks"))
    monkeypatch.setattr("animate_anyone.sampling.placement.choose_device", torch.device)
    settings = Settings(depth=Path("d"), objects="ask", object_weights=Path("q"), device="cuda:1", dtype="float16")
    Networks.load(settings, None)
    assert ("depth", Path("d"), "cuda:1") in loaded
    assert ("asking", Path("q"), "cuda:1", torch.float16) in loaded
    assert ("poses", "mediapipe", "cuda:1") in loaded


def test_files_of_rtmlib_that_are_missing(
    folders: dict[str, Path], dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rtmlib", SimpleNamespace(Wholebody=None))
    settings = Settings(model=str(folders["model"]), device="cpu", pose_estimator="rtmlib", depth=folders["relative"])
    with pytest.raises(InputError, match="--rtmlib-detector FILE") as error:
        replace(dancers / "me.png", dancers / "dance.mp4", tmp_path / "out.mp4", settings)
    assert "\n" not in str(error.value)
