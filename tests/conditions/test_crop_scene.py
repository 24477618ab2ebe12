"""The part of a scene around a person."""

from __future__ import annotations

import numpy as np
import pytest

from animate_anyone.conditions.crop_scene import MARGIN, Crop
from animate_anyone.structures import MaskTrack, PoseSequence, Scene


def masks(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (96, 64)) -> np.ndarray:
    """A frame for each ``(left, top, right, bottom)``."""
    made = np.zeros((len(boxes), size[1], size[0]), bool)
    for mask, (left, top, right, bottom) in zip(made, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return made


def test_holds_all_frames_with_a_margin_in_the_models_shape() -> None:
    crop = Crop.around(masks((30, 20, 40, 40), (34, 22, 46, 42)), (128, 128))
    assert (crop.width, crop.height) == (round(22 * MARGIN), round(22 * MARGIN))
    assert crop.left <= 30 and crop.left + crop.width >= 46
    assert crop.top <= 20 and crop.top + crop.height >= 42
    assert abs(crop.left + crop.width / 2 - 38) <= 0.5 and abs(crop.top + crop.height / 2 - 31) <= 0.5
    wide = Crop.around(masks((30, 20, 40, 40)), (128, 64))
    assert wide.width == 2 * wide.height == 2 * round(20 * MARGIN)


@pytest.mark.parametrize("box", [(0, 0, 20, 20), (80, 50, 96, 64), (0, 10, 90, 60), (0, 0, 96, 64)])
def test_stays_in_the_frame(box: tuple[int, int, int, int]) -> None:
    crop = Crop.around(masks(box), (64, 64))
    assert 0 <= crop.left <= box[0] and box[2] <= crop.left + crop.width <= 96
    assert 0 <= crop.top <= box[1] and box[3] <= crop.top + crop.height <= 64


def test_nothing_masked_is_the_whole_frame() -> None:
    assert Crop.around(np.zeros((2, 64, 96), bool), (64, 64)) == Crop(0, 0, 96, 64)


def test_the_scene_as_if_the_video_showed_the_part_alone() -> None:
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (2, 64, 96, 3), np.uint8)
    points = random.uniform(20, 60, (2, 128, 2)).astype(np.float32)
    depth = random.normal(size=(2, 128)).astype(np.float32)
    pose = PoseSequence(points, np.ones((2, 128), np.float32), (96, 64), depth=depth)
    person = MaskTrack(masks((30, 20, 40, 40), (34, 22, 46, 42)))
    ball = MaskTrack(masks((0, 0, 9, 9), (40, 20, 50, 30)))
    crop = Crop(24, 16, 40, 32)
    part = crop.of(Scene(frames, pose, person, (ball,)))
    assert np.array_equal(part.frames, frames[:, 16:48, 24:64])
    assert part.pose.size == (40, 32)
    np.testing.assert_allclose(part.pose.keypoints, points - [24, 16], atol=1e-5)
    np.testing.assert_allclose(part.pose.depth * 32, depth * 64, rtol=1e-5)  # as many pixels
    assert np.array_equal(part.person.masks, person.masks[:, 16:48, 24:64])
    assert np.array_equal(part.objects[0].masks, ball.masks[:, 16:48, 24:64])
    whole = frames.copy()
    whole[(slice(None), *crop.part)] = part.frames
    assert np.array_equal(whole, frames)


@pytest.mark.parametrize(
    ("size", "shape", "part"),
    [
        ((576, 1024), (96, 176), Crop(8, 0, 559, 1024)),
        ((576, 1024), (64, 64), Crop(0, 224, 576, 576)),
        ((720, 480), (128, 128), Crop(120, 0, 480, 480)),
    ],
)
def test_the_largest_part_of_a_shape(size: tuple[int, int], shape: tuple[int, int], part: Crop) -> None:
    assert Crop.filling(size, shape) == part
