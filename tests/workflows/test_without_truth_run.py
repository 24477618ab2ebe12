"""``evaluate --generated --reference``: people are found in results and their references, and all is measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import replaced
from animate_anyone.errors import InputError
from animate_anyone.evaluation.without_truth import MEASURES
from animate_anyone.media import VideoWriter, read_frames, write_picture
from animate_anyone.structures import PoseSequence
from animate_anyone.workflows.without_truth import evaluate_without_truth, in_result

SIZE = (256, 256)


@pytest.fixture
def here(dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two results, one of them of other colours, with what they were made from; eyes that know the truth."""
    replaced.look_with(monkeypatch, dancers)
    frames = [frame for _, frame in read_frames(dancers / "dance.mp4")]
    for folder in ("results", "references", "drivers"):
        (tmp_path / folder).mkdir()
    for name, turn in (("good", 0), ("other", 1)):
        with VideoWriter(tmp_path / "results" / f"{name}.mp4", SIZE, 12) as video:
            for frame in frames:
                video.write(np.roll(frame, turn, -1))
        write_picture(tmp_path / "references" / f"{name}.png", frames[2])
        shutil.copy(dancers / "dance.npz", tmp_path / "drivers" / f"{name}.npz")
    return tmp_path


def test_a_folder_of_results(here: Path) -> None:
    made_from = (here / "results", here / "references", here / "drivers")
    report = evaluate_without_truth(*made_from, align=False, segments=3)
    good, other = report["videos"]
    assert (good["name"], other["name"], good["frames"]) == ("good", "other", 12)
    assert good["face"] > other["face"] and good["clothes"] > other["clothes"]
    # Found and asked for are the same poses but for the mending of joints.
    assert good["pose_error"] < 0.05 and good["pose_found"] > 0.95
    assert len(good["segments"]) == 3
    assert report["metrics"]["face"] == pytest.approx((good["face"] + other["face"]) / 2, abs=1e-6)
    assert set(report["metrics"]) == set(MEASURES) and report["failed"] == {}
    again = evaluate_without_truth(*made_from, align=False, segments=3)
    assert json.dumps(again) == json.dumps(report)
    (here / "split.txt").write_text("other\n")
    (one,) = evaluate_without_truth(here / "results", here / "references" / "good.png", split=here / "split.txt")[
        "videos"
    ]
    assert (one["name"], one["pose_error"], one["face"]) == ("other", None, other["face"])


def test_what_fails_stops_no_other(here: Path) -> None:
    poses = PoseSequence.load(here / "drivers" / "other.npz")
    poses[:5].save(here / "drivers" / "other.npz")
    report = evaluate_without_truth(here / "results", here / "references", here / "drivers", align=False)
    assert [video["name"] for video in report["videos"]] == ["good"]
    assert report["failed"] == {"other": "has 12 frames, and what drove it, other.npz, 5"}
    poses[:5].save(here / "drivers" / "good.npz")
    with pytest.raises(InputError, match="none of 2 videos could be measured; the first, good: has 12 frames"):
        evaluate_without_truth(here / "results", here / "references", here / "drivers", align=False)


def test_partners_that_are_not_there(here: Path) -> None:
    (here / "references" / "other.png").unlink()
    (here / "split.txt").write_text("gone\n")
    for arguments, message in (
        ((here / "results", here / "references"), "holds no picture of other; add them"),
        ((here / "results", here / "nowhere"), "--reference .*nowhere: is not there; give a picture"),
        ((here / "results", here / "references" / "good.png", here / "results" / "gone"), "--driving .*: is not there"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate_without_truth(*arguments)
    with pytest.raises(InputError, match="the generated videos lack gone"):
        evaluate_without_truth(here / "results", here / "references" / "good.png", split=here / "split.txt")


def test_a_result_of_another_shape_has_the_picture_in_its_middle(here: Path) -> None:
    poses = PoseSequence.load(here / "drivers" / "good.npz")
    assert np.allclose(in_result(poses, (128, 128)).keypoints, poses.keypoints / 2)
    wide = in_result(poses, (512, 256))
    assert wide.size == (512, 256)
    assert np.allclose(wide.keypoints, poses.keypoints + np.array([128, 0]))
