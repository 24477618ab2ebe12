"""The Fréchet distance against closed forms, against SciPy's root of a matrix, and from pieces."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from animate_anyone.evaluation.frechet import Gaussian, frechet_distance

Array = NDArray[np.float64]


def gaussian(mean: Array, covariance: Array) -> Gaussian:
    """Of just this mean and covariance: 2 d points on the axes of the covariance."""
    values, vectors = np.linalg.eigh(covariance)
    count = 2 * len(mean)
    axes = (vectors * np.sqrt(values.clip(0) * (count - 1) / 2)).T
    out = Gaussian(len(mean))
    out.add(np.concatenate([mean + axes, mean - axes]))
    assert np.allclose(out.covariance, covariance)
    return out


def random_covariance(seed: int, dimension: int, rank: int | None = None) -> Array:
    factor = np.random.default_rng(seed).standard_normal((dimension, rank or dimension))
    return factor @ factor.T


def test_covariances_that_commute() -> None:
    """With one basis: |m1 - m2|² + Σ (√λ1 - √λ2)²."""
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))
    first, second = np.array([1.0, 4, 9, 0.25, 2]), np.array([4.0, 1, 16, 0.25, 0])
    means = np.arange(5.0), np.array([3.0, 1, 2, 3, 0])
    want = ((means[0] - means[1]) ** 2).sum() + ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    sides = [gaussian(m, basis @ np.diag(v) @ basis.T) for m, v in zip(means, (first, second), strict=True)]
    assert frechet_distance(*sides) == pytest.approx(
        want, rel=1e-6
    )  # the root of an eigenvalue of 0 has half the digits
    assert frechet_distance(*reversed(sides)) == pytest.approx(want, rel=1e-6)


def test_one_dimension() -> None:
    """(m1 - m2)² + (s1 - s2)²."""
    distance = frechet_distance(gaussian(np.array([1.0]), np.array([[9.0]])), gaussian(np.array([-2.0]), np.eye(1)))
    assert distance == pytest.approx(9 + 4)


def test_against_scipy() -> None:
    one, other = random_covariance(1, 12), random_covariance(2, 12)
    first, second = gaussian(np.zeros(12), one), gaussian(np.full(12, 0.5), other)
    want = 3 + np.trace(one + other - 2 * sqrtm(one @ other).real)
    assert frechet_distance(first, second) == pytest.approx(want, rel=1e-8)


@pytest.mark.parametrize("rank", [1, 3])
def test_alike_and_singular(rank: int) -> None:
    """Fewer clips than features: the covariance has no full rank, and nothing is added to it."""
    side = gaussian(np.ones(20), random_covariance(3, 20, rank))
    assert frechet_distance(side, side) == pytest.approx(0, abs=1e-6)
    moved = gaussian(np.ones(20) + 2, random_covariance(3, 20, rank))
    assert frechet_distance(side, moved) == pytest.approx(80, rel=1e-6)


def test_pieces_give_what_the_whole_gives() -> None:
    points = 1e6 + np.random.default_rng(4).standard_normal((50, 7)) * np.arange(1, 8)
    whole, pieces = Gaussian(7), Gaussian(7)
    whole.add(points)
    for start, end in ((0, 1), (1, 2), (2, 30), (30, 50)):
        pieces.add(points[start:end])
    assert pieces.count == whole.count == 50
    for side in (whole, pieces):  # far from 0 a sum of squares would have lost the digits
        assert np.allclose(side.mean, points.mean(0), rtol=1e-14)
        assert np.allclose(side.covariance, np.cov(points, rowvar=False), rtol=1e-8)


def test_what_is_no_set_of_features() -> None:
    side = Gaussian(3)
    for wrong in (np.zeros(3), np.zeros((2, 4)), np.zeros((0, 3)), np.array([[0, np.nan, 0]])):
        with pytest.raises(ValueError, match="features"):
            side.add(wrong)
    side.add(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="two at least"):
        frechet_distance(side, side)
