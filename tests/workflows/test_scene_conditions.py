"""The conditions of Animate Anyone 2: region, background and first guess, against what the studio knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tiny
from animate_anyone.conditions.environment import EMPTY, empty, feather, fill, formulate
from animate_anyone.conditions.letterbox import Letterbox
from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.evaluation.image_metrics import psnr_masked
from animate_anyone.sampling.loading import load_pipeline
from animate_anyone.sampling.pipeline_environment import AnimateAnyone2Pipeline
from animate_anyone.structures import NUM_KEYPOINTS, MaskTrack, PoseSequence, Scene, Subject
from animate_anyone.synthetic.scenes import sample_scene_clip
from animate_anyone.workflows.scene_conditions import (
    AROUND,
    SceneConditions,
    complete_background,
    inner_area,
    letterbox_masks,
    make_conditions,
    tallest,
    without_margins,
)
from replaced import as_arrays
from standing import STANDING

# Somebody who moves before a textured place: a camera at rest, one that pans.
WALKS = {"still": 19, "pan": 0, "drift": 5}


@pytest.mark.parametrize("shot", WALKS)
def test_the_background_comes_from_where_it_is_seen(shot: str) -> None:
    clip = sample_scene_clip(WALKS[shot], num_frames=12, size=(160, 120), motion="walk")
    assert clip.description["shot"] == shot
    masks, frames = clip.mask.numpy(), clip.frames.numpy()
    scene = Scene(frames, clip.pose, MaskTrack(masks, "person"))
    letterbox = Letterbox.into((160, 120), (128, 128))  # margins above and below
    source, truth = (
        np.stack([letterbox.apply(f) for f in pictures]) for pictures in (frames, clip.environment.numpy())
    )
    person, held = (np.asarray(letterbox_masks(m, letterbox)) for m in (masks, clip.object_mask.numpy()))
    region, body = formulate(person), feather(person, round(tallest(person) * AROUND)) > 0
    shown, unknown, missing = map(np.asarray, complete_background(scene, letterbox, source, body, held))

    assert not (unknown & ~body).any() and (region & ~body).any()
    assert np.array_equal(shown[~body], source[~body])
    assert (shown[missing] == EMPTY).all() and not (missing & ~unknown).any()
    assert missing.sum() < 0.7 * unknown.sum()  # made up
    # Of what the person hides, some is seen elsewhere, and it is right. Shadows are not the environment's.
    dark = np.asarray(letterbox_masks(clip.shadow_mask.numpy(), letterbox))
    found = person & ~unknown & ~dark & ~held
    assert found.sum() > 0.02 * person.sum()
    before = fill(empty(source, region), region)
    gain = [
        psnr_masked(after, right, where) - psnr_masked(guess, right, where)
        for after, guess, right, where in zip(shown, before, truth, found, strict=True)
        if where.sum() > 20
    ]
    assert np.mean(gain) > 4, f"{np.round(gain, 1)}"


@pytest.mark.parametrize("size", [(160, 120), (40, 90)])
def test_places_of_a_picture_in_the_frame(size: tuple[int, int]) -> None:
    """The picture's corners, half a pixel outside the middles of its first and last pixels, are those of its part."""
    letterbox = Letterbox.into(size, (128, 128))
    into, (rows, columns) = letterbox.matrix(size), inner_area(letterbox)
    np.testing.assert_allclose(into @ [-0.5, -0.5, 1], [columns.start - 0.5, rows.start - 0.5, 1])
    width, height = size
    np.testing.assert_allclose(into @ [width - 0.5, height - 0.5, 1], [columns.stop - 0.5, rows.stop - 0.5, 1])


def standing(wide: int, size: tuple[int, int] = (96, 128)) -> tuple[PoseSequence, NDArray[np.bool_]]:
    """Somebody upright in one frame, and a mask ``wide`` pixels to either side of the middle."""
    keypoints = np.zeros((1, NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((1, NUM_KEYPOINTS), np.float32)
    for name, place in STANDING.items():
        keypoints[0, JOINT[name]], scores[0, JOINT[name]] = place, 1
    mask = np.zeros((1, size[1], size[0]), bool)
    mask[0, 10:108, 48 - wide : 48 + wide] = True
    return PoseSequence(keypoints, scores, size, depth=np.zeros_like(scores)), mask


def carrying(tmp_path: Path) -> AnimateAnyone2Pipeline:
    tiny.environment_pipeline(reference_latents=True, carried_reference=True, keep_detail=True).save_pretrained(
        tmp_path
    )
    pipeline = load_pipeline(tmp_path, "cpu")
    assert isinstance(pipeline, AnimateAnyone2Pipeline)
    return pipeline


def given(scene: Scene, subject: Subject, tmp_path: Path) -> SceneConditions:
    letterbox = Letterbox.into(scene.pose.size, (128, 128))
    return as_arrays(make_conditions(scene, subject, letterbox, (128, 128), carrying(tmp_path)))


def test_a_character_wider_than_the_person_is_given_whole(tmp_path: Path) -> None:
    pose, thin = standing(9)
    _, wide = standing(26)
    frame = np.random.default_rng(0).integers(0, 256, (1, 128, 96, 3), np.uint8)
    picture = np.full((128, 96, 3), 255, np.uint8)
    picture[wide[0]] = (200, 0, 0)
    scene = Scene(frame, pose, MaskTrack(thin, "person"))
    conditions = given(scene, Subject(picture, pose, wide[0]), tmp_path)
    narrow = given(scene, Subject(picture, pose, thin[0]), tmp_path)
    letterbox = conditions.letterbox
    character, person = (np.asarray(letterbox_masks(mask, letterbox)) for mask in (wide, thin))
    inside = without_margins(character[0], letterbox)[None]
    assert conditions.mask[inside].mean() > 0.8
    assert narrow.mask[inside].mean() < 0.6
    assert (
        conditions.first_guess is not None
        and (np.stack(list(conditions.first_guess))[inside] == (200, 0, 0)).all(-1).mean() > 0.7
    )
    # What is neither person nor character is the video's own; all of either is made.
    assert not (conditions.made & ~conditions.mask).any() and conditions.made[person].all()
    assert (narrow.made & inside).sum() < 0.7 * (conditions.made & inside).sum()
    # A silhouette that nobody gave tells of no width, and of nothing to keep.
    unknown = given(scene, Subject(picture, pose), tmp_path)
    assert np.array_equal(unknown.mask, formulate(person)) and np.array_equal(unknown.made, unknown.mask)


def test_what_stands_in_front_stays_in_front_of_a_wider_character(tmp_path: Path) -> None:
    """A table hides the legs: the mask ends above it, and so does the region."""
    pose, thin = standing(20)
    _, wide = standing(30)
    thin[:, 70:] = False
    frame = np.random.default_rng(0).integers(0, 256, (1, 128, 96, 3), np.uint8)
    picture = np.full((128, 96, 3), 255, np.uint8)
    scene = Scene(frame, pose, MaskTrack(thin, "person"))
    conditions = given(scene, Subject(picture, pose, wide[0]), tmp_path)
    legs = slice(85, 108)
    assert not conditions.mask[0, legs, 50:78].any()
    assert conditions.mask[0, 30:60].sum() > letterbox_masks(thin, conditions.letterbox)[0][30:60].sum()


def test_the_guess_is_as_large_as_the_result_and_the_networks_see_it_small(tmp_path: Path) -> None:
    pose, thin = standing(20)
    frames = np.random.default_rng(0).integers(0, 256, (1, 128, 96, 3), np.uint8)
    scene = Scene(frames, pose, MaskTrack(thin))
    subject = Subject(np.full((128, 96, 3), 255, np.uint8), pose, thin[0])
    conditions = as_arrays(
        make_conditions(scene, subject, Letterbox.stretched((96, 128)), (48, 64), carrying(tmp_path))
    )
    assert conditions.first_guess is not None and conditions.first_guess[0].shape == (128, 96, 3)
    assert conditions.environment.shape == (1, 64, 48, 3) and conditions.mask.shape == (1, 64, 48)
    assert conditions.skeletons.shape[1:3] == (128, 96) and conditions.reference.shape == (64, 48, 3)
    assert np.array_equal(conditions.source, frames)
    # A cell of the networks is to be made where any of its pixels is.
    touched = conditions.region.reshape(1, 64, 2, 48, 2).any((2, 4))
    assert np.array_equal(conditions.mask, touched)
    assert (conditions.environment[conditions.mask] == EMPTY).all()
