"""Retargeting: other bodies, other places, half bodies, foreshortening, zoom; nothing explodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from animate_anyone.conditions.retarget import compare_bodies, fit_into_frame, retarget
from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.errors import InputError
from animate_anyone.structures import BODY, FACE, PoseSequence
from people import BONE_OF, length, person

LEGS = [JOINT[f"{side}_{joint}"] for side in ("right", "left") for joint in ("knee", "ankle")]
HIPS = [JOINT["right_hip"], JOINT["left_hip"]]
ANKLES = [JOINT["right_ankle"], JOINT["left_ankle"]]


def without(pose: PoseSequence, joints: list[int]) -> PoseSequence:
    scores, points = pose.scores.copy(), pose.keypoints.copy()
    scores[:, joints] = 0
    points[:, joints] = 0
    return replace(pose, scores=scores, keypoints=points)


def waving(frames: int = 48, **shape: float) -> PoseSequence:
    """Stands, and swings the right forearm round the elbow in the picture's plane."""
    pose = person(frames, **shape)
    points = pose.keypoints.copy()
    elbow, wrist = JOINT["right_elbow"], JOINT["right_wrist"]
    reach = np.linalg.norm(points[0, wrist] - points[0, elbow])
    angle = np.linspace(0, 2 * np.pi, frames)
    swing = points[:, elbow] + reach * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points[:, 39:60] += (swing - points[:, wrist])[:, None]
    points[:, wrist] = swing
    return replace(pose, keypoints=points)


def test_the_body_becomes_the_references() -> None:
    """A driver of average shape on a body with longer legs and arms and wider shoulders."""
    driver = waving(size=(400, 600), torso=120)
    reference = person(size=(900, 1200), torso=300, neck=(500, 200), legs=1.2, arms=1.1, shoulders=1.2)
    result = retarget(driver, reference)
    assert result.size == reference.size and len(result) == len(driver)
    for joint, parent in BONE_OF.items():
        got, want = length(result, parent, joint)[0], length(reference, parent, joint)[0]
        assert got == pytest.approx(want, rel=0.07), f"{parent} to {joint}: {got:.1f}, {want:.1f} wanted"
    assert length(result, "right_shoulder", "left_shoulder")[0] == pytest.approx(1.2 * 0.64 * 300, rel=0.03)
    for joints in (ANKLES, HIPS, [JOINT["neck"]]):
        gap = np.linalg.norm(result.keypoints[0, joints].mean(0) - reference.keypoints[0, joints].mean(0))
        assert gap < 0.05 * 300, f"{gap:.1f} pixels off at {joints}"
    face = [np.ptp(p.keypoints[0, FACE], axis=0) for p in (result, reference)]
    np.testing.assert_allclose(face[0], face[1], rtol=0.07)


def test_short_arms_may_be_foreshortened_and_are_believed_in_part() -> None:
    reference = person(size=(900, 1200), torso=300, neck=(500, 200), arms=0.8)
    result = retarget(waving(), reference)
    got, own = length(result, "left_shoulder", "left_elbow")[0], length(reference, "left_shoulder", "left_elbow")[0]
    assert own < got < 1.15 * own


def test_directions_stay_the_drivers() -> None:
    driver = waving()
    result = retarget(driver, person(size=(900, 1200), torso=300, neck=(500, 200), arms=0.8))
    elbow, wrist = JOINT["right_elbow"], JOINT["right_wrist"]
    a, b = (p.keypoints[:, wrist] - p.keypoints[:, elbow] for p in (driver, result))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.9999


def test_a_body_on_itself_changes_nothing() -> None:
    driver = waving()
    result = retarget(driver, driver[0:1])
    np.testing.assert_allclose(result.keypoints, driver.keypoints, atol=0.5)


def test_the_ground_stays_the_ground() -> None:
    """A crouch: hips sink, feet stay. A jump: feet rise by the scaled height. A step: the same sideways."""
    driver = person(30, torso=100, neck=(200, 100))
    points = driver.keypoints.copy()
    sink = np.zeros(30)
    sink[10:20] = 40
    upper = [j for j in range(128) if j not in LEGS]
    points[:, upper, 1] += sink[:, None]
    points[20:25, :, 1] -= 60
    points[25:, :, 0] += 30
    reference = person(size=(900, 1200), torso=200, neck=(500, 200), legs=1.3)
    result = retarget(replace(driver, keypoints=points), reference)
    feet = result.keypoints[:, ANKLES, 1].max(1)
    ground = reference.keypoints[0, ANKLES, 1].max()
    np.testing.assert_allclose(feet[:20], ground, atol=1)
    going = 2 * (1 + 1.3 * 1.7) / 2.7
    assert ground - feet[22] == pytest.approx(60 * going, rel=0.05)
    aside = result.keypoints[25:, HIPS, 0].mean(1) - result.keypoints[0, HIPS, 0].mean()
    np.testing.assert_allclose(aside, 30 * going, rtol=0.05)


def test_half_body_reference() -> None:
    """No hips or legs in the reference: the neck is the hold, legs are scaled like the body."""
    driver = waving()
    reference = without(person(size=(600, 400), torso=240, neck=(300, 200)), HIPS + LEGS)
    result = retarget(driver, reference)
    np.testing.assert_allclose(result.keypoints[0, JOINT["neck"]], (300, 200), atol=2)
    assert length(result, "right_shoulder", "left_shoulder")[0] == pytest.approx(0.64 * 240, rel=0.05)
    assert length(result, "right_hip", "right_knee")[0] == pytest.approx(0.88 * 240, rel=0.1)
    assert any("thigh" in note for note in compare_bodies(driver, reference).notes)


def test_when_the_hold_is_lost_the_rest_goes_on_in_scale() -> None:
    """The hips are out of sight in the second half, in which the driver goes 40 pixels aside."""
    driver = person(40, torso=100, neck=(150, 100))
    points, scores = driver.keypoints.copy(), driver.scores.copy()
    points[..., 0] += np.linspace(0, 80, 40)[:, None]
    scores[24:, HIPS + LEGS] = 0
    result = retarget(
        replace(driver, keypoints=points, scores=scores), person(size=(900, 1200), torso=250, neck=(450, 200))
    )
    neck = result.keypoints[:, JOINT["neck"], 0]
    np.testing.assert_allclose(np.diff(neck), 2.5 * 80 / 39, rtol=0.03)


def test_half_body_driver() -> None:
    driver = without(waving(), HIPS + LEGS)
    reference = person(size=(900, 1200), torso=300, neck=(500, 200))
    result = retarget(driver, reference)
    assert (result.scores[:, HIPS + LEGS] == 0).all()
    np.testing.assert_allclose(result.keypoints[0, JOINT["neck"]], (500, 200), atol=2)
    assert length(result, "left_shoulder", "left_elbow")[0] == pytest.approx(300 * 0.536, rel=0.05)


def test_missing_points_stay_missing_and_do_no_harm() -> None:
    driver = waving()
    scores, points = driver.scores.copy(), driver.keypoints.copy()
    lost = JOINT["right_elbow"]
    scores[5:9, lost], points[5:9, lost] = 0, 1e6
    scores[12, JOINT["neck"]], points[12, JOINT["neck"]] = 0, -1e6
    scores[20] = 0
    result = retarget(replace(driver, scores=scores, keypoints=points), person(size=(900, 1200), torso=300))
    np.testing.assert_array_equal(result.scores, scores)
    whole = retarget(driver, person(size=(900, 1200), torso=300))
    there = scores[5:9] > 0
    off = np.linalg.norm(result.keypoints[5:9] - whole.keypoints[5:9], axis=-1)[there]
    assert off.max() < 60, f"a point is {off.max():.0f} pixels away because its elbow was missing"
    assert np.abs(result.keypoints[12] - whole.keypoints[12])[scores[12] > 0].max() < 60
    assert np.isfinite(result.keypoints).all()


def test_a_foreshortened_limb_of_the_reference_is_not_believed() -> None:
    """The reference points a forearm at us: 15% of its length is seen. The other one is hidden."""
    driver = waving()
    reference = person(size=(900, 1200), torso=300, neck=(500, 200))
    points = reference.keypoints.copy()
    elbow, wrist = JOINT["right_elbow"], JOINT["right_wrist"]
    points[0, wrist] = points[0, elbow] + 0.15 * (points[0, wrist] - points[0, elbow])
    reference = without(replace(reference, keypoints=points), [JOINT["left_wrist"]])
    true = 0.482 * 300
    got = length(retarget(driver, reference), "right_elbow", "right_wrist")
    assert got.min() > 0.75 * true, f"forearm is {got.min():.0f} pixels, {true:.0f} would be right"


def test_a_driver_in_profile_does_not_blow_up_the_shoulders() -> None:
    driver = waving()
    points = driver.keypoints.copy()
    for name in ("shoulder", "hip"):
        pair = [JOINT[f"{side}_{name}"] for side in ("right", "left")]
        points[:, pair, 0] = points[:, pair, 0].mean(1, keepdims=True) + np.array([-2.0, 2.0])
    comparison = compare_bodies(replace(driver, keypoints=points), person(torso=240, size=(800, 1200)))
    assert comparison.scale == pytest.approx(2, rel=0.1)
    assert all(ratio < 1.61 * comparison.scale for ratio in comparison.ratios.values())
    assert comparison.ratios["shoulders"] < 1.3 * comparison.scale


def test_ratios_are_held_at_the_limit() -> None:
    reference = person(size=(800, 1200), torso=240, arms=3.0)
    comparison = compare_bodies(waving(), reference, limit=1.5)
    assert {"upper_arm", "forearm"} <= set(comparison.clamped)
    assert comparison.ratios["forearm"] == pytest.approx(1.5 * comparison.scale)
    assert any("held back" in line for line in comparison.lines())


def test_a_driver_who_comes_nearer_starts_at_the_references_size() -> None:
    """The driver doubles in size; the first frames fit the reference, then it grows as well."""
    driver = person(96, torso=100, neck=(200, 100))
    growth = np.linspace(1, 2, 96)[:, None, None]
    points = (driver.keypoints - [200, 400]) * growth + [200, 400]
    reference = person(size=(900, 1200), torso=250, neck=(450, 200))
    result = retarget(replace(driver, keypoints=points.astype(np.float32)), reference)
    torso = np.linalg.norm(result.keypoints[:, HIPS].mean(1) - result.keypoints[:, JOINT["neck"]], axis=1)
    assert torso[0] == pytest.approx(250, rel=0.1)
    assert torso[-1] == pytest.approx(500, rel=0.12)


def test_another_first_frame_and_other_size_do_not_explode() -> None:
    driver = waving()
    points = driver.keypoints.copy()
    points[0] = points[0][::-1]  # the first frame is nonsense
    reference = person(size=(900, 1200), torso=300, neck=(500, 200))
    result = retarget(replace(driver, keypoints=points), reference, size=(450, 600))
    assert result.size == (450, 600)
    np.testing.assert_allclose(result.keypoints[1:, JOINT["neck"]].mean(0), (250, 100), atol=8)


def test_depth_is_scaled_along() -> None:
    depth = np.full((48, 128), 0.1, np.float32)
    driver = replace(waving(size=(400, 600), torso=120), depth=depth)
    result = retarget(driver, person(size=(900, 1200), torso=240))
    assert result.depth is not None
    np.testing.assert_allclose(result.depth, 0.1 * 2 * 600 / 1200, rtol=0.05)


def test_without_alignment_the_frame_is_fitted_and_centred() -> None:
    driver = person(size=(400, 600))
    fitted = fit_into_frame(driver, (600, 600))
    np.testing.assert_allclose(fitted.keypoints, driver.keypoints + np.array([100, 0]), atol=1e-3)
    assert fitted.size == (600, 600)
    half = fit_into_frame(driver, (200, 400))
    np.testing.assert_allclose(half.keypoints, driver.keypoints / 2 + np.array([0, 50]), atol=1e-3)


def test_mistakes_are_told_in_one_line() -> None:
    with pytest.raises(InputError, match="2 frames"):
        compare_bodies(person(), person(2))
    with pytest.raises(InputError, match="--no-align"):
        retarget(person(), without(person(), list(range(128))))
    with pytest.raises(InputError, match="no driving poses"):
        retarget(person(1)[0:0], person())


def upside_down(pose: PoseSequence, frames: slice) -> PoseSequence:
    """Turned by half in some frames, the head on the ground where the feet were."""
    points = pose.keypoints.copy()
    ground = points[0, JOINT["right_ankle"], 1]
    middle = points[0, JOINT["neck"]]
    turned = points[frames]
    points[frames] = 2 * middle - turned
    points[frames, :, 1] += ground - points[frames, :18, 1].max()
    return replace(pose, keypoints=points)


@pytest.mark.parametrize("frames", [slice(0, 30), slice(0, 10), slice(20, 30)])
def test_who_begins_on_the_head_stays_in_the_frame(frames: slice) -> None:
    """Head or feet, what is lowest stands on the character's ground."""
    reference = person(size=(500, 700), torso=150, neck=(250, 150), legs=1.1)
    driver = upside_down(person(30, size=(400, 600)), frames)
    result = retarget(driver, reference)
    body = result.keypoints[:, BODY]
    assert (body >= 0).all() and (body <= (500, 700)).all()
    ground = reference.keypoints[0, JOINT["right_ankle"], 1]
    np.testing.assert_allclose(body[..., 1].max(axis=1), ground, atol=40)


def test_a_character_on_its_head_has_its_ground_there() -> None:
    reference = upside_down(person(size=(500, 700), torso=150, neck=(250, 150)), slice(0, 1))
    body = retarget(person(6, size=(400, 600)), reference).keypoints[:, BODY]
    assert (body >= 0).all() and (body <= (500, 700)).all()
