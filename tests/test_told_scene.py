"""What the first guess is told of the background: the studio knows what is behind its people."""

from __future__ import annotations

import numpy as np
import pytest

from animate_anyone.conditions.environment import EMPTY, empty, feather, fill, formulate
from animate_anyone.conditions.placing import Placing
from animate_anyone.evaluation.image_metrics import psnr_masked
from animate_anyone.structures import MaskTrack, Scene
from animate_anyone.synthetic.scenes import sample_scene_clip
from animate_anyone.told_scene import AROUND, place_masks, uncovered

# Somebody who moves before a textured place: a camera at rest, one that pans.
WALKS = {"still": 19, "pan": 0, "drift": 5}


@pytest.mark.parametrize("shot", WALKS)
def test_the_background_comes_from_where_it_is_seen(shot: str) -> None:
    clip = sample_scene_clip(WALKS[shot], num_frames=12, size=(160, 120), motion="walk")
    assert clip.description["shot"] == shot
    masks, frames = clip.mask.numpy(), clip.frames.numpy()
    scene = Scene(frames, clip.pose, MaskTrack(masks, "person"))
    placing = Placing.into((160, 120), (128, 128))  # margins above and below
    source, truth = (np.stack([placing.apply(f) for f in pictures]) for pictures in (frames, clip.environment.numpy()))
    person, held = place_masks(masks, placing), place_masks(clip.object_mask.numpy(), placing)
    region = formulate(person)
    shown, unknown = uncovered(scene, placing, source, region, held)

    assert not (unknown & ~region).any()
    assert np.array_equal(shown[~region], source[~region])
    assert (shown[unknown] == EMPTY).all()
    beside = region & (feather(person, round(128 * AROUND)) == 0)
    assert beside.any() and not (unknown & beside).any()
    assert np.array_equal(shown[beside], source[beside])
    # Of what the person hides, some is seen elsewhere, and it is right. Shadows are not the environment's.
    dark = place_masks(clip.shadow_mask.numpy(), placing)
    found = person & ~unknown & ~dark & ~held
    assert found.sum() > 0.05 * person.sum()
    before = fill(empty(source, region), region)
    gain = [
        psnr_masked(after, right, where) - psnr_masked(guess, right, where)
        for after, guess, right, where in zip(shown, before, truth, found, strict=True)
        if where.sum() > 20
    ]
    assert np.mean(gain) > 4, f"{np.round(gain, 1)}"
