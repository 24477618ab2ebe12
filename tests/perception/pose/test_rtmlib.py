"""The rtmlib estimator's mapping and choice of person, with a stand-in for its network."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.errors import InputError
from animate_anyone.perception import check_estimator, estimator_options
from animate_anyone.perception.pose.protocol import PoseEstimator
from animate_anyone.perception.pose.rtmlib import RtmlibPose, _input_size, from_openpose_134
from animate_anyone.structures import BODY, FACE, LEFT_HAND, RIGHT_HAND
from people import person

SIZE = (640, 480)
People = list[tuple[NDArray[np.float64], NDArray[np.float64]]]


def somebody(x: float, torso: float = 60, score: float = 0.9) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A person in rtmlib's 134-point layout."""
    ours = person(size=SIZE, torso=torso, neck=(x, 120)).keypoints[0].astype(np.float64)
    theirs = np.zeros((134, 2))
    theirs[0:18], theirs[24:92], theirs[92:113], theirs[113:134] = ours[BODY], ours[FACE], ours[18:39], ours[39:60]
    return theirs, np.full(134, score)


class Network:
    """Gives prepared people, frame by frame, the way rtmlib does."""

    def __init__(self, *clip: People) -> None:
        self.clip = list(clip)
        self.shown: list[NDArray[np.uint8]] = []

    def __call__(self, picture: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        self.shown.append(picture)
        people = self.clip[min(len(self.shown), len(self.clip)) - 1]
        return np.stack([points for points, _ in people]), np.stack([scores for _, scores in people])


def blank(count: int) -> list[NDArray[np.uint8]]:
    return [np.zeros((SIZE[1], SIZE[0], 3), np.uint8)] * count


def necks(network: Network) -> list[float | None]:
    """Where the chosen person's neck is in each frame, ``None`` for nobody."""
    pose = RtmlibPose(network=network).estimate(blank(len(network.clip)), SIZE, Fraction(24))
    neck = JOINT["neck"]
    return [float(p[neck, 0]) if s[neck] > 0 else None for p, s in zip(pose.keypoints, pose.scores, strict=True)]


def test_groups_go_to_their_places() -> None:
    points = np.repeat(np.arange(134.0)[:, None], 2, axis=1)
    scores = np.linspace(0, 2, 134)
    ours, found, _ = from_openpose_134(points, scores)
    for group, start in ((BODY, 0), (FACE, 24), (LEFT_HAND, 92), (RIGHT_HAND, 113)):
        count = group.stop - group.start
        np.testing.assert_allclose(ours[group, 0], np.arange(start, start + count) + 0.5)
        np.testing.assert_allclose(found[group], np.clip(scores[start : start + count], 0, 1), rtol=1e-6)


def test_the_network_is_shown_blue_first() -> None:
    network = Network([somebody(300)])
    frame = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    frame[..., 0] = 200  # red
    RtmlibPose(network=network).estimate([frame], SIZE, Fraction(24))
    assert network.shown[0][0, 0].tolist() == [0, 0, 200]


def test_the_largest_person_is_taken_and_kept() -> None:
    """Somebody larger comes in later, people change their order, the two pass each other."""
    walk = [200.0 + 8 * i for i in range(12)]
    clip: list[People] = [[somebody(500, 40), somebody(walk[0], 70)], [somebody(walk[1], 70), somebody(492, 40)]]
    clip += [[somebody(480 - 8 * i, 40), somebody(x, 70), somebody(560, 90)] for i, x in enumerate(walk[2:])]
    assert necks(Network(*clip)) == pytest.approx([x + 0.5 for x in walk], abs=0.01)


def test_a_short_absence_does_not_hand_over_a_long_one_does() -> None:
    both: People = [somebody(150, 70), somebody(500, 50)]
    other: People = [somebody(500, 50)]
    found = necks(Network(both, *[other] * 5, both))
    assert found[0] == found[-1] == pytest.approx(150.5) and found[1:-1] == [None] * 5
    assert necks(Network(both, *[other] * 40))[-1] == pytest.approx(500.5)


def test_where_nobody_is_the_guess_on_the_whole_frame_is_not_believed() -> None:
    assert necks(Network([somebody(300, score=0.1)])) == [None]
    assert RtmlibPose(network=Network([somebody(300, score=0.1)])).estimate_picture(blank(1)[0]) is None


def test_one_picture() -> None:
    pose = RtmlibPose(network=Network([somebody(300)])).estimate_picture(blank(1)[0])
    assert pose is not None and pose.size == SIZE and len(pose) == 1 and pose.depth is None
    assert isinstance(RtmlibPose(network=Network()), PoseEstimator)


def test_mistakes_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no mode 'best'; there are: lightweight"):
        RtmlibPose(mode="best")
    with pytest.raises(InputError, match="no such file"):
        RtmlibPose(pose=tmp_path / "missing.onnx")
    body_only = Network([(np.zeros((17, 2)), np.ones(17))])
    with pytest.raises(InputError, match="whole-body model"):
        RtmlibPose(network=body_only).estimate(blank(1), SIZE, Fraction(24))


def test_input_size_is_read_from_the_file_name() -> None:
    assert _input_size("dw-ll_ucoco_384x288.onnx") == (288, 384)
    assert _input_size(Path("rtmw_256x192_20231122.onnx")) == (192, 256)
    assert _input_size("model.onnx") == (288, 384)


class Recorded:
    """Stands in for rtmlib, whose ``Wholebody`` records what it is made with."""

    MODE = {  # noqa: RUF012 - as rtmlib has it
        mode: {
            "det": f"https://host/sdk/yolox_{mode}-3ef2.zip",
            "det_input_size": (416, 416),
            "pose": f"https://host/sdk/rtmw_{mode}-256x192_2023.zip",
            "pose_input_size": (192, 256),
        }
        for mode in ("lightweight", "balanced", "performance")
    }
    made: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, **given: Any) -> None:
        self.made.append(given)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    monkeypatch.setitem(sys.modules, "rtmlib", SimpleNamespace(Wholebody=Recorded))
    monkeypatch.setattr(Recorded, "made", [])
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Recorded.made


def test_nothing_is_downloaded(made: list[dict[str, Any]], tmp_path: Path) -> None:
    """Both networks are files that are given, or lie where rtmlib keeps its own."""
    (tmp_path / "det.onnx").touch()
    (tmp_path / "dw-ll_ucoco_384x288.onnx").touch()
    kept = tmp_path / "cache" / "rtmlib" / "hub" / "checkpoints"
    kept.mkdir(parents=True)
    for given in ({}, {"detector": tmp_path / "det.onnx"}, {"pose": tmp_path / "dw-ll_ucoco_384x288.onnx"}):
        with pytest.raises(InputError, match="networks of mode balanced are not on this machine") as error:
            RtmlibPose(**given)
        assert "\n" not in str(error.value) and "--rtmlib-detector FILE.onnx" in str(error.value)
    assert not made
    both = {"detector": tmp_path / "det.onnx", "pose": tmp_path / "dw-ll_ucoco_384x288.onnx"}
    RtmlibPose(**both, device="mps")
    assert (made[0]["det"], made[0]["pose"]) == tuple(map(str, both.values()))
    assert (made[0]["pose_input_size"], made[0]["device"], made[0]["mode"]) == ((288, 384), "mps", "balanced")
    for name in ("yolox_lightweight-3ef2", "rtmw_lightweight-256x192_2023"):
        (kept / f"{name}.onnx").touch()
    RtmlibPose(mode="lightweight")
    assert made[1]["det"] == str(kept / "yolox_lightweight-3ef2.onnx")
    assert made[1]["pose"] == str(kept / "rtmw_lightweight-256x192_2023.onnx")
    assert (made[1]["det_input_size"], made[1]["pose_input_size"]) == ((416, 416), (192, 256))


def test_options_of_rtmlib_are_checked_beside_the_estimator() -> None:
    check_estimator("rtmlib", "performance", "a.onnx", "b.onnx")
    assert estimator_options("rtmlib", "performance", "a.onnx") == {
        "mode": "performance",
        "detector": "a.onnx",
        "pose": None,
    }
    assert estimator_options("mediapipe") == {}
    for given, option in ((("performance",), "mode"), (("balanced", "a.onnx"), "detector")):
        with pytest.raises(InputError, match=f"--rtmlib-{option}: the pose estimator is mediapipe"):
            check_estimator("mediapipe", *given)
