"""Silhouettes as maskers find them."""

import numpy as np

from animate_anyone.training.silhouette_errors import EXACT, spoil


def disc() -> np.ndarray:
    y, x = np.mgrid[:128, :128]
    return np.hypot(y - 64, x - 64) < 30


def test_errors_are_small_and_their_share_is_as_stated() -> None:
    truth, wrong = disc(), []
    for seed in range(200):
        found = spoil(truth, np.random.default_rng(seed))
        assert found.dtype == bool and found.shape == truth.shape
        wrong.append(float((found ^ truth).sum() / truth.sum()))
    assert abs(np.mean([value == 0 for value in wrong]) - EXACT) < 0.15
    assert 0.02 < np.mean(wrong) < 0.2 and max(wrong) < 0.5


def test_the_same_seed_makes_the_same_errors_and_nobody_stays_nobody() -> None:
    for seed in range(5):
        again = [spoil(disc(), np.random.default_rng(seed)) for _ in range(2)]
        assert np.array_equal(*again)
        assert not spoil(np.zeros((16, 16), bool), np.random.default_rng(seed)).any()
