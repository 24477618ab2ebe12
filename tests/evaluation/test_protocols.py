"""Each protocol's figures, against scikit-image and against DisCo's arithmetic written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from animate_anyone.errors import InputError
from animate_anyone.evaluation.image_metrics import psnr_wrapped
from animate_anyone.evaluation.protocols import METRICS, PROTOCOLS, find_protocol, parse_metrics
from animate_anyone.evaluation.video_metrics import frame_figures

Picture = NDArray[np.uint8]
DISCO, CLEAN = PROTOCOLS["disco-legacy"], PROTOCOLS["clean"]


def pair(seed: int = 0, size: tuple[int, int] = (64, 64), spread: float = 20) -> tuple[Picture, Picture]:
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    first = np.stack([x * 3, y * 2, x + y], axis=-1).astype(np.uint8)
    return first, np.clip(first + generator.normal(0, spread, first.shape), 0, 255).astype(np.uint8)


def test_wrapping_psnr_is_arithmetic_modulo_256() -> None:
    first, second = pair()
    total = 0
    for a, b in zip(first.ravel().tolist(), second.ravel().tolist(), strict=True):
        total += ((a - b) % 256) ** 2 % 256
    assert psnr_wrapped(first, second) == pytest.approx(10 * math.log10(255**2 / (total / first.size)))
    # Two pictures that have nothing in common get 28 dB all the same.
    generator = np.random.default_rng(1)
    noise = [generator.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(2)]
    assert psnr_wrapped(noise[0], noise[1]) == pytest.approx(27.9, abs=0.1)
    assert psnr_wrapped(first, first) == 100
    assert psnr_wrapped(first, first + np.uint8(16)) == 100  # 16² = 256
    with pytest.raises(ValueError, match="uint8"):
        psnr_wrapped(first / 255, second / 255)  # type: ignore[arg-type]


def test_figures_of_disco() -> None:
    first, second = pair(size=(256, 256))
    figures = frame_figures(first, second, METRICS, DISCO)
    assert list(figures) == ["psnr", "psnr_disco", "ssim", "l1", "l1_disco"]
    assert figures["psnr"] == pytest.approx(peak_signal_noise_ratio(first, second, data_range=255), abs=1e-9)
    grey = [np.round(p.astype(np.float64) @ [0.299, 0.587, 0.114]).astype(np.uint8) for p in (first, second)]
    assert figures["ssim"] == pytest.approx(structural_similarity(*grey), abs=1e-4)  # one level of grey, now and then
    absolute = np.abs(first.astype(np.float64) - second)
    assert figures["l1"] == pytest.approx(absolute.mean() / 255, abs=1e-12)
    assert figures["l1_disco"] == pytest.approx((absolute / (256 * 256)).mean(), rel=1e-9)
    assert figures["psnr_disco"] == psnr_wrapped(first, second) != pytest.approx(figures["psnr"], abs=1)


def test_figures_of_clean() -> None:
    first, second = pair()
    assert list(frame_figures(first, second, METRICS, CLEAN)) == ["psnr", "ssim", "l1"]
    assert list(frame_figures(first, second, ["l1"], CLEAN)) == ["l1"]
    assert frame_figures(first, first, METRICS, CLEAN) == {"psnr": math.inf, "ssim": 1.0, "l1": 0.0}


def test_frames_are_cropped_to_the_centre_and_scaled() -> None:
    for size, box in (((300, 700), (0, 200, 300, 500)), ((701, 300), (200, 0, 500, 300))):
        frame = pair(size=size)[0]
        want = Image.fromarray(frame).crop(box).resize((256, 256), Image.Resampling.BILINEAR)
        assert np.array_equal(DISCO.prepare(frame), np.asarray(want))
        assert CLEAN.prepare(frame) is frame
    square = pair(size=(256, 256))[0]
    assert np.array_equal(DISCO.prepare(square), square)
    assert DISCO.prepare(pair(size=(64, 96))[0]).shape == (256, 256, 3)


def test_protocols_say_what_they_are() -> None:
    told = DISCO.describe()
    want = {"name": "disco-legacy", "crop": "centre square", "resolution": [256, 256], "lpips_range": "[0, 1]"}
    assert told | want | {"clip_length": 16, "clip_stride": 1} == told
    assert {"psnr_disco", "l1_disco"} <= told.keys()
    told = CLEAN.describe()
    assert told | {"crop": "none", "resolution": "as given", "lpips_range": "[-1, 1]"} == told
    assert not {"psnr_disco", "l1_disco"} & told.keys()
    assert find_protocol("clean") is CLEAN
    with pytest.raises(InputError, match="--protocol disco: not known; there are: clean, disco-legacy"):
        find_protocol("disco")


def test_metrics_by_name() -> None:
    assert parse_metrics(None) == METRICS
    assert parse_metrics(" FID-VID,psnr, ") == ("psnr", "fid_vid")
    for wrong, what in (("psnr,sharpness", "sharpness is not known"), (",", "names no metric")):
        with pytest.raises(InputError, match=what):
            parse_metrics(wrong)
