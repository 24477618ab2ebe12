"""Structured depth: inside the skeleton only, nearer is larger, along limbs, stable over a clip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from animate_anyone.conditions.draw import draw_pose
from animate_anyone.conditions.limb_depth import FARTHEST, REACH, draw_limb_depth
from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.errors import InputError
from animate_anyone.structures import PoseSequence
from people import body_alone, person

SIZE = (200, 300)
TORSO = 60 / 300  # frame heights
NEAR, MIDDLE, FAR = 1.0, (1 + FARTHEST) / 2, FARTHEST


def with_depth(**joints: float) -> PoseSequence:
    """Somebody flat at the hips' depth but for some joints, in torso lengths."""
    pose = person(2, SIZE, torso=60, neck=(100, 60))
    depth = np.zeros(pose.scores.shape, np.float32)
    for name, value in joints.items():
        depth[:, JOINT[name]] = value * TORSO
    return replace(pose, depth=depth)


def pixel(pose: PoseSequence, name: str) -> tuple[int, int]:
    x, y = pose.keypoints[0, JOINT[name]].astype(int)
    return y, x


def test_it_is_there_where_the_skeleton_is_and_nowhere_else() -> None:
    pose = with_depth(right_wrist=-1)
    for style in ("dwpose", "scaled"):
        drawn = draw_pose(pose, SIZE, style=style).any(axis=-1)
        depth = draw_limb_depth(pose, SIZE, style=style)
        assert depth.dtype == np.float32 and depth.shape == (2, 300, 200)
        if style == "dwpose":
            np.testing.assert_array_equal(depth > 0, drawn)
        assert not (drawn & (depth == 0)).any() and ((depth > 0) & ~drawn).mean() < 0.002
        assert depth[depth > 0].min() >= FARTHEST - 1e-6 and depth.max() <= 1
    small = draw_limb_depth(pose, (100, 150))
    np.testing.assert_array_equal(small > 0, draw_pose(pose, (100, 150)).any(axis=-1))


def test_values_mean_torso_lengths_from_the_hips() -> None:
    pose = with_depth(right_wrist=-REACH, left_wrist=REACH, nose=-3 * REACH)
    depth = draw_limb_depth(body_alone(pose), SIZE)[0]
    for name, value in (("right_wrist", NEAR), ("left_wrist", FAR), ("nose", NEAR), ("neck", MIDDLE)):
        assert depth[pixel(pose, name)] == pytest.approx(value, abs=0.02), name
    lone = replace(pose, depth=pose.depth * np.float32(0.5))
    half = draw_limb_depth(body_alone(lone), SIZE)[0]
    assert half[pixel(pose, "left_wrist")] == pytest.approx((MIDDLE + FAR) / 2, abs=0.02)


def test_depth_runs_along_the_limb() -> None:
    pose = with_depth(right_elbow=0, right_wrist=-REACH)
    depth = draw_limb_depth(body_alone(pose), SIZE)[0]
    elbow, wrist = (pose.keypoints[0, JOINT[f"right_{name}"]] for name in ("elbow", "wrist"))
    along = []
    for share in np.linspace(0.2, 0.8, 7):
        x, y = (elbow + share * (wrist - elbow)).astype(int)
        along.append(depth[y, x])
    np.testing.assert_allclose(along, MIDDLE + np.linspace(0.2, 0.8, 7) * (NEAR - MIDDLE), atol=0.03)


@pytest.mark.parametrize("in_front", ["right", "left"])
def test_the_nearer_limb_covers_the_farther(in_front: str) -> None:
    """Crossed forearms, whichever of them is nearer."""
    behind = "left" if in_front == "right" else "right"
    pose = with_depth(**{f"{in_front}_{j}": -1.0 for j in ("elbow", "wrist")})
    points = pose.keypoints.copy()
    for side, x in (("right", -20), ("left", 20)):
        points[:, JOINT[f"{side}_elbow"]], points[:, JOINT[f"{side}_wrist"]] = (100 + x, 80), (100 - x, 110)
    pose = replace(pose, keypoints=points)
    depth = draw_limb_depth(body_alone(pose), SIZE)[0]
    near = MIDDLE + (1 / REACH) * (NEAR - MIDDLE)
    assert depth[95, 100] == pytest.approx(near, abs=0.02)
    assert depth[pixel(pose, f"{behind}_wrist")] == pytest.approx(MIDDLE, abs=0.02)


def test_a_frame_means_the_same_alone_and_in_another_clip() -> None:
    pose = with_depth(right_wrist=-1)
    farther = replace(pose, depth=pose.depth * np.array([[1], [3]], np.float32))
    np.testing.assert_allclose(draw_limb_depth(farther, SIZE)[0], draw_limb_depth(pose[:1], SIZE)[0], atol=1e-6)


def test_from_a_depth_map() -> None:
    """Far on the right; the unit is unknown, so the ends of what the skeleton meets set the scale."""
    pose = replace(with_depth(), depth=None)
    ramp = np.broadcast_to(np.arange(200.0) * 7 - 300, (2, 300, 200))
    depth = draw_limb_depth(pose, SIZE, ramp)
    np.testing.assert_array_equal(depth > 0, draw_pose(pose, SIZE).any(axis=-1))
    assert depth[0][pixel(pose, "right_wrist")] > 0.9 > 0.2 > depth[0][pixel(pose, "left_wrist")]
    np.testing.assert_allclose(draw_limb_depth(pose, SIZE, ramp * 0.01 + 5), depth, atol=1e-5)
    flat = draw_limb_depth(pose, SIZE, np.ones((2, 300, 200)))
    np.testing.assert_allclose(np.unique(flat), [0, MIDDLE], rtol=1e-6)


def test_nobody_is_nothing() -> None:
    pose = with_depth()
    nobody = replace(pose, scores=np.zeros_like(pose.scores))
    assert not draw_limb_depth(nobody, SIZE).any()
    assert not draw_limb_depth(nobody, SIZE, np.ones((2, 300, 200))).any()


def test_mistakes_are_told_in_one_line() -> None:
    pose = with_depth()
    with pytest.raises(InputError, match="have no depth; estimate"):
        draw_limb_depth(replace(pose, depth=None), SIZE)
    with pytest.raises(InputError, match=r"depth map has shape \(2, 8, 8\); it must be \(2, 300, 200\)"):
        draw_limb_depth(pose, SIZE, np.ones((2, 8, 8)))
    with pytest.raises(InputError, match="no skeleton style"):
        draw_limb_depth(pose, SIZE, style="thick")
