"""A picture in a frame, and the same in a frame of another size."""

import numpy as np
import pytest

from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.structures import NUM_KEYPOINTS, PoseSequence


def pose(size: tuple[int, int]) -> PoseSequence:
    corners = np.zeros((1, NUM_KEYPOINTS, 2), np.float32)
    corners[0, 1] = size
    return PoseSequence(corners, np.ones((1, NUM_KEYPOINTS), np.float32), size)


@pytest.mark.parametrize("letterbox", [Letterbox.into((300, 100), (256, 256)), Letterbox.stretched((256, 192))])
def test_scaled_to_another_frame_the_picture_lies_in_the_same_place(letterbox: Letterbox) -> None:
    small = letterbox.scaled_to((96, 80))
    places, scaled = (box.move(pose((300, 100))).keypoints[0, :2] / box.size for box in (letterbox, small))
    np.testing.assert_allclose(scaled, places, atol=1 / 80)
    assert small.apply(np.zeros((100, 300, 3), np.uint8)).shape == (80, 96, 3)


def test_one_pixel_stays() -> None:
    thin = Letterbox.into((1000, 2), (512, 512)).scaled_to((32, 32))
    assert thin.inner[1] >= 1 and thin.apply(np.zeros((2, 1000, 3), np.uint8)).shape == (32, 32, 3)
