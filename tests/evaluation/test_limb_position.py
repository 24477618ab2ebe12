"""Position of limbs: moved by so many pixels, out of focus, missing, and such as cannot be told."""

from __future__ import annotations

import numpy as np
import pytest

import faults
from animate_anyone.evaluation.limb_position import limb_error
from animate_anyone.synthetic.figure.bricks import Label

ARM = (Label.LEFT_LOWER_ARM, Label.LEFT_HAND)
SEEDS = [faults.DANCER, faults.LONG_SLEEVES, faults.IDLE]


def arm(colour: int = 220, background: int = 60) -> tuple[faults.Frames, faults.Labels]:
    """One frame: a bar of 6 by 24 pixels amid a plain background."""
    labels = np.zeros((1, 128, 128), np.uint8)
    labels[0, 50:74, 60:66] = Label.LEFT_LOWER_ARM
    return np.where(labels[..., None] > 0, colour, background).astype(np.uint8).repeat(3, -1), labels


@pytest.mark.parametrize("seed", SEEDS)
def test_truth_is_in_its_place(seed: int) -> None:
    frames, _, labels = faults.parts(seed)
    error = limb_error(frames, frames, labels, every=1)
    assert (error["limb_px"], error["limb_found"]) == (0.0, 1.0)
    assert error["limbs"] >= 6


@pytest.mark.parametrize("right", [-8, -6, -3, 0, 1, 2, 4, 6, 8])
def test_distance_is_the_one_it_was_moved_by(right: int) -> None:
    truth, labels = arm()
    error = limb_error(faults.moved(truth, labels, [Label.LEFT_LOWER_ARM], right), truth, labels)
    assert (error["limb_px"], error["limb_found"], error["limbs"]) == (abs(right), 1.0, 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_moved(seed: int) -> None:
    frames, _, labels = faults.parts(seed)
    for pixels, axis in ((3, 1), (6, 2)):
        error = limb_error(np.roll(frames, pixels, axis), frames, labels)
        assert error["limb_px"] == pytest.approx(pixels, abs=0.25)


def test_an_arm_of_a_puppet_moved() -> None:
    """The further the forearm is moved, the more; the other limbs stay where they are."""
    frames, _, labels = faults.parts(faults.IDLE)
    only_arm = np.where(np.isin(labels, ARM), labels, 0)
    assert limb_error(frames, frames, only_arm, every=1)["limbs"] >= 4
    for right in (2, 4, 6):
        result = faults.moved(frames, labels, ARM, right)
        assert limb_error(result, frames, only_arm, every=1)["limb_px"] == pytest.approx(right, abs=0.5)
        among_all = limb_error(result, frames, labels, every=1)["limb_px"]
        assert among_all is not None and 0.1 * right < among_all < 0.6 * right


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_out_of_focus_is_not_out_of_place(seed: int, sigma: float) -> None:
    frames, _, labels = faults.parts(seed)
    error = limb_error(faults.blurred(frames, sigma), frames, labels, every=1)
    assert error["limb_px"] is not None and error["limb_px"] < 0.3 * sigma
    assert error["limb_found"] == 1.0


def test_noise_and_darkness_move_nothing() -> None:
    frames, _, labels = faults.parts(faults.IDLE)
    noise = np.random.default_rng(0).normal(0, 10, frames.shape)
    for result in (faults.to_bytes(frames + noise), faults.to_bytes(0.7 * frames)):
        pixels = limb_error(result, frames, labels, every=1)["limb_px"]
        assert pixels is not None and pixels < 0.2


def test_a_missing_limb_is_not_found() -> None:
    truth, labels = arm()
    error = limb_error(np.full_like(truth, 60), truth, labels)
    assert (error["limb_px"], error["limb_found"], error["limbs"]) == (8.0, 0.0, 1)  # counts as the reach


def test_limbs_that_cannot_be_told_are_left_out() -> None:
    truth, labels = arm(66)  # all but the background's colour
    assert limb_error(truth, truth, labels)["limbs"] == 0
    truth, labels = arm()
    truth[0, 50:74, 67:73] = 220  # the like of it beside it
    assert limb_error(truth, truth, labels) == limb_error(truth, truth, np.zeros_like(labels))
    assert limb_error(truth, truth, labels)["limb_px"] is None
    truth, labels = arm()
    labels[0, 53:] = 0  # 18 pixels
    assert limb_error(truth, truth, labels)["limbs"] == 0


def test_at_the_edge_of_the_frame_and_at_other_sizes() -> None:
    truth, labels = arm()
    truth, labels = np.roll(truth, -57, 2), np.roll(labels, -57, 2)
    assert limb_error(truth, truth, labels)["limb_px"] == 0.0
    for scale in (2, 4):
        truth, labels = (array.repeat(scale, 1).repeat(scale, 2) for array in arm())
        error = limb_error(np.roll(truth, 7 * scale, 2), truth, labels)
        assert error["limb_px"] == 7 * scale


def test_frames_between_are_skipped() -> None:
    truth, labels = (array.repeat(6, 0) for array in arm())
    assert [limb_error(truth, truth, labels, every=k)["limbs"] for k in (1, 2, 3)] == [6, 3, 2]


def test_other_clips_are_refused() -> None:
    truth, labels = arm()
    with pytest.raises(ValueError, match="different clips"):
        limb_error(truth, truth, labels[:, :64])
