"""The environment: what is taken out, what is kept to the bit, and the latent grid."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from animate_anyone.conditions.environment import (
    EMPTY,
    FORMULATIONS,
    empty,
    feather,
    formulate,
    keep_background,
    latent_mask,
)
from animate_anyone.conditions.shape_agnostic import BlockShares, shape_agnostic
from animate_anyone.errors import InputError


def clip(frames: int = 2, height: int = 32, width: int = 24) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Noise, and a triangle as its mask; the last frame is empty."""
    pictures = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), np.uint8)
    y, x = np.mgrid[:height, :width]
    masks = np.repeat(((x > 4) & (y < 28) & (x < y))[None], frames, axis=0)
    masks[-1] = False
    return pictures, masks


def test_the_formulations_nest() -> None:
    _, masks = clip()
    exact, blocks, box = (formulate(masks, name, BlockShares(0.2, 0.2)) for name in ("exact", "shape_agnostic", "box"))
    np.testing.assert_array_equal(exact, masks)
    assert (exact <= blocks).all() and (blocks <= box).all()
    assert exact.sum() < blocks.sum() < box.sum()
    assert box[0].sum() == 22 * 19 and not box[1].any()
    shares = BlockShares(0.4, 0.4)
    np.testing.assert_array_equal(formulate(masks, shares=shares), shape_agnostic(masks, shares))
    assert FORMULATIONS[0] == "shape_agnostic"


def test_the_region_is_emptied_and_nothing_else() -> None:
    frames, masks = clip()
    before = frames.copy()
    result = empty(frames, masks)
    assert (result[masks] == EMPTY).all() and result.dtype == np.uint8
    np.testing.assert_array_equal(result[~masks], frames[~masks])
    np.testing.assert_array_equal(frames, before)


def test_a_latent_cell_is_masked_where_any_of_its_pixels_is() -> None:
    masks = np.zeros((1, 32, 24), bool)
    masks[0, 9, 23] = True
    expected = np.zeros((1, 4, 3), bool)
    expected[0, 1, 2] = True
    np.testing.assert_array_equal(latent_mask(masks), expected)
    with pytest.raises(InputError, match=r"masks of 24x30 .* multiples of 8"):
        latent_mask(np.zeros((1, 30, 24), bool))


def test_the_feather_lies_outside_and_falls_with_the_distance() -> None:
    mask = np.zeros((1, 21, 31), bool)
    mask[0, 10, 10] = True
    opacity = feather(mask, 4)[0]
    y, x = np.mgrid[:21, :31]
    np.testing.assert_allclose(opacity, np.clip(1 - np.hypot(y - 10, x - 10) / 5, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(feather(mask, 0), mask.astype(np.float32))
    assert not feather(np.zeros((1, 8, 8), bool), 3).any()
    with pytest.raises(InputError, match="give 0 or more"):
        feather(mask, -1)


def test_the_background_is_the_sources_own_to_the_bit() -> None:
    source, masks = clip()
    result = 255 - source
    for pixels in (0, 3):
        kept = keep_background(result, source, masks, pixels)
        outside = feather(masks, pixels) == 0
        assert outside.any()
        np.testing.assert_array_equal(kept[outside], source[outside])
        np.testing.assert_array_equal(kept[masks], result[masks])
    ramp = (feather(masks, 3) > 0) & ~masks
    low, high = np.minimum(source, result), np.maximum(source, result)
    soft = keep_background(result, source, masks, 3)
    assert ((soft >= low) & (soft <= high))[ramp].all()
    assert (soft[ramp] != source[ramp]).any() and (soft[ramp] != result[ramp]).any()


def test_mistakes_are_told_in_one_line() -> None:
    frames, masks = clip()
    with pytest.raises(InputError, match="no environment formulation 'hull'; there are: shape_agnostic, box, exact"):
        formulate(masks, "hull")
    with pytest.raises(InputError, match="frames are uint8"):
        empty(frames[:, :8], masks)
    with pytest.raises(InputError, match="masks are int64"):
        keep_background(frames, frames, masks.astype(int))  # type: ignore[arg-type]
