"""Mending poses: less jitter without lag or loss of reach; gaps, outliers, swapped sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.conditions.smooth import (
    Smoothing,
    clean,
    drop_displaced_hips,
    drop_flashes,
    drop_outliers,
    fill_gaps,
    fix_swaps,
    smooth,
)
from animate_anyone.errors import InputError
from animate_anyone.structures import BODY, LEFT_HAND, RIGHT_HAND, PoseSequence
from people import person

TORSO = 120.0
WRIST = JOINT["right_wrist"]


def dancing(fps: int = 24, seconds: float = 4, hertz: float = 3.0, reach: float = 0.3) -> PoseSequence:
    """Sways slowly, and waves the right wrist ``hertz`` times a second, ``reach`` torsos to each side."""
    pose = person(round(fps * seconds), torso=TORSO, fps=fps)
    when = np.arange(len(pose)) / fps
    points = pose.keypoints.copy()
    points[..., 0] += (0.2 * TORSO * np.sin(2 * np.pi * 0.4 * when))[:, None]
    points[:, WRIST, 0] += reach * TORSO * np.sin(2 * np.pi * hertz * when)
    return replace(pose, keypoints=points)


def noisy(pose: PoseSequence, share: float = 0.012) -> PoseSequence:
    noise = np.random.default_rng(0).normal(0, share * TORSO, pose.keypoints.shape)
    return replace(pose, keypoints=(pose.keypoints + noise).astype(np.float32))


def error(pose: PoseSequence, truth: PoseSequence) -> float:
    return float(np.sqrt(((pose.keypoints - truth.keypoints)[:, BODY] ** 2).mean()))


def wave(pose: PoseSequence, hertz: float) -> complex:
    """Amplitude and phase of the waving wrist at this frequency."""
    swing = pose.keypoints[:, WRIST, 0] - pose.keypoints[:, JOINT["right_elbow"], 0]
    when = np.arange(len(pose)) / float(pose.fps)
    return complex((np.exp(-2j * np.pi * hertz * when) * (swing - swing.mean())).sum())


@pytest.mark.parametrize("fps", [24, 30, 60])
def test_noise_goes_down(fps: int) -> None:
    truth = dancing(fps)
    before, after = error(noisy(truth), truth), error(smooth(noisy(truth)), truth)
    assert after < 0.6 * before, f"error {after:.2f} pixels after, {before:.2f} before; 0.6 of it wanted"


@pytest.mark.parametrize("fps", [24, 60])
@pytest.mark.parametrize("hertz", [1.0, 2.0, 3.0])
def test_a_fast_wave_keeps_reach_and_phase(fps: int, hertz: float) -> None:
    truth = dancing(fps, hertz=hertz)
    kept = wave(smooth(noisy(truth)), hertz) / wave(truth, hertz)
    assert abs(kept) >= 0.9, f"amplitude {abs(kept):.3f}, 0.9 wanted"
    lag = np.angle(kept) / (2 * np.pi * hertz)
    assert abs(lag) < 0.004, f"shifted by {1e3 * lag:.1f} ms, 4 allowed"


def test_resolution_does_not_matter() -> None:
    pose = noisy(dancing())
    large = pose.scaled_to((pose.size[0] * 4, pose.size[1] * 4))
    np.testing.assert_allclose(smooth(large).keypoints, 4 * smooth(pose).keypoints, rtol=1e-3)


def test_uneven_times_are_kept_to() -> None:
    """A straight movement, sampled unevenly, is left as it is."""
    times = np.cumsum(np.random.default_rng(1).uniform(0.02, 0.08, 60))
    times -= times[0]
    pose = person(60)
    points = pose.keypoints + (100 * times)[:, None, None].astype(np.float32)
    pose = replace(pose, keypoints=points, times=times)
    np.testing.assert_allclose(smooth(pose).keypoints, points, atol=0.05)


def test_short_gaps_are_filled_long_ones_are_not() -> None:
    pose = dancing(hertz=0.5)
    scores, points = pose.scores.copy(), pose.keypoints.copy()
    scores[10:14, WRIST], points[10:14, WRIST] = 0.1, 0
    scores[40:70, WRIST], points[40:70, WRIST] = 0.1, 0
    filled = fill_gaps(replace(pose, scores=scores, keypoints=points), longest=0.25)
    assert (filled.scores[10:14, WRIST] == 1).all() and (filled.scores[40:70, WRIST] == 0).all()
    np.testing.assert_allclose(filled.keypoints[10:14, WRIST], pose.keypoints[10:14, WRIST], atol=0.05 * TORSO)


def test_a_lost_hand_goes_with_its_wrist() -> None:
    pose = dancing(hertz=1.0, reach=1.0)
    points, scores = pose.keypoints.copy(), pose.scores.copy()
    points[:, RIGHT_HAND] += points[:, WRIST, None] - points[:, RIGHT_HAND.start, None]
    truth = points[30:36, RIGHT_HAND].copy()
    points[30:36, RIGHT_HAND], scores[30:36, RIGHT_HAND] = 0, 0
    filled = fill_gaps(replace(pose, keypoints=points, scores=scores))
    np.testing.assert_allclose(filled.keypoints[30:36, RIGHT_HAND], truth, atol=0.01 * TORSO)


def test_single_outliers_go_fast_movement_stays() -> None:
    pose = dancing()
    points = pose.keypoints.copy()
    points[20, JOINT["left_knee"]] += 0.8 * TORSO
    dropped = drop_outliers(replace(pose, keypoints=points))
    assert np.argwhere(dropped.scores == 0).tolist() == [[20, JOINT["left_knee"]]]
    wild = drop_outliers(dancing(reach=1.6)).scores  # the curve needs two frames on each side
    assert (wild[2:-2] == 1).all()
    mended = clean(replace(pose, keypoints=points))
    gap = np.linalg.norm(mended.keypoints[20] - pose.keypoints[20], axis=-1)[JOINT["left_knee"]]
    assert gap < 0.05 * TORSO


def displaced(pose: PoseSequence, frames: slice, share: float) -> PoseSequence:
    """Hips moved towards the neck by a share of the trunk."""
    points = pose.keypoints.copy()
    neck, hips = points[frames, JOINT["neck"]], [JOINT["right_hip"], JOINT["left_hip"]]
    points[frames, hips] += share * (neck[:, None] - points[frames][:, hips])
    return replace(pose, keypoints=points)


def test_hips_that_leap_for_some_frames_are_filled_in() -> None:
    """As an estimator sets them that sees a belt for a moment; less is movement, and longer is no leap."""
    truth, moment = dancing(), slice(40, 45)
    hips = [JOINT["right_hip"], JOINT["left_hip"]]
    wrong = displaced(truth, moment, 0.4)
    dropped = drop_displaced_hips(wrong)
    assert (dropped.scores[moment][:, hips] == 0).all()
    assert dropped.scores.sum() == truth.scores.sum() - 2 * 5
    assert error(clean(wrong), truth) < 1.1 * error(clean(truth), truth) + 0.05
    for same in (truth, displaced(truth, moment, 0.1), displaced(truth, slice(40, 90), 0.4)):
        near = np.abs(np.arange(len(truth))[:, None] - [40, 90]).min(1) > 12  # the seams of a long one are told apart
        assert np.array_equal(drop_displaced_hips(same).scores[near], truth.scores[near])
    unseen = replace(truth, scores=np.zeros_like(truth.scores))
    assert drop_displaced_hips(unseen) is unseen


def test_swapped_sides_are_put_right_turning_round_is_not() -> None:
    pose = dancing(hertz=0.5)
    legs = [JOINT[f"left_{name}"] for name in ("hip", "knee", "ankle")]
    other = [JOINT[f"right_{name}"] for name in ("hip", "knee", "ankle")]

    def swap(frames: slice) -> PoseSequence:
        points: NDArray[np.float32] = pose.keypoints.copy()
        points[frames, legs], points[frames, other] = pose.keypoints[frames, other], pose.keypoints[frames, legs]
        return replace(pose, keypoints=points)

    # A swap shows only as far as the legs stand apart.
    wide = pose.keypoints.copy()
    wide[:, legs, 0] += 0.3 * TORSO
    pose = replace(pose, keypoints=wide)
    np.testing.assert_array_equal(fix_swaps(swap(slice(30, 34))).keypoints, pose.keypoints)
    turned = swap(slice(30, len(pose)))
    np.testing.assert_array_equal(fix_swaps(turned).keypoints, turned.keypoints)


def test_swapped_arms_take_their_hands_along() -> None:
    pose = dancing(hertz=0.5)
    swapped = pose.keypoints.copy()
    for left, right in ((JOINT[f"left_{n}"], JOINT[f"right_{n}"]) for n in ("shoulder", "elbow", "wrist")):
        swapped[30, left], swapped[30, right] = pose.keypoints[30, right], pose.keypoints[30, left]
    swapped[30, LEFT_HAND], swapped[30, RIGHT_HAND] = pose.keypoints[30, RIGHT_HAND], pose.keypoints[30, LEFT_HAND]
    np.testing.assert_array_equal(fix_swaps(replace(pose, keypoints=swapped)).keypoints, pose.keypoints)


def test_flashes_are_dropped() -> None:
    pose = dancing()
    scores = pose.scores.copy()
    scores[:, LEFT_HAND] = 0
    scores[50, LEFT_HAND] = 0.9
    assert (drop_flashes(replace(pose, scores=scores)).scores[:, LEFT_HAND] == 0).all()


def test_missing_points_and_short_clips_pass() -> None:
    nobody = replace(person(10), scores=np.zeros((10, 128), np.float32))
    assert (clean(nobody).scores == 0).all()
    for frames in (1, 2, 3):
        pose = person(frames)
        np.testing.assert_allclose(clean(pose).keypoints, pose.keypoints, atol=1e-2)
    with_depth = replace(noisy(dancing()), depth=np.zeros((96, 128), np.float32))
    assert clean(with_depth).depth is not None


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="jitter is -1"):
        Smoothing(jitter=-1)
    with pytest.raises(InputError, match="narrow"):
        Smoothing(narrow=2.0)
