"""The first guess: environment, character and objects laid together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from animate_anyone.conditions.environment import empty, fill, formulate
from animate_anyone.errors import InputError
from animate_anyone.evaluation.image_metrics import psnr_masked
from animate_anyone.first_guess.character import figure_of
from animate_anyone.first_guess.collage import Collage
from animate_anyone.first_guess.frames import mended
from animate_anyone.first_guess.layers import Figure
from animate_anyone.structures import Mask, Picture, Subject
from animate_anyone.synthetic.scenes import SceneClip, sample_scene_clip

SIZE = (64, 64)


def scene_with_object() -> SceneClip:
    for seed in range(20):
        clip = sample_scene_clip(seed, num_frames=2, size=SIZE)
        if clip.object_mask[0].sum() > 20 and clip.mask[0].sum() > 200:
            return clip
    raise AssertionError("no scene with an object")


def parts(clip: SceneClip) -> tuple[Picture, Mask, Picture]:
    frames = clip.frames.numpy()
    region = formulate(clip.mask.numpy())
    return frames, region, empty(frames, region)


def figure(clip: SceneClip) -> Figure | None:
    return figure_of(Subject(clip.frames[0].numpy(), clip.pose[:1], clip.mask[0].numpy()), clip.pose)


def laid(*args: Any, **more: Any) -> Picture:
    return np.stack(list(Collage(*args, **more)))


def test_outside_the_region_the_guess_is_the_environment_and_the_objects_lie_on_top() -> None:
    clip = scene_with_object()
    frames, region, environment = parts(clip)
    held = clip.object_mask.numpy()
    guess = laid(figure(clip), clip.pose, environment, region, clip.object_frames.numpy(), held)
    outside = ~region & ~held
    assert np.array_equal(guess[outside], environment[outside])
    assert np.array_equal(guess[held], frames[held])
    without = laid(figure(clip), clip.pose, environment, region)
    assert np.array_equal(without[~region], environment[~region])
    assert not np.array_equal(without, guess)


def test_the_character_is_drawn_in_the_region_and_not_where_objects_hide_it() -> None:
    clip = scene_with_object()
    _, region, environment = parts(clip)
    held = clip.object_mask.numpy()
    guess = Collage(figure(clip), clip.pose, environment, region, clip.object_frames.numpy(), held)
    drawn = np.stack([guess.guess(number).drawn for number in range(len(guess))])
    person = clip.mask.numpy() & region
    assert not drawn[~region].any() and not drawn[held].any()
    assert (drawn[0] > 0)[person[0]].mean() > 0.8
    assert Collage(None, clip.pose, environment, region).guess(0).drawn is None


def test_the_character_is_laid_in_the_region() -> None:
    clip = scene_with_object()
    frames, region, environment = parts(clip)
    person = clip.mask.numpy()[0]
    with_character = laid(figure(clip), clip.pose[:1], environment[:1], region[:1])[0]
    without = laid(None, clip.pose[:1], environment[:1], region[:1])[0]
    assert psnr_masked(with_character, frames[0], person) > psnr_masked(without, frames[0], person) + 6
    assert np.array_equal(without, fill(environment[:1], region[:1])[0])


def test_a_character_is_drawn_at_the_size_of_its_pose() -> None:
    """A picture of three times the size gives about the same guess; its place there is of no account."""
    clip = scene_with_object()
    _, region, environment = parts(clip)
    picture, mask = clip.frames[0].numpy(), clip.mask[0].numpy()
    size = (3 * SIZE[0], 3 * SIZE[1])
    large = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    subject = Subject(large, clip.pose[:1].scaled_to(size), mask.repeat(3, 0).repeat(3, 1))
    scaled = figure_of(subject, clip.pose)
    assert scaled is not None and scaled.size == SIZE
    own, other = (laid(one, clip.pose, environment, region)[0] for one in (figure(clip), scaled))
    assert psnr_masked(own, other, mask) > 22
    assert figure_of(Subject(picture, None), clip.pose) is None


def test_what_the_networks_change_outside_the_region_is_left_out() -> None:
    clip = scene_with_object()
    _, region, environment = parts(clip)
    guess = Collage(figure(clip), clip.pose, environment, region)
    made = [255 - picture for picture in guess]
    result = np.stack(list(mended(guess, guess, made)))
    assert np.array_equal(result[~region], environment[~region])
    assert (result[region] != np.stack(list(guess))[region]).mean() > 0.5
    kept = Collage(figure(clip), clip.pose, environment, region, made=np.zeros_like(region))
    assert np.array_equal(np.stack(list(mended(kept, kept, made))), np.stack(list(kept)))


def test_objects_of_the_guess_stay_the_videos_own_pixels() -> None:
    clip = scene_with_object()
    frames, region, environment = parts(clip)
    held = clip.object_mask.numpy()
    guess = Collage(figure(clip), clip.pose, environment, region, clip.object_frames.numpy(), held)
    result = np.stack(list(mended(guess, guess, [255 - picture for picture in guess])))
    assert (held & region).any() and np.array_equal(result[held], frames[held])
    assert (result[region & ~held] != np.stack(list(guess))[region & ~held]).any()


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


def test_parts_that_do_not_belong_together_are_refused() -> None:
    clip = scene_with_object()
    _, region, environment = parts(clip)
    with pytest.raises(InputError, match="frames are uint8"):
        Collage(None, clip.pose, environment[:1], region)
    with pytest.raises(InputError, match="frames are uint8"):
        Collage(None, clip.pose, environment, region, environment[:1], region)


def test_what_is_known_of_the_environment_in_the_region_stays() -> None:
    clip = scene_with_object()
    frames, region, _ = parts(clip)
    unknown = clip.mask.numpy()
    guess = laid(None, clip.pose, empty(frames, unknown), region, unknown=unknown)
    assert np.array_equal(guess[~unknown], frames[~unknown])
    assert np.array_equal(guess, fill(empty(frames, unknown), unknown))
