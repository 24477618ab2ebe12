"""Where a person is by the skeleton alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from animate_anyone.conditions.boxes import bounding_box
from animate_anyone.perception.person.body_hull import body_box, body_hulls
from animate_anyone.structures import FACE
from animate_anyone.synthetic.dataset import sample_clip
from animate_anyone.synthetic.scenes import character_picture


@pytest.mark.parametrize("seed", range(6))
def test_the_box_is_about_that_of_the_outline(seed: int) -> None:
    """Its longer side within a tenth; the square around it, 1.15 times as large, cuts nothing off."""
    character = character_picture(seed, split="held_out", num_frames=4, size=(256, 256))
    picture, pose = character.picture, character.pose
    assert pose is not None
    outline = bounding_box(np.abs(picture.astype(int) - picture[0, 0]).max(-1) > 12)
    box = body_box(pose)
    assert outline is not None and box is not None
    longest, found = (max(span.stop - span.start for span in one) for one in (outline, box))
    assert 0.9 < found / longest < 1.1
    for span, own in zip(box, outline, strict=True):
        middle, half = (span.start + span.stop) / 2, 1.15 * found / 2
        assert middle - half <= own.start and own.stop <= middle + half


def test_nobody_has_no_box() -> None:
    pose = character_picture(0, num_frames=2, size=(64, 64)).pose
    assert pose is not None
    assert body_box(replace(pose, scores=np.zeros_like(pose.scores))) is None


def test_a_large_head_has_room_for_its_hair() -> None:
    """Of the studio's characters, child-like ones among them: what of the person is out of reach."""
    missed = []
    for seed in range(400, 424):
        clip = sample_clip(seed, split="held_out", num_frames=1, size=(128, 128), supersample=1, domain="wide")
        person = clip.mask[0].numpy()
        _, maybe = body_hulls(clip.pose.keypoints[0], clip.pose.scores[0], clip.pose.size)
        missed.append((person & ~maybe).sum() / person.sum())
    assert np.mean(missed) < 0.048  # 0.055 with heads of one size


def test_a_face_says_how_large_a_head_may_be_up_to_a_limit() -> None:
    pose = sample_clip(400, split="held_out", num_frames=1, size=(256, 256), supersample=1).pose
    points, scores = pose.keypoints[0].copy(), pose.scores[0].copy()
    face = points[FACE].copy()
    middle = (face.min(0) + face.max(0)) / 2
    areas = []
    for scale, seen in ((0.3, True), (1.0, True), (2.0, True), (9.0, True), (20.0, True), (20.0, False)):
        points[FACE] = middle + scale * (face - middle)
        scores[FACE] = 1.0 if seen else 0.0
        areas.append(int(body_hulls(points, scores, (256, 256))[1].sum()))
    assert areas[0] == areas[-1]  # a small face, and none: the body's length decides
    assert areas[0] <= areas[1] <= areas[2] < areas[3] == areas[4]


@pytest.mark.parametrize("scale", [1e5, 1e7])
def test_points_far_out_of_the_frame_are_no_mistake(scale: float) -> None:
    points = (np.random.default_rng(0).random((128, 2)) * scale).astype(np.float32)
    hulls = body_hulls(points, np.ones(128, np.float32), (64, 48))
    assert [hull.shape for hull in hulls] == [(48, 64)] * 2
