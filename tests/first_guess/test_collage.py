"""The first guess: environment, character and objects laid together."""

from __future__ import annotations

import numpy as np
import pytest

from animate_anyone.conditions.environment import empty, fill, formulate
from animate_anyone.errors import InputError
from animate_anyone.evaluation.image_metrics import psnr_masked
from animate_anyone.first_guess.collage import collage
from animate_anyone.first_guess.limb_warp import warp_limbs
from animate_anyone.synthetic.scenes import SceneClip, sample_scene_clip

SIZE = (64, 64)


def scene_with_object() -> SceneClip:
    for seed in range(20):
        clip = sample_scene_clip(seed, num_frames=2, size=SIZE)
        if clip.object_mask[0].sum() > 20 and clip.mask[0].sum() > 200:
            return clip
    raise AssertionError("no scene with an object")


def parts(clip: SceneClip):
    frames = clip.frames.numpy()
    region = formulate(clip.mask.numpy())
    return frames, region, empty(frames, region)


def test_outside_the_region_the_guess_is_the_environment_and_the_objects_lie_on_top():
    clip = scene_with_object()
    frames, region, environment = parts(clip)
    held = clip.object_mask.numpy()
    guess = collage(
        frames[0], clip.pose[:1], clip.pose, environment, region, clip.mask[0].numpy(), clip.object_frames.numpy(), held
    )
    outside = ~region & ~held
    assert np.array_equal(guess[outside], environment[outside])
    assert np.array_equal(guess[held], frames[held])
    without = collage(frames[0], clip.pose[:1], clip.pose, environment, region, clip.mask[0].numpy())
    assert np.array_equal(without[~region], environment[~region])
    assert not np.array_equal(without, guess)


def test_the_character_is_laid_in_the_region():
    clip = scene_with_object()
    frames, region, environment = parts(clip)
    person = clip.mask.numpy()[0]
    with_character = collage(frames[0], clip.pose[:1], clip.pose[:1], environment[:1], region[:1], person)[0]
    without = collage(frames[0], None, clip.pose[:1], environment[:1], region[:1], person)[0]
    assert psnr_masked(with_character, frames[0], person) > psnr_masked(without, frames[0], person) + 6
    assert np.array_equal(without, fill(environment[:1], region[:1])[0])


def test_filling_goes_over_from_edge_to_edge():
    ramp = np.broadcast_to(np.arange(0, 192, 4, dtype=np.uint8)[None, None, :, None], (1, 40, 48, 3)).copy()
    region = np.zeros((1, 40, 48), bool)
    region[:, 10:30, 16:32] = True
    filled = fill(empty(ramp, region), region)
    assert np.array_equal(filled[~region], ramp[~region])
    assert np.abs(filled.astype(int) - ramp)[region].mean() < 12  # the emptied one is 34 off
    row = filled[0, 20, :, 0].astype(int)
    assert row[16] < row[24] < row[31]


def test_a_frame_without_a_known_pixel_is_grey_and_one_without_a_region_stays():
    frames = np.full((2, 8, 8, 3), 200, np.uint8)
    region = np.stack([np.ones((8, 8), bool), np.zeros((8, 8), bool)])
    filled = fill(frames, region)
    assert (filled[0] == 127).all() and (filled[1] == 200).all()


def test_parts_that_do_not_belong_together_are_refused():
    clip = scene_with_object()
    frames, region, environment = parts(clip)
    with pytest.raises(InputError, match="frames are uint8"):
        collage(frames[0], None, clip.pose, environment[:1], region)
    with pytest.raises(InputError, match="frames are uint8"):
        collage(frames[0], None, clip.pose, environment, region, None, environment[:1], region)


def test_what_is_known_of_the_environment_in_the_region_stays():
    clip = scene_with_object()
    frames, region, _ = parts(clip)
    unknown = clip.mask.numpy()
    guess = collage(frames[0], None, clip.pose, empty(frames, unknown), region, unknown=unknown)
    assert np.array_equal(guess[~unknown], frames[~unknown])
    assert np.array_equal(guess, fill(empty(frames, unknown), unknown))


def test_a_long_clip_is_laid_in_runs_of_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = scene_with_object()
    frames, region, environment = parts(clip)
    picks = np.tile(np.arange(len(frames)), 6)[:11]

    def laid():
        return collage(
            *(frames[0], clip.pose[:1], clip.pose[picks], environment[picks], region[picks], clip.mask[0].numpy()),
            *(clip.object_frames.numpy()[picks], clip.object_mask.numpy()[picks]),
        )

    runs: list[int] = []

    def counted(reference, own, poses, under, silhouette):
        runs.append(len(poses))
        return warp_limbs(reference, own, poses, under, silhouette)

    monkeypatch.setattr("animate_anyone.first_guess.collage.warp_limbs", counted)
    monkeypatch.setattr("animate_anyone.first_guess.collage.AT_ONCE", 4 * SIZE[0] * SIZE[1])
    some = laid()
    assert runs == [4, 4, 3]
    monkeypatch.setattr("animate_anyone.first_guess.collage.AT_ONCE", 100 * SIZE[0] * SIZE[1])
    assert np.array_equal(some, laid())
    assert runs[3:] == [11]
