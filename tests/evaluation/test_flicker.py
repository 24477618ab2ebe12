"""Flicker: none for what is wrong but stands still, and a jump where windows meet."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import faults
from animate_anyone.evaluation.flicker import change_error, flicker, seam_flicker, seams
from animate_anyone.sampling.windows import windows, wrapping_windows


def moving(frames: int = 60) -> tuple[faults.Frames, NDArray[np.bool_]]:
    """A bar that walks over a ramp of greys, now fast, now slow; and where it is."""
    place = np.cumsum(np.random.default_rng(1).integers(0, 4, frames)) % 40
    mask = np.zeros((frames, 16, 64), bool)
    for t, x in enumerate(place):
        mask[t, 4:12, x : x + 8] = True
    ground = np.linspace(40, 160, 64).astype(np.uint8)[None, None, :, None]
    return np.where(mask[..., None], np.uint8(200), ground).repeat(3, -1), mask


def test_truth_does_not_flicker() -> None:
    frames, masks, _ = faults.parts(faults.DANCER)
    assert flicker(frames, frames, masks) == {"flicker": 0.0, "flicker_person": 0.0, "flicker_still": 0.0}


def test_a_wrong_picture_that_stands_still_does_not_flicker() -> None:
    frames, masks, labels = faults.parts(faults.DANCER)
    still = np.repeat(frames[:1], 6, 0)
    masks = np.repeat(masks[:1], 6, 0)
    assert flicker(faults.blurred(still, 3.0), still, masks)["flicker_person"] == 0.0
    shifted = faults.recoloured(still, np.repeat(labels[:1], 6, 0), [5])
    assert flicker(shifted, still, masks)["flicker"] == 0.0


def test_brightness_from_frame_to_frame() -> None:
    frames, masks, _ = faults.parts(faults.DANCER)
    dim = 40 + frames // 2  # so that nothing is cut off
    result = faults.lit(dim, np.array([0.0, 10, 0, 10, 0, 10]))
    figures = flicker(result, dim, masks)
    assert figures == pytest.approx({"flicker": 10, "flicker_person": 10, "flicker_still": 10})
    weaker = flicker(faults.lit(dim, np.array([0.0, 3, 0, 3, 0, 3])), dim, masks)
    assert weaker["flicker"] == pytest.approx(3)


def test_noise_flickers() -> None:
    frames, masks, _ = faults.parts(faults.DANCER)
    dim = 40 + frames // 2
    rng = np.random.default_rng(0)
    figures = [flicker(faults.to_bytes(dim + rng.normal(0, s, dim.shape)), dim, masks) for s in (2, 4, 8)]
    for name in ("flicker", "flicker_person", "flicker_still"):
        values = [f[name] for f in figures]
        # The difference of two normal numbers, its mean absolute value: 2 sigma / sqrt(pi).
        assert values == pytest.approx([2 * s / np.sqrt(np.pi) for s in (2, 4, 8)], rel=0.06)


def test_where_it_is_looked_for() -> None:
    truth = np.full((3, 4, 6, 3), 100, np.uint8)
    truth[1:, :, 3:] = 120  # the right half changes once
    mask = np.zeros((3, 4, 6), bool)
    mask[1, :, 0] = True
    result = truth.copy()
    result[1, :, 0] += 30  # comes and goes: both changes are wrong
    figures = flicker(result, truth, mask)
    assert figures["flicker"] == pytest.approx(30 / 6)
    assert figures["flicker_person"] == pytest.approx(30)
    assert figures["flicker_still"] == pytest.approx((4 + 4) * 30 / (12 + 24))
    assert flicker(result, truth, np.zeros_like(mask))["flicker_person"] is None


def test_a_copy_misses_all_movement() -> None:
    truth, mask = moving()
    copied = np.repeat(truth[:1], 60, 0)
    figures = flicker(copied, truth, mask)
    assert figures["flicker_still"] == 0.0
    assert figures["flicker_person"] is not None and figures["flicker_person"] > 5


def test_seams_of_windows() -> None:
    found = seams(windows(60, 24, 4), 60)
    assert np.flatnonzero(found).tolist() == [*range(19, 24), *range(35, 44)]
    assert not seams(windows(20, 24, 4), 20).any()  # one window
    assert np.flatnonzero(seams(windows(48, 24, 0), 48)).tolist() == [23]  # hard edges
    assert seams(wrapping_windows(60, 24, 4), 60).any()


def test_a_jump_where_windows_meet() -> None:
    truth, mask = moving()
    schedule = windows(60, 24, 4)
    base = faults.to_bytes(truth + np.random.default_rng(0).normal(0, 1, truth.shape))
    plain = seam_flicker(base, truth, mask, schedule)["seam_ratio"]
    assert plain == pytest.approx(1, abs=0.1)
    step = np.where(np.arange(60) > 21, 20.0, 0.0) + np.where(np.arange(60) > 40, 20.0, 0.0)
    jumps = seam_flicker(faults.lit(base, step), truth, mask, schedule)
    assert jumps["seam_ratio"] is not None and jumps["seam_ratio"] > 2
    assert jumps["at_seams"] > jumps["elsewhere"]  # type: ignore[operator]
    away = seam_flicker(faults.lit(base, np.roll(step, 8)), truth, mask, schedule)["seam_ratio"]
    assert away is not None and away < 1


def test_movement_that_falls_on_a_seam_is_no_seam() -> None:
    truth, mask = moving()
    copied = np.repeat(truth[:1], 60, 0)
    for schedule in (windows(60, 24, 4), windows(60, 20, 2), windows(60, 16, 8)):
        assert seam_flicker(copied, truth, mask, schedule)["seam_ratio"] == pytest.approx(1)


def test_without_seams_or_without_flicker() -> None:
    truth, mask = moving()
    nothing = {"at_seams": None, "elsewhere": None, "seam_ratio": None}
    assert seam_flicker(truth, truth, mask, windows(60, 60, 4)) == nothing
    assert seam_flicker(truth, truth, np.zeros_like(mask), windows(60, 24, 4)) == nothing
    perfect = seam_flicker(truth, truth, mask, windows(60, 24, 4))
    assert perfect == {"at_seams": 0.0, "elsewhere": 0.0, "seam_ratio": None}


def test_other_clips_are_refused() -> None:
    truth, _ = moving(5)
    with pytest.raises(ValueError, match="one shape"):
        change_error(truth[:4], truth)
    with pytest.raises(ValueError, match="2 frames"):
        change_error(truth[:1], truth[:1])
