"""What stands in front of a person, told by limbs that are there and not seen."""

from __future__ import annotations

import numpy as np
import pytest

from animate_anyone.errors import InputError
from animate_anyone.perception.person.occluders import find_occluders
from animate_anyone.synthetic.scenes import sample_scene_clip

UNHIDDEN = 4  # studio seed: seen from head to feet, with nothing in hand and nothing in front


def test_nothing_is_in_front_of_somebody_who_is_seen_whole() -> None:
    clips = [sample_scene_clip(seed, num_frames=2, size=(160, 160), supersample=1) for seed in range(8)]
    for clip in clips:
        found = np.asarray(find_occluders(clip.pose, clip.person_full_mask.numpy()))
        assert found.mean() < 0.01


def test_a_table_is_in_front_of_the_legs_that_it_hides() -> None:
    clip = sample_scene_clip(UNHIDDEN, num_frames=2, size=(160, 160), supersample=1)
    assert [clip.description[name] for name in ("framing", "object", "in_front")] == ["full", "none", "none"]
    masks = clip.mask.numpy().copy()
    rows = np.flatnonzero(masks[0].any(axis=1))
    waist = (rows[0] + 2 * rows[-1]) // 3
    legs = masks.copy()
    legs[:, :waist] = False
    masks[:, waist:] = False
    found = np.asarray(find_occluders(clip.pose, masks))
    assert found[legs].mean() > 0.8
    assert found[:, : (rows[0] + waist) // 2].mean() < 0.02
    # In a frame without a person nothing is said.
    masks[1] = False
    assert not find_occluders(clip.pose, masks)[1].any()


def test_masks_of_another_size_are_refused() -> None:
    clip = sample_scene_clip(UNHIDDEN, num_frames=1, size=(64, 64), supersample=1)
    with pytest.raises(InputError, match="the poses are 1 frames of"):
        find_occluders(clip.pose, clip.mask.numpy()[:, 1:])
