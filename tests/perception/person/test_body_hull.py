"""Where a person is by the skeleton alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from animate_anyone.conditions.boxes import bounding_box
from animate_anyone.perception.person.body_hull import body_box
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
