"""The puppet suite: its measures on frames whose figures are known, and a run on a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import faults
import tiny
from animate_anyone.conditions.draw import draw_pose
from animate_anyone.errors import InputError
from animate_anyone.evaluation import suites
from animate_anyone.evaluation.part_colour import GROUPS
from animate_anyone.evaluation.suites import (
    FLICKER,
    FRAMES,
    IDENTITY,
    LONG_FRAMES,
    MEASURES,
    SuiteClip,
    evaluate_puppet,
    measure,
    puppet_clip,
    suite_table,
)
from animate_anyone.first_guess.character import CharacterFrames
from animate_anyone.synthetic.dataset import sample_clip
from animate_anyone.synthetic.figure.bricks import Label


def constructed(error: float = 10.0) -> tuple[NDArray[np.uint8], SuiteClip]:
    """Two frames; in the second the person, a quarter of it, is off by ``error``, in the first nothing is."""
    frames = np.full((2, 32, 32, 3), 100, np.uint8)
    masks = np.zeros((2, 32, 32), bool)
    masks[:, :16, :16] = True
    result = frames.copy()
    result[0, 20:] += 1  # or its PSNR would be infinite
    result[0, :2] += 1
    result[1, :16, :16] += np.uint8(error)
    labels = np.where(masks, Label.TORSO, Label.BACKGROUND).astype(np.uint8)
    return result, SuiteClip(0, frames, masks, frames, frames[0], frames[0], labels, still(frames[0]))


def still(reference: np.ndarray) -> CharacterFrames:
    """No first guess: the reference, whose pose is not known."""
    return CharacterFrames(reference, None, None, 1)


def decibel(mean_square: float) -> float:
    """Of an error in 8-bit units."""
    return float(10 * np.log10(255**2 / mean_square))


def test_measures_are_means_over_frames() -> None:
    result, clip = constructed()
    figures = measure(result, clip)
    assert figures.keys() == (set(MEASURES) - set(IDENTITY)) | {"parts", "limbs"}
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
    empty = replace(clip, masks=clip.masks & np.array([False, True])[:, None, None])
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
    assert np.array_equal(clip.labels, whole.labels.numpy()[:FRAMES])
    assert np.array_equal(clip.poses, draw_pose(whole.pose[:FRAMES], (128, 160), style="scaled"))
    # The reference is none of the frames that are compared.
    place = [int(np.array_equal(clip.reference, frame)) for frame in whole.frames.numpy()].index(1)
    assert place >= FRAMES
    assert np.array_equal(clip.reference_pose, draw_pose(whole.pose[place : place + 1], (128, 160), style="scaled")[0])


def test_a_run_on_a_tiny_model() -> None:
    pipeline = tiny.pipeline()
    report, sheet = evaluate_puppet(pipeline, characters=2, steps=1, seed=3, long_clips=0)
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
        for name in set(MEASURES) - {"limb_px", "limb_found"}:
            assert report[who][name] == pytest.approx(np.mean([c[who][name] for c in report["clips"]]), abs=1e-4)
        limbs = [c[who]["limbs"] for c in report["clips"]]
        expected = np.average([c[who]["limb_px"] for c in report["clips"]], weights=limbs)
        assert report[who]["limb_px"] == pytest.approx(expected, abs=1e-4)
        torso = [c[who]["parts"]["torso"] for c in report["clips"]]
        assert report[who]["parts"]["torso"] == pytest.approx(np.mean(torso), abs=1e-4)
    assert "long_clips" not in report and "without_temporal_layers" not in report
    for name in MEASURES:
        above = report["model"][name] - report["copy_reference"][name]
        assert report["above_copy_reference"][name] == pytest.approx(above, abs=2e-4)
    again, _ = evaluate_puppet(pipeline, characters=1, steps=1, seed=3, long_clips=0)
    for who in ("model", "copy_reference"):
        same = {name: value for name, value in report["clips"][0][who].items() if name != "identity_rank1"}
        assert {**again["clips"][0][who], "identity_rank1": None} == {**same, "identity_rank1": None}
        assert again["clips"][0][who]["identity_rank1"] is None  # there is nobody else
    other, _ = evaluate_puppet(pipeline, characters=1, steps=1, seed=4, guidance=1.0, long_clips=0)
    assert other["clips"][0]["model"] != report["clips"][0]["model"]
    assert other["clips"][0]["copy_reference"] == again["clips"][0]["copy_reference"]


def test_baseline_is_the_reference_repeated() -> None:
    """Computed anew with scikit-image."""
    report, _ = evaluate_puppet(tiny.pipeline(), characters=1, steps=1, long_clips=0)
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


def puppet(seed: int) -> SuiteClip:
    frames, masks, labels = faults.parts(seed)
    return SuiteClip(seed, frames, masks, frames, frames[-1], frames[-1], labels, still(frames[-1]))


def test_every_fault_moves_its_measure_and_no_other() -> None:
    """What moves by how little, or by how much, for each fault; the truth moves nothing."""
    clip = puppet(faults.IDLE)
    frames, labels = clip.frames, clip.labels
    truth = measure(frames, clip)
    assert [truth[m] for m in ("ssim", "colour", "limb_px", "limb_found", *FLICKER)] == [1, 0, 0, 1, 0, 0, 0]
    assert truth["person_psnr"] == np.inf

    shirt = measure(faults.recoloured(frames, labels, [Label.TORSO]), clip)
    assert shirt["parts"]["torso"] > 20 and shirt["parts"]["legs"] == shirt["parts"]["face"] == 0.0
    assert shirt["limb_px"] < 0.5 and shirt["flicker_still"] < 1

    arm = measure(faults.moved(frames, labels, [Label.LEFT_LOWER_ARM, Label.LEFT_HAND], 6), clip)
    assert 0.8 < arm["limb_px"] < 4 and arm["colour"] < shirt["colour"]

    bright = measure(faults.lit(frames, np.array([0.0, 12, 0, 12, 0, 12])), clip)
    assert min(bright[m] for m in FLICKER) > 8
    assert bright["limb_px"] < 0.2 and bright["colour"] < 4

    blur = measure(faults.blurred(frames, 2.0), clip)
    assert blur["limb_px"] < 0.6 and blur["person_psnr"] < 25


def test_long_clips_show_the_windows() -> None:
    pipeline = tiny.pipeline(window=16, overlap=2)
    report, _ = evaluate_puppet(pipeline, characters=1, steps=1, long_clips=3)
    json.dumps(report, allow_nan=False)
    long = report["long_clips"]
    assert (long["frames"], len(long["clips"])) == (LONG_FRAMES, 1)  # no more than there are characters
    assert long["windows"] == len(pipeline.plan(LONG_FRAMES, 1))
    assert long["copy_reference"]["seam_ratio"] == pytest.approx(1, abs=0.01)
    assert long["copy_reference"]["flicker_still"] < 0.1
    assert long["model"]["at_seams"] > 0
    assert f"{LONG_FRAMES} frames" in suite_table(report)


def test_carried_reference_is_a_baseline_of_models_that_are_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "LONG_FRAMES", 20)  # two windows
    pipeline = tiny.pipeline(reference_latents=True, carried_reference=True, window=16, overlap=2)
    report, _ = evaluate_puppet(pipeline, characters=1, steps=1, long_clips=1)
    clip = puppet_clip(0, (64, 64), (128, 128), "scaled")
    want = measure(np.stack(clip.carried), clip)
    got = report["clips"][0]["carried_reference"]
    assert {name: got[name] for name in want} == want
    assert got["person_psnr"] > report["clips"][0]["copy_reference"]["person_psnr"]  # it is in the right place
    assert report["carried_reference"]["psnr"] == pytest.approx(want["psnr"], abs=1e-4)
    assert report["long_clips"]["carried_reference"].keys() == report["long_clips"]["copy_reference"].keys()
    assert [line.split()[0] for line in suite_table(report).splitlines() if line].count("carried_reference") == 3
    plain, _ = evaluate_puppet(tiny.pipeline(reference_latents=True), characters=1, steps=1, long_clips=0)
    assert "carried_reference" not in json.dumps(plain) + suite_table(plain)


def test_with_and_without_temporal_layers() -> None:
    pipeline = tiny.pipeline(window=16)
    both, _ = evaluate_puppet(pipeline, characters=1, steps=1, long_clips=0, compare_motion=True)
    off, _ = evaluate_puppet(pipeline, characters=1, steps=1, long_clips=0, motion=False)
    assert (both["settings"]["temporal_layers"], off["settings"]["temporal_layers"]) == ("on", "off")
    for name in FLICKER:
        pair = both["without_temporal_layers"][name]
        assert pair == {"with": both["model"][name], "without": off["model"][name]}
    assert both["model"]["flicker"] != off["model"]["flicker"]
    assert "temporal layers" in suite_table(both) and "temporal layers" not in suite_table(off)
    with pytest.raises(InputError, match="compare_motion"):
        evaluate_puppet(pipeline, motion=False, compare_motion=True)


def test_table_is_aligned_and_says_nothing_where_nothing_is() -> None:
    row = {name: 1.5 for name in MEASURES} | {"limb_px": None, "parts": {name: None for name in GROUPS}}
    table = suite_table({who: row for who in ("model", "copy_reference", "above_copy_reference")}).splitlines()
    assert [line.split()[0] for line in table if line] == [
        "person", "model", "copy_reference", "difference", "colour", "model", "copy_reference",
    ]  # fmt: skip
    assert len({len(line) for line in table[:4]}) == 1
    assert "1.50 dB" in table[1] and " - " in table[1]
    assert len({len(line) for line in table[5:]}) == 1


def test_a_model_that_wants_an_environment_is_sent_to_its_own_suite() -> None:
    with pytest.raises(InputError, match=r"suite puppet: .* --suite puppet-environment"):
        evaluate_puppet(tiny.environment_pipeline(), characters=1)
