"""Random scale augmentation: the character grows or shrinks about its feet, with its objects and its pose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from animate_anyone.conditions.environment import EMPTY, formulate
from animate_anyone.conditions.rescale_character import draw_scale, rescale_character
from animate_anyone.errors import InputError
from people import person

HEIGHT, WIDTH, FRAMES = 96, 80, 3
RED, GREEN = np.array([200, 20, 20]), np.array([20, 200, 20])
background = np.random.default_rng(0).integers(60, 90, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)
body, ball = np.zeros((FRAMES, HEIGHT, WIDTH), bool), np.zeros((FRAMES, HEIGHT, WIDTH), bool)
body[:, 30:80, 30:50] = True
ball[:, 40:48, 50:58] = True
frames = background.copy()
frames[body], frames[ball] = RED, GREEN
pose = person(FRAMES, (WIDTH, HEIGHT), torso=16, neck=(40, 40))
pose = replace(pose, depth=np.full(pose.scores.shape, 0.1, np.float32))


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.5])
def test_all_of_it_scales_about_the_feet(scale: float) -> None:
    result = rescale_character(frames, body, ball[None], pose, scale, background=background)
    for mask, rows, columns in ((result.person, (30, 80), (30, 50)), (result.objects[0], (40, 48), (50, 58))):
        top, bottom = (80 + (y - 80) * scale for y in rows)
        left, right = (40 + (x - 40) * scale for x in columns)
        found = np.argwhere(mask[0])
        np.testing.assert_allclose([*found.min(0), *(found.max(0) + 1)], [top, left, bottom, right], atol=0.51)
    np.testing.assert_allclose(
        result.pose.keypoints, np.array([40, 80]) + (pose.keypoints - [40, 80]) * scale, atol=1e-3
    )
    np.testing.assert_allclose(result.pose.depth, 0.1 * scale, rtol=1e-6)


@pytest.mark.parametrize("scale", [0.6, 1.3])
def test_pixels_are_the_characters_where_it_is_now_and_the_backgrounds_elsewhere(scale: float) -> None:
    result = rescale_character(frames, body, ball[None], pose, scale, background=background)
    drawn = result.person | result.objects[0]
    far = ~np.any([np.roll(drawn, (y, x), (1, 2)) for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=0)
    np.testing.assert_array_equal(result.frames[far], background[far])
    near_red = np.abs(result.frames.astype(int) - RED).max(-1) < 40
    assert near_red[result.person].mean() > 0.95 and not near_red[far].any()
    assert not result.unknown.any()


def test_without_a_background_the_uncovered_is_unknown_and_under_the_old_mask() -> None:
    smaller = rescale_character(frames, body, ball[None], None, 0.5)
    assert smaller.pose is None and smaller.unknown.any()
    assert not (smaller.unknown & ~(body | ball)).any()
    hidden = formulate(body | ball)
    assert not (smaller.unknown & ~hidden).any()
    clear = smaller.unknown & ~smaller.person & ~smaller.objects[0]
    assert (smaller.frames[clear] == EMPTY).mean() > 0.9
    larger = rescale_character(frames, body, ball[None], None, 1.4)
    assert (larger.person & ~hidden).any(), "the mask can be smaller than the character"


def test_one_scale_and_one_fixed_point_for_a_clip() -> None:
    """A person who walks keeps walking, in steps that are scaled along."""
    walking = np.stack([np.roll(body[0], 6 * frame, axis=1) for frame in range(FRAMES)])
    result = rescale_character(frames, walking, ball[:0].reshape(0, *body.shape), None, 0.5, background=background)
    middles = [np.argwhere(mask)[:, 1].mean() for mask in result.person]
    np.testing.assert_allclose(np.diff(middles), 3, atol=0.6)


def test_scale_one_empty_masks_and_no_objects_change_nothing() -> None:
    none = np.zeros((0, *body.shape), bool)
    for mask, scale in ((body, 1.0), (np.zeros_like(body), 1.4)):
        result = rescale_character(frames, mask, none, pose, scale)
        np.testing.assert_array_equal(result.frames, frames)
        np.testing.assert_array_equal(result.person, mask)
        assert result.objects.shape == none.shape and result.pose is pose
    partly = body.copy()
    partly[1] = False
    result = rescale_character(frames, partly, none, pose, 0.7, background=frames)
    assert not result.person[1].any() and result.person[0].any()
    np.testing.assert_array_equal(result.frames[1], frames[1])


def test_scales_are_drawn_evenly_in_their_logarithm() -> None:
    generator = np.random.default_rng(0)
    scales = np.array([draw_scale(generator, 0.5, 2) for _ in range(2000)])
    assert scales.min() >= 0.5 and scales.max() <= 2 and abs((scales < 1).mean() - 0.5) < 0.04
    with pytest.raises(InputError, match="0 < smallest <= largest"):
        draw_scale(generator, 2, 1)


def test_mistakes_are_told_in_one_line() -> None:
    objects = ball[None]
    with pytest.raises(InputError, match="frames has shape"):
        rescale_character(frames[:2], body, objects, pose, 1.2)
    with pytest.raises(InputError, match="objects has shape"):
        rescale_character(frames, body, ball, pose, 1.2)
    with pytest.raises(InputError, match="background has shape"):
        rescale_character(frames, body, objects, pose, 1.2, background=background[:1])
    with pytest.raises(InputError, match="the pose has 3 frames of 40x48; it must have 3 of 80x96"):
        rescale_character(frames, body, objects, pose.scaled_to((40, 48)), 1.2)
    with pytest.raises(InputError, match="scale of 0"):
        rescale_character(frames, body, objects, pose, 0)
