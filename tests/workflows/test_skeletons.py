"""Skeleton pictures: drawn, or those of a finished skeleton video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.structures import PoseSequence
from animate_anyone.workflows.driving import open_driver
from animate_anyone.workflows.skeletons import DrawnPoses, SkeletonPictures
from people import person
from small_videos import Openings


def test_skeleton_video_passes_through(dancers: Path) -> None:
    driver = open_driver(dancers / "skeleton.mp4", slice(1, 9, 2))
    assert driver.is_skeleton
    pictures = SkeletonPictures(driver, (64, 96), 2.0)
    assert len(pictures) == 4
    poses = PoseSequence.load(dancers / "dance.npz")
    drawn = [Image.fromarray(p).resize((128, 128)) for p in draw_pose(poses, (256, 256), style="dwpose")]
    shown = list(pictures)
    for number, picture in enumerate(shown):
        assert picture.shape == (192, 128, 3)
        assert not picture[:32].any()
        assert not picture[160:].any()
        off = [float(np.abs(picture[32:160].astype(float) - p).mean()) for p in drawn]
        assert int(np.argmin(off)) == 1 + 2 * number
        assert min(off) < 2
        assert np.array_equal(pictures[number], picture)
    assert np.array_equal(pictures[-1], shown[-1])
    assert all(np.array_equal(a, b) for a, b in zip(pictures[1:3], shown[1:3], strict=True))


def test_poses_are_drawn_when_asked_for() -> None:
    poses = person(5)
    poses.keypoints[:] += np.arange(5, dtype=np.float32)[:, None, None]
    drawn = DrawnPoses(poses, (100, 150), "scaled")
    want = draw_pose(poses, (100, 150), style="scaled")
    assert len(drawn) == 5
    assert np.array_equal(np.stack(list(drawn)), want)
    for number in (0, 3, -1, -5):
        assert np.array_equal(drawn[number], want[number])
    assert np.array_equal(np.stack(list(drawn[1:4:2])), want[1:4:2])
    for number in (5, -6):
        with pytest.raises(IndexError):
            drawn[number]


def test_a_skeleton_video_is_opened_once_for_all_its_frames(dancers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = SkeletonPictures(open_driver(dancers / "skeleton.mp4"), (64, 64), 1.0)
    openings = Openings(monkeypatch)
    whole = list(pictures)
    assert openings.count == 1
    part = pictures[2:9:3]
    assert openings.count == 2
    assert all(np.array_equal(a, b) for a, b in zip(part, whole[2:9:3], strict=True))
