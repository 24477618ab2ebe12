"""Motions: within the joints' limits, smooth, on the floor, never twice the same."""

import numpy as np
import pytest

from animate_anyone.synthetic.dataset import stream
from animate_anyone.synthetic.figure.body import (
    JOINT,
    Body,
    BodyPose,
    Placed,
    joint_limits,
    place,
    rotation,
    sample_body,
)
from animate_anyone.synthetic.motion.dance import MOTIONS
from animate_anyone.synthetic.motion.motion import perform

SEEDS = range(25)


def played(name: str, seed: int, frames: int = 36) -> tuple[Body, BodyPose, Placed]:
    body = sample_body(stream("train", seed, "body"))
    pose = perform(MOTIONS[name][0](stream("train", seed, f"motion {name}"), np.arange(frames) / 12), body)
    return body, pose, place(body, pose)


@pytest.mark.parametrize("name", MOTIONS)
def test_joints_keep_their_limits(name: str) -> None:
    low, high = np.moveaxis(joint_limits(), -1, 0)
    slack = 0.13  # arms give way to wide hips after the limits are applied
    for seed in SEEDS:
        _, pose, placed = played(name, seed)
        assert (pose.angles >= low - slack).all() and (pose.angles <= high + slack).all()
        for hip in (11, 14):  # knees bend backwards only, and not through
            bend = np.swapaxes(placed.rotations[:, hip], 1, 2) @ placed.rotations[:, hip + 1]
            angle = np.arctan2(bend[:, 2, 1], bend[:, 1, 1])
            assert angle.min() > -0.02 and angle.max() < np.radians(165)


@pytest.mark.parametrize("name", MOTIONS)
def test_motion_is_smooth(name: str) -> None:
    for seed in SEEDS:
        body, _, placed = played(name, seed)
        spots = placed.origins[:, :17] / body.height
        speed = np.linalg.norm(np.diff(spots, axis=0), axis=-1) * 12
        change = np.linalg.norm(np.diff(spots, n=2, axis=0), axis=-1) * 144
        assert speed.max() < 4.0, "body heights a second"
        assert change.max() < 45.0, "body heights a second a second"


@pytest.mark.parametrize("name", MOTIONS)
def test_feet_stand_on_the_floor(name: str) -> None:
    highest = 0.0
    for seed in SEEDS:
        body, pose, placed = played(name, seed)
        soles = np.array([[0, -body.ankle_height, -0.022 * body.trunk], [0, -body.ankle_height, 0.105 * body.trunk]])
        low = np.min([(placed.origins[:, a, None] + soles @ np.swapaxes(placed.rotations[:, a], 1, 2))[..., 1].min(1)
                      for a in (13, 16)], axis=0)  # fmt: skip
        assert low.min() > -0.01 * body.height
        assert np.abs(placed.origins[:, [13, 16]] - pose.ankles).max() < 0.01 * body.height  # legs reach
        highest = max(highest, float(low.max() / body.height))
    assert highest < (0.2 if name == "jump" else 0.03)
    assert name != "jump" or highest > 0.03


@pytest.mark.parametrize("name", MOTIONS)
def test_no_two_are_alike_and_something_moves(name: str) -> None:
    angles = [played(name, seed)[1].angles for seed in range(8)]
    for index, first in enumerate(angles):
        assert np.abs(np.diff(first, axis=0)).max() > 1e-3
        assert all(np.abs(first - other).max() > 0.05 for other in angles[:index])


def test_bones_keep_their_lengths() -> None:
    body, _, placed = played("dance", 3)
    for joint, parent in ((6, 5), (7, 6), (12, 11), (13, 12), (4, 3)):
        length = np.linalg.norm(placed.origins[:, joint] - placed.origins[:, parent], axis=-1)
        assert np.allclose(length, np.linalg.norm(body.offsets[joint]))


def test_turn_goes_all_round() -> None:
    spans = [np.ptp(played("turn", seed)[1].heading) for seed in SEEDS]
    assert np.mean(np.array(spans) > 1.5 * np.pi) > 0.5


def test_rotation_twists_then_swings() -> None:
    hanging, forward = np.array([0.0, -1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    assert np.allclose(rotation(np.array([-np.pi / 2, 0, 0])) @ hanging, [0, 0, 1])  # raised forward
    assert np.allclose(rotation(np.array([0, 0, np.pi / 2])) @ hanging, [1, 0, 0])  # the left arm, raised outward
    assert np.allclose(
        rotation(np.array([0, np.pi / 2, np.pi / 2])) @ forward, [0, 1, 0]
    )  # twisted: the elbow bends up
    r = rotation(np.random.default_rng(0).uniform(-2, 2, (50, 3)))
    assert np.allclose(r @ np.swapaxes(r, 1, 2), np.eye(3)) and np.allclose(np.linalg.det(r), 1)


def test_proportions_of_an_adult() -> None:
    adults = [b for b in (sample_body(stream("train", s, "body")) for s in range(80)) if b.kind == "adult"]
    assert len(adults) > 15
    for body in adults:
        rest = body.rest_positions()
        assert 6.7 < body.height / body.head < 7.8
        assert 0.48 < body.leg / body.height < 0.58
        wrist = rest[JOINT["left_wrist"], 1] / body.height
        assert 0.40 < wrist < 0.56 and np.allclose(rest[5] * [-1, 1, 1], rest[8])
