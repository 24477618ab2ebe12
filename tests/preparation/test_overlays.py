"""Writing over a picture is told from edges that may stand still."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from animate_anyone.conditions.crop_scene import Crop
from animate_anyone.perception.person.body_hull import body_hulls
from animate_anyone.preparation.overlays import static_share
from people import person

SIZE = (200, 300)


def _share(pan: int, written: bool, railing: bool = False) -> float:
    """The share of a clip whose camera goes ``pan`` pixels a frame, along a ``railing`` or not."""
    noise = np.random.default_rng(0).integers(0, 255, (30, 60, 3), np.uint8)
    wide = noise.repeat(10, axis=0).repeat(10, axis=1)
    for row in range(150, 174, 12) if railing else ():
        wide[row : row + 6], wide[row + 6 : row + 12] = 255, 0

    def read(numbers: list[int]) -> Iterator[NDArray[np.uint8]]:
        for number in numbers:
            picture = wide[:, pan * number : pan * number + SIZE[0]].copy()
            if written:
                for column in range(20, 180, 12):
                    picture[240:270, column : column + 6] = 255
            yield picture

    return static_share(read, person(24, SIZE, torso=60, neck=(100, 60)), Crop.whole(SIZE))


def test_writing_stands_still_where_the_camera_moves() -> None:
    assert _share(pan=9, written=True) > 0.01
    assert _share(pan=9, written=False) < 0.003


def test_lines_along_which_the_camera_moves_are_no_writing() -> None:
    assert _share(pan=9, written=False, railing=True) < 0.003
    assert _share(pan=9, written=True, railing=True) > 0.01


def _share_before_stripes(thinner: int, written: bool) -> float:
    """The share of a clip of somebody who steps to and fro before stripes, ``thinner`` by so many pixels than taken."""
    poses = person(48, SIZE, torso=60, neck=(100, 60))
    poses.keypoints[:, :, 0] += 45 * np.sin(np.arange(48) * 2 * np.pi / 31)[:, None]
    stripes = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    stripes[:, np.arange(SIZE[0]) % 10 < 5] = 200

    def read(numbers: list[int]) -> Iterator[NDArray[np.uint8]]:
        for number in numbers:
            picture = stripes.copy()
            body = body_hulls(poses.keypoints[number], poses.scores[number], SIZE)[0]
            picture[binary_erosion(body, iterations=thinner) if thinner else body] = 110
            if written:
                for column in range(20, 180, 12):
                    picture[110:170, column : column + 6] = 255
            yield picture

    return static_share(read, poses, Crop.whole(SIZE))


@pytest.mark.parametrize("thinner", [0, 2])
def test_a_background_that_stands_still_behind_the_person_is_no_writing(thinner: int) -> None:
    assert _share_before_stripes(thinner, written=False) < 0.003
    assert _share_before_stripes(thinner, written=True) > 0.01


def test_a_camera_that_stands_still_says_nothing_about_the_background() -> None:
    assert _share(pan=0, written=True) == 0.0
