"""The figures agree with scikit-image, with OpenCV's grey, and with sums written out in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from animate_anyone.evaluation.image_metrics import l1, psnr, psnr_masked, ssim


@pytest.fixture(scope="module", params=["near", "far", "random"])
def pair(request: pytest.FixtureRequest) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:61, 0:83]
    first = np.stack([x * 3, y * 4, x + y], axis=-1).astype(np.uint8)
    if request.param == "random":
        return first, generator.integers(0, 256, first.shape, dtype=np.uint8)
    noise = generator.normal(0, 3 if request.param == "near" else 40, first.shape)
    return first, np.clip(first + noise, 0, 255).astype(np.uint8)


def test_psnr(pair: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    first, second = pair
    mean_square = ((first.astype(np.float64) - second.astype(np.float64)) ** 2).sum() / first.size
    assert psnr(first, second) == pytest.approx(10 * math.log10(255**2 / mean_square), abs=1e-9)
    assert psnr(first, second) == pytest.approx(peak_signal_noise_ratio(first, second, data_range=255), abs=1e-9)
    assert psnr(first, second) == psnr(second, first)


def test_psnr_does_not_wrap_round() -> None:
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    assert psnr(black, white) == pytest.approx(0.0)  # unsigned bytes would say 48.1
    assert psnr(black, black) == math.inf
    assert psnr(black, black + np.uint8(1)) == pytest.approx(20 * math.log10(255))


def test_psnr_masked(pair: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    first, second = pair
    mask = np.random.default_rng(1).random(first.shape[:2]) < 0.2
    inside = (first.astype(np.float64) - second)[mask] / 255
    assert psnr_masked(first, second, mask) == pytest.approx(-10 * math.log10((inside**2).mean()), abs=1e-9)
    assert psnr_masked(first, second, np.ones_like(mask)) == pytest.approx(psnr(first, second), abs=1e-9)
    changed = second.copy()
    changed[~mask] = 0
    assert psnr_masked(first, changed, mask) == psnr_masked(first, second, mask)
    for wrong in (np.zeros_like(mask), mask.astype(np.uint8), mask[1:]):
        with pytest.raises(ValueError, match="mask"):
            psnr_masked(first, second, wrong)


def test_l1(pair: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    first, second = pair
    want = np.abs(first.astype(np.float64) - second.astype(np.float64)).mean() / 255
    assert l1(first, second) == pytest.approx(want, abs=1e-12)
    assert l1(np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)) == 1.0


def test_ssim_in_grey_is_that_of_disco(pair: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV comes with the extra `pose`")
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pair]
    assert ssim(*pair) == pytest.approx(structural_similarity(*grey), abs=1e-4)  # one level of grey, now and then


def test_ssim_by_its_formula() -> None:
    """One window: means, sample variances and covariance put into the equation of Wang et al. 2004."""
    generator = np.random.default_rng(2)
    first, second = (generator.integers(0, 256, (7, 7, 3), dtype=np.uint8) for _ in range(2))
    a, b = (np.round(p.astype(np.float64) @ [0.299, 0.587, 0.114]) for p in (first, second))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    covariance = np.cov(a.ravel(), b.ravel())
    want = ((2 * a.mean() * b.mean() + c1) * (2 * covariance[0, 1] + c2)) / (
        (a.mean() ** 2 + b.mean() ** 2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2)
    )
    assert ssim(first, second) == pytest.approx(want, abs=1e-9)
    assert ssim(first, first) == pytest.approx(1.0)


@pytest.mark.parametrize("metric", [l1, psnr, ssim])
def test_what_cannot_be_compared_is_refused(metric: Callable[..., float]) -> None:
    picture = np.zeros((9, 9, 3), np.uint8)
    for first, second in (
        (picture, picture[:8]),
        (picture[..., 0], picture[..., 0]),
        (picture, picture.astype(np.float32)),
        (picture.astype(np.int64), picture.astype(np.int64)),
        (picture / 255, picture / 255),
        (picture[:0], picture[:0]),
    ):
        with pytest.raises(ValueError, match="picture"):
            metric(first, second)
    with pytest.raises(ValueError, match="smaller than the window"):
        ssim(picture[:6], picture[:6])
