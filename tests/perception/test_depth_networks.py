"""Networks of depth from folders, tiny and random in the real layouts: what is taken, sizes, signs, poses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import tiny_depth
from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.errors import InputError
from animate_anyone.perception.backends import run_network
from animate_anyone.perception.depth import DepthAnything
from animate_anyone.perception.joint_depth import check_depth, load_depth, measure_depth, parse_depth
from animate_anyone.perception.point_map import Sapiens2Points
from people import person

SIZE = (120, 180)
KINDS = ("relative", "metric", "points")
FRAMES = [np.random.default_rng(i).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8) for i in range(3)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: tiny_depth.save(kind, tmp_path_factory.mktemp("depth") / kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_poses_get_their_depth_from_a_folder(kind: str, folders: dict[str, Path]) -> None:
    pose = person(3, SIZE, torso=36, neck=(60, 36))
    found = measure_depth(pose, FRAMES, load_depth(folders[kind]))
    assert found.depth is not None and np.isfinite(found.depth).all() and found.depth.dtype == np.float32
    assert found.depth[:, :18].any()
    hips = found.depth[:, [JOINT["right_hip"], JOINT["left_hip"]]].mean(axis=1)
    np.testing.assert_allclose(hips, 0, atol=1e-6)
    again = measure_depth(pose, iter(FRAMES), load_depth(folders[kind])).depth
    assert again is not None and again.tobytes() == found.depth.tobytes()
    assert np.array_equal(found.keypoints, pose.keypoints) and np.array_equal(found.scores, pose.scores)


def test_relative_networks_give_nearness_and_metric_ones_distance(folders: dict[str, Path]) -> None:
    for kind, sign in (("relative", -1), ("metric", 1)):
        network = DepthAnything(folders[kind], side=28)
        raw = np.zeros(0)

        def kept(pixels: torch.Tensor, model: Any = network._model) -> SimpleNamespace:
            nonlocal raw
            given = model(pixels).predicted_depth
            raw = given[0].numpy()
            return SimpleNamespace(predicted_depth=given)

        network._model = kept
        plane = network.planes(FRAMES[0])
        np.testing.assert_array_equal(plane[0], sign * raw)


class Colours(torch.nn.Module):
    """Gives what it sees, as points."""

    config = SimpleNamespace(image_size=(64, 48))

    def forward(self, pixels: torch.Tensor) -> SimpleNamespace:
        assert pixels.shape == (1, 3, 64, 48)
        return SimpleNamespace(pointmaps=torch.nn.functional.avg_pool2d(pixels, 2))


@pytest.mark.parametrize("size", [(90, 30), (30, 90), (48, 64)])
def test_point_maps_show_the_frame_alone(size: tuple[int, int]) -> None:
    """A frame of another shape is put into the middle; what is around it is not looked at."""
    frame = np.zeros((size[1], size[0], 3), np.uint8)
    frame[size[1] // 2 :] = 255
    planes = Sapiens2Points(model=Colours()).planes(frame)
    scale = min(64 / size[1], 48 / size[0])
    assert planes.shape == (3, round(size[1] * scale / 2), round(size[0] * scale / 2))
    top, bottom = planes[0, 1, 1:-1], planes[0, -2, 1:-1]  # the outermost pixels may hold some of both
    assert (bottom > top + 3).all() and np.ptp(top) < 1e-5 and np.ptp(bottom) < 1e-5


class Columns:
    """Says that what lies to the right is farther; of the frames in ``broken`` nothing that is finite."""

    def __init__(self, *broken: int) -> None:
        self.broken, self.asked = broken, 0

    def planes(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.asked += 1
        plane = np.tile(np.arange(60, dtype=np.float32), (90, 1))[None]
        return plane * np.nan if self.asked - 1 in self.broken else plane


def test_frames_without_a_person_are_not_asked_about() -> None:
    pose = person(3, SIZE, torso=36, neck=(60, 36))
    scores = pose.scores.copy()
    scores[1] = 0
    network = Columns()
    found = measure_depth(replace(pose, scores=scores), FRAMES, network).depth
    assert network.asked == 2 and found is not None
    right, left = JOINT["right_wrist"], JOINT["left_wrist"]
    assert (found[:, left] > 0.02).all() and (found[:, right] < -0.02).all()
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)  # interpolated


def test_values_that_are_not_finite_count_as_not_measured() -> None:
    pose = person(3, SIZE, torso=36, neck=(60, 36))
    whole, broken = (measure_depth(pose, FRAMES, Columns(*which)).depth for which in ((), (0,)))
    assert whole is not None and broken is not None
    np.testing.assert_allclose(broken, whole, atol=1e-3)
    with pytest.raises(InputError, match="not finite in all frames"):
        measure_depth(pose, FRAMES, Columns(0, 1, 2))
    with pytest.raises(InputError, match="2 frames to see depth in, and 3 poses"):
        measure_depth(pose, FRAMES[:2], Columns())


def test_float16_that_overflows_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    entered = []

    class Half:
        def __init__(self, device: str, dtype: torch.dtype) -> None:
            entered.append((device, dtype))

        def __enter__(self) -> None:
            entered.append(True)

        def __exit__(self, *_: object) -> None:
            entered.append(False)

    def model(pixels: Any) -> SimpleNamespace:
        return SimpleNamespace(depth=torch.full((1, 2, 2), torch.inf if entered[-1] is True else 3.0))

    monkeypatch.setattr(torch, "autocast", Half)
    found = run_network(model, SimpleNamespace(to=lambda _: None), "cuda:1", "depth")  # type: ignore[arg-type]
    assert entered == [("cuda", torch.float16), True, False] and (found == 3).all() and found.shape == (1, 2, 2)


def test_folders_are_looked_at_before_anything_is_loaded(folders: dict[str, Path], tmp_path: Path) -> None:
    assert parse_depth("joints") is None and parse_depth("weights/") == Path("weights")
    assert check_depth(folders["points"]) == "Sapiens2ForPointmapEstimation"
    with pytest.raises(InputError, match="no config"):
        check_depth(tmp_path)
    taken = "DepthAnythingForDepthEstimation or Sapiens2ForPointmapEstimation"
    for text, message in (
        (json.dumps({"architectures": ["Sapiens2ForNormalEstimation"]}), "says Sapiens2ForNormalEstimation"),
        ("{}", "says no network that is named"),
        ("[", "says no network that is named"),
        (json.dumps({"architectures": ["DepthAnythingForDepthEstimation"]}), "no weights"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match=message) as error:
            load_depth(tmp_path)
        assert "\n" not in str(error.value) and taken in str(error.value)


def test_weights_that_do_not_fit_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folders["relative"] / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((folders["points"] / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match="Depth Anything") as error:
        load_depth(tmp_path)
    assert "\n" not in str(error.value)
