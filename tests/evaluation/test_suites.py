"""The puppet suite: its measures on frames whose figures are known, and a run on a tiny model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import tiny
from animate_anyone.conditions.draw import draw_pose
from animate_anyone.evaluation.suites import FRAMES, MEASURES, SuiteClip, evaluate_puppet, measure, puppet_clip
from animate_anyone.synthetic.dataset import sample_clip


def constructed(error: float = 10.0) -> tuple[NDArray[np.uint8], SuiteClip]:
    """Two frames; in the second the person, a quarter of it, is off by ``error``, in the first nothing is."""
    frames = np.full((2, 32, 32, 3), 100, np.uint8)
    masks = np.zeros((2, 32, 32), bool)
    masks[:, :16, :16] = True
    result = frames.copy()
    result[0, 20:] += 1  # or its PSNR would be infinite
    result[0, :2] += 1
    result[1, :16, :16] += np.uint8(error)
    return result, SuiteClip(0, frames, masks, frames, frames[0], frames[0])


def decibel(mean_square: float) -> float:
    """Of an error in 8-bit units."""
    return float(10 * np.log10(255**2 / mean_square))


def test_measures_are_means_over_frames() -> None:
    result, clip = constructed()
    figures = measure(result, clip)
    assert figures.keys() == set(MEASURES)
    assert figures["person_psnr"] == pytest.approx((decibel(2 / 16) + decibel(100)) / 2)
    assert figures["psnr"] == pytest.approx((decibel(14 / 32) + decibel(100 / 4)) / 2)
    assert 0 < figures["ssim"] < 1


def test_only_the_person_counts_for_the_person() -> None:
    result, clip = constructed()
    before = measure(result, clip)
    result[:, 16:] = 0
    after = measure(result, clip)
    assert after["person_psnr"] == before["person_psnr"]
    assert after["psnr"] < before["psnr"]
    empty = SuiteClip(
        0, clip.frames, clip.masks & np.array([False, True])[:, None, None], clip.poses, *[clip.reference] * 2
    )
    assert measure(result, empty)["person_psnr"] == pytest.approx(decibel(100))  # frames without a person are left out


def test_another_number_of_frames_is_refused() -> None:
    result, clip = constructed()
    with pytest.raises(ValueError, match="longer"):
        measure(result[:1], clip)


def test_clips_of_the_suite() -> None:
    clip = puppet_clip(2, (64, 80), (128, 160), "scaled")
    assert clip.frames.shape == (FRAMES, 80, 64, 3)
    assert clip.masks.shape == (FRAMES, 80, 64)
    assert clip.poses.shape == (FRAMES, 160, 128, 3)
    whole = sample_clip(2, split="held_out", num_frames=36, size=(64, 80))
    assert np.array_equal(clip.frames, whole.frames.numpy()[:FRAMES])
    assert np.array_equal(clip.masks, whole.mask.numpy()[:FRAMES])
    assert np.array_equal(clip.poses, draw_pose(whole.pose[:FRAMES], (128, 160), style="scaled"))
    # The reference is none of the frames that are compared.
    place = [int(np.array_equal(clip.reference, frame)) for frame in whole.frames.numpy()].index(1)
    assert place >= FRAMES
    assert np.array_equal(clip.reference_pose, draw_pose(whole.pose[place : place + 1], (128, 160), style="scaled")[0])


def test_a_run_on_a_tiny_model() -> None:
    pipeline = tiny.pipeline()
    report, sheet = evaluate_puppet(pipeline, characters=2, steps=1, seed=3)
    json.dumps(report, allow_nan=False)
    assert (
        report["settings"] | {"characters": 2, "frames": 24, "size": [64, 64], "steps": 1, "seed": 3}
        == report["settings"]
    )
    assert report["settings"]["guidance"] == 2.0
    assert [clip["seed"] for clip in report["clips"]] == [0, 1]
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] > 2 * 64
    assert sheet.shape[1] > 9 * 64
    for who in ("model", "copy_reference"):
        for name in MEASURES:
            assert report[who][name] == pytest.approx(np.mean([c[who][name] for c in report["clips"]]), abs=1e-4)
    for name in MEASURES:
        above = report["model"][name] - report["copy_reference"][name]
        assert report["above_copy_reference"][name] == pytest.approx(above, abs=2e-4)
    again, _ = evaluate_puppet(pipeline, characters=1, steps=1, seed=3)
    assert again["clips"] == report["clips"][:1]
    other, _ = evaluate_puppet(pipeline, characters=1, steps=1, seed=4, guidance=1.0)
    assert other["clips"][0]["model"] != report["clips"][0]["model"]
    assert other["clips"][0]["copy_reference"] == report["clips"][0]["copy_reference"]


def test_baseline_is_the_reference_repeated() -> None:
    """Computed anew with scikit-image."""
    report, _ = evaluate_puppet(tiny.pipeline(), characters=1, steps=1)
    clip = puppet_clip(0, (64, 64), (128, 128), "scaled")
    persons, whole, alike = [], [], []
    for frame, mask in zip(clip.frames, clip.masks, strict=True):
        persons.append(peak_signal_noise_ratio(frame[mask], clip.reference[mask], data_range=255))
        whole.append(peak_signal_noise_ratio(frame, clip.reference, data_range=255))
        grey = [np.round(picture @ [0.299, 0.587, 0.114]).astype(np.uint8) for picture in (frame, clip.reference)]
        alike.append(structural_similarity(*grey, data_range=255))
    figures = report["clips"][0]["copy_reference"]
    assert figures["person_psnr"] == pytest.approx(np.mean(persons), abs=1e-6)
    assert figures["psnr"] == pytest.approx(np.mean(whole), abs=1e-6)
    assert figures["ssim"] == pytest.approx(np.mean(alike), abs=1e-6)
    assert report["copy_reference"]["psnr"] == pytest.approx(np.mean(whole), abs=1e-4)
