"""The scripts behind the gallery and the figures of a real clip: that they measure what they say."""

from __future__ import annotations

import importlib
import json
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import tiny
from animate_anyone.errors import InputError
from animate_anyone.evaluation.suites import puppet_clip
from animate_anyone.media import read_picture
from animate_anyone.structures import PoseSequence
from animate_anyone.synthetic.dataset import sample_clip

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def reenactment(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    return importlib.import_module("self_reenactment")


@pytest.fixture
def cases(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    return importlib.import_module("gallery_cases")


def test_region_lies_on_the_person(reenactment: ModuleType) -> None:
    """Of characters whose mask is known, most of the person is in the region and most of the region is person."""
    within, filled = [], []
    for seed in range(4):
        clip = sample_clip(seed, num_frames=24, frame_indices=[0, 12], supersample=1)
        region, person = reenactment.person_regions(clip.pose), clip.mask.numpy()
        assert region.shape == person.shape and region.dtype == np.bool_
        within.append((region & person).sum() / person.sum())
        filled.append((region & person).sum() / region.sum())
    assert np.mean(within) > 0.75, within
    assert np.mean(filled) > 0.65, filled


def test_first_good_frame_shows_the_body(reenactment: ModuleType) -> None:
    scores = np.ones((12, 128), np.float32)
    scores[:3, 8:14] = 0  # the legs come into view late
    poses = PoseSequence(np.zeros((12, 128, 2), np.float32), scores, (64, 64), Fraction(24))
    assert reenactment.first_good(poses) == 0, "a quarter of the clip without legs is as the clip is"
    scores[1:3] = 1
    assert reenactment.first_good(poses) == 1


def test_reenactment_of_a_video(
    reenactment: ModuleType, dancers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole run on a tiny model; the poses are told, so that no estimator is needed."""
    model = tmp_path / "model"
    tiny.pipeline(reference_latents=True, carried_reference=True).save_pretrained(model)
    known = PoseSequence.load(dancers / "dance.npz")
    monkeypatch.setattr("animate_anyone.workflows.driving.Driver.poses", lambda self, *_: (known[self.index], ["told"]))
    written = {name: tmp_path / f"out.{name}" for name in ("json", "png", "md")}
    asked = ["--frames", "0:6", "--longest", "128", "--model", str(model), "--sheet"]
    asked += [str(written["png"]), "--json", str(written["json"]), "--output", str(written["md"])]
    reenactment.run([str(dancers / "dance.mp4"), *asked])
    report = json.loads(written["json"].read_text())
    assert (report["frames"], report["reference"], report["compared"]) == ([0, 6], 0, 5)
    assert max(report["size"]) <= 128
    assert report["figures"].keys() == {"first guess", "model", "copy_reference"}
    for name in reenactment.MEASURES:
        assert report["figures"]["first guess"][name] != report["figures"]["model"][name], name
    copy = report["figures"]["copy_reference"]
    assert np.isfinite(copy["psnr"]), "the reference itself is not compared"
    assert "| copy_reference | " in written["md"].read_text()
    assert read_picture(written["png"]).shape[0] > 4 * 96
    with pytest.raises(InputError, match="holds poses"):
        reenactment.run([str(dancers / "dance.npz"), *asked])
    with pytest.raises(InputError, match="none is left to compare"):
        reenactment.run([str(dancers / "dance.mp4"), *asked, "--frames", "0:1"])


def test_figures_of_a_truth_that_is_blurred_or_noisy(reenactment: ModuleType) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 48, 3), np.uint8)
    frames = np.stack([gaussian_filter(frame, (1, 1, 0)) for frame in frames])
    people = np.zeros((3, 64, 48), bool)
    people[:, 16:48, 12:36] = True
    clip = reenactment.RealClip(None, frames, None, 0, frames[0], people, [])
    same, soft = (reenactment.compare(made, clip) for made in (frames, gaussian_filter(frames, (0, 2, 2, 0))))
    assert same["sharpness"] == 1 and same["ssim"] == 1 and np.isinf(same["psnr"])
    assert soft["sharpness"] < 0.7 and soft["ssim"] < 0.9
    spoilt = frames.copy()
    spoilt[1:, :8] = 0  # outside the region
    outside = reenactment.compare(spoilt, clip)
    assert np.isinf(outside["person_psnr"]) and np.isfinite(outside["psnr"]) and outside["sharpness"] == 1


def test_gallery_shows_the_suite(cases: ModuleType) -> None:
    """The same characters, frames and references as the suite's, or the page's figures would not be the suite's."""
    clip, reference = cases.suite_clip(3, (64, 64))
    suite = puppet_clip(3, (64, 64), (64, 64), "scaled")
    assert (clip.frames.numpy()[:reference] == suite.frames).all()
    assert (clip.frames.numpy()[reference] == suite.reference).all()


def test_figures_by_region(cases: ModuleType) -> None:
    """A result that is right but for the head is wrong on the head alone; blur takes detail away."""
    clip, reference = cases.suite_clip(3, (64, 64))
    shown = list(range(4))
    truth = clip.frames.numpy()[shown]
    case = cases.Case(clip, shown, reference, truth.copy())
    head = case.region(*cases.HEAD)
    assert head.any() and not (head & ~case.region()).any()
    case.result[head] ^= 64
    assert (case.psnr(head)[0] < 20).all()
    rest = case.region() & ~head
    assert np.isinf(case.psnr(rest)[0]).all() and np.isfinite(case.psnr(rest)[1]).all()
    flat = cases.Case(clip, shown, reference, np.full_like(truth, 100))
    assert cases.detail(flat, flat.region()) == 0
    assert cases.detail(cases.Case(clip, shown, reference, truth), head) == 1
