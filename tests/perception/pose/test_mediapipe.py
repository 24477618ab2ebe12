"""The MediaPipe estimator on real clips, where they and MediaPipe are there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.conditions.retarget import retarget
from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.conditions.smooth import clean
from animate_anyone.errors import InputError
from animate_anyone.perception import PoseEstimator, load_estimator, report
from animate_anyone.structures import BODY, PoseSequence

pytest.importorskip("mediapipe", reason='MediaPipe is not installed: pip install "animate-anyone[pose]"')
av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def estimator() -> PoseEstimator:
    return load_estimator("mediapipe")


def frames(path: Path, stop: int, step: int = 1) -> Iterator[NDArray[np.uint8]]:
    with av.open(str(path)) as clip:
        for frame in itertools.islice(clip.decode(video=0), 0, stop, step):
            yield frame.to_ndarray(format="rgb24")


def picture(path: Path) -> NDArray[np.uint8]:
    return np.array(Image.open(path).convert("RGB"))


@pytest.fixture(scope="module")
def dance(estimator: PoseEstimator, shared_dir: Path) -> PoseSequence:
    return estimator.estimate(frames(shared_dir / "clips/dance.mp4", 48), (1080, 1920), Fraction(24))


@pytest.mark.shared
def test_the_dancer_is_found(dance: PoseSequence) -> None:
    quality = report(dance)
    assert quality.found >= 46, f"found in {quality.found} of 48 frames, 46 wanted"
    assert quality.seen_in["right hand"] > 0.6 and quality.seen_in["face"] > 0.9
    body = dance.keypoints[:, BODY]
    assert (body[:, JOINT["nose"], 1] < body[:, JOINT["neck"], 1]).all()
    assert (body[:, JOINT["right_hip"], 0] < body[:, JOINT["left_hip"], 0]).all()
    np.testing.assert_allclose(np.median(body[:, JOINT["neck"]], axis=0), (545, 525), atol=50)
    assert dance.depth is not None and 0.01 < np.abs(dance.depth).max() < 1


# Joints read off the pictures by eye: (x, y), pixels.
BY_EYE = {
    "character_1.png": {
        "right_shoulder": (270, 390),
        "left_shoulder": (415, 390),
        "right_elbow": (120, 420),
        "left_elbow": (555, 400),
        "right_wrist": (215, 310),
        "left_wrist": (475, 290),
        "nose": (343, 290),
        "right_knee": (262, 880),
        "right_ankle": (218, 1090),
        "left_ankle": (490, 1085),
    },
    "character_2.png": {
        "right_shoulder": (215, 225),
        "left_shoulder": (365, 225),
        "right_wrist": (195, 372),
        "left_wrist": (385, 380),
        "nose": (293, 145),
        "right_knee": (250, 575),
        "left_knee": (330, 575),
        "right_ankle": (250, 715),
        "left_ankle": (328, 715),
    },
    "street_character.jpeg": {
        "right_shoulder": (400, 390),
        "left_shoulder": (610, 385),
        "right_wrist": (345, 650),
        "nose": (487, 235),
    },
}


@pytest.fixture(scope="module")
def characters(estimator: PoseEstimator, shared_dir: Path) -> dict[str, PoseSequence | None]:
    return {name: estimator.estimate_picture(picture(shared_dir / "clips" / name)) for name in BY_EYE}


@pytest.mark.shared
@pytest.mark.parametrize("name", list(BY_EYE))
def test_characters_are_found_and_fit(characters: dict[str, PoseSequence | None], name: str) -> None:
    pose = characters[name]
    assert pose is not None and len(pose) == 1
    points = pose.keypoints[0]
    torso = np.linalg.norm(points[JOINT["neck"]] - points[[JOINT["right_hip"], JOINT["left_hip"]]].mean(0))
    for joint, place in BY_EYE[name].items():
        off = float(np.linalg.norm(points[JOINT[joint]] - place) / torso)
        assert off < 0.25, f"{joint} is {off:.2f} torso lengths from where it is in the picture, 0.25 allowed"
        assert pose.scores[0, JOINT[joint]] >= 0.3


@pytest.mark.shared
@pytest.mark.parametrize("name", ["character_1.png", "character_2.png"])
def test_the_dance_fits_the_character(
    dance: PoseSequence, characters: dict[str, PoseSequence | None], name: str
) -> None:
    """Head at head, shoulders as wide, feet on the same ground."""
    reference = characters[name]
    assert reference is not None
    result = retarget(clean(dance), reference)
    own, got = reference.keypoints[0], result.keypoints
    torso = np.linalg.norm(own[JOINT["neck"]] - own[[JOINT["right_hip"], JOINT["left_hip"]]].mean(0))
    ankles, shoulders = ([JOINT[f"{side}_{j}"] for side in ("right", "left")] for j in ("ankle", "shoulder"))
    offsets = {
        "neck": np.median(got[:, JOINT["neck"]], axis=0) - own[JOINT["neck"]],
        "ground": np.median(got[:, ankles, 1].max(1)) - own[ankles, 1].max(),
        "highest nose": got[:, JOINT["nose"], 1].min() - own[JOINT["nose"], 1],
    }
    for what, offset in offsets.items():
        assert np.linalg.norm(offset) < 0.12 * torso, f"{what} off by {offset} pixels; the torso has {torso:.0f}"
    width = np.median(np.linalg.norm(got[:, shoulders[0]] - got[:, shoulders[1]], axis=1))
    assert width == pytest.approx(np.linalg.norm(own[shoulders[0]] - own[shoulders[1]]), rel=0.12)


@pytest.mark.shared
def test_half_a_body_is_held(estimator: PoseEstimator, shared_dir: Path) -> None:
    """A drawn scene in which following from frame to frame locks onto a body that stands on its head."""
    pose = estimator.estimate(frames(shared_dir / "clips/street_scene.mp4", 48, 2), (1280, 720), Fraction(12))
    upright = pose.keypoints[:, JOINT["nose"], 1] < pose.keypoints[:, JOINT["neck"], 1]
    assert report(pose).found >= 23 and upright.mean() > 0.9


def test_noise_is_nobody_and_nothing_is_printed(estimator: PoseEstimator, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    pose = estimator.estimate((rng.integers(0, 255, (96, 96, 3), np.uint8) for _ in range(3)), (96, 96), Fraction(24))
    assert (pose.scores == 0).all()
    assert capfd.readouterr().err == ""


def test_wrong_frames_are_told(estimator: PoseEstimator) -> None:
    with pytest.raises(InputError, match="no frames"):
        estimator.estimate([], (64, 64), Fraction(24))
    with pytest.raises(InputError, match="64x64"):
        estimator.estimate([np.zeros((32, 64, 3), np.uint8)], (64, 64), Fraction(24))
