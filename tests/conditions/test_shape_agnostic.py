"""Masks without outlines: they cover the mask, for any number of blocks, and one draw holds for a clip."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from animate_anyone.conditions.shape_agnostic import (
    BlockShares,
    block_maxima,
    bounding_box,
    draw_shares,
    inference_blocks,
    shape_agnostic,
)
from animate_anyone.errors import InputError


def blob(height: int = 23, width: int = 17) -> NDArray[np.bool_]:
    """A disc with an arm, in a box of ``height`` by ``width`` inside a picture of 40 by 50."""
    y, x = np.mgrid[:height, :width]
    inside = (y - height / 2 + 0.5) ** 2 / (height / 2) ** 2 + (x - width / 2 + 0.5) ** 2 / (width / 2) ** 2 < 0.5
    inside[height // 2] = True
    inside[:, width // 2] = True
    mask = np.zeros((40, 50), bool)
    mask[5 : 5 + height, 11 : 11 + width] = inside
    return mask


def in_box(mask: NDArray[np.bool_], rows: int, columns: int) -> NDArray[np.bool_]:
    """The blocks of a mask's box in the whole picture."""
    result, box = np.zeros_like(mask), bounding_box(mask)
    result[box] = block_maxima(mask[box], rows, columns)
    return result


def test_it_covers_the_mask_and_stays_in_the_box_for_every_number_of_blocks() -> None:
    mask = blob()
    box = np.zeros_like(mask)
    box[bounding_box(mask)] = True
    for rows in range(1, 24):
        for columns in range(1, 18):
            result = in_box(mask, rows, columns)
            assert not (mask & ~result).any() and not (result & ~box).any(), f"{rows}x{columns}"
    np.testing.assert_array_equal(in_box(mask, 1, 1), box)
    np.testing.assert_array_equal(in_box(mask, 23, 17), mask)
    np.testing.assert_array_equal(in_box(mask, 99, 99), mask)  # no more blocks than pixels


def test_each_block_is_all_or_nothing_and_masked_only_where_the_mask_is() -> None:
    mask = np.zeros((8, 8), bool)
    mask[0, 0] = mask[7, 7] = True
    expected = np.zeros((8, 8), bool)
    expected[:2, :4] = expected[6:, 4:] = True
    np.testing.assert_array_equal(in_box(mask, 4, 2), expected)


def test_sides_that_do_not_divide_get_blocks_that_differ_by_one_pixel() -> None:
    mask = np.eye(10, dtype=bool)
    result = in_box(mask, 3, 10)
    heights = result.sum(axis=0)
    assert set(heights.tolist()) == {3, 4} and heights.sum() == 3 * 3 + 3 * 3 + 4 * 4


def test_inference_takes_a_tenth_of_the_sides() -> None:
    assert inference_blocks(100, 57) == (10, 5)
    assert inference_blocks(9, 3) == (1, 1)
    mask = blob()[None]
    np.testing.assert_array_equal(shape_agnostic(mask)[0], in_box(mask[0], 2, 1))


def test_training_draws_any_number_evenly() -> None:
    generator = np.random.default_rng(0)
    drawn = np.array([draw_shares(generator).blocks(5, 3) for _ in range(3000)])
    for column, side in ((0, 5), (1, 3)):
        counts = np.bincount(drawn[:, column], minlength=side + 1)
        assert counts[0] == 0 and len(counts) == side + 1
        assert np.abs(counts[1:] / 3000 - 1 / side).max() < 0.04, counts
    assert draw_shares(np.random.default_rng(7)) == draw_shares(np.random.default_rng(7))


def test_one_draw_holds_for_the_clip() -> None:
    """The same box gets the same blocks in every frame; a larger one more of the same size."""
    masks = np.stack([blob(), blob(), blob(33, 33)])
    shares = BlockShares(0.3, 0.6)
    result = shape_agnostic(masks, shares)
    np.testing.assert_array_equal(result[0], result[1])
    np.testing.assert_array_equal(result[2], in_box(masks[2], 1 + int(0.3 * 33), 1 + int(0.6 * 33)))


def test_an_empty_mask_stays_empty() -> None:
    masks = np.stack([np.zeros((40, 50), bool), blob()])
    assert not shape_agnostic(masks)[0].any() and shape_agnostic(masks, BlockShares(0.5, 0.5))[1].any()
    assert bounding_box(masks[0]) is None
    assert shape_agnostic(np.zeros((0, 4, 4), bool)).shape == (0, 4, 4)


def test_mistakes_are_told_in_one_line() -> None:
    with pytest.raises(InputError, match=r"masks are uint8 .*; give bool \(frames, height, width\)"):
        shape_agnostic(np.zeros((2, 4, 4), np.uint8))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"rows is 1\.0; give a number from 0 up to below 1"):
        BlockShares(1.0, 0.2)
