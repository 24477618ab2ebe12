"""The background behind a person, made up."""

import sys

import numpy as np
import pytest

from animate_anyone.conditions.environment import fill
from animate_anyone.first_guess.inpainting import behind, complete


def stripes(width: int = 96, height: int = 80) -> np.ndarray:
    rows = np.where(np.arange(height) // 8 % 2, 200, 40).astype(np.uint8)
    return np.repeat(np.repeat(rows[:, None, None], width, 1), 3, 2)


def hole(picture: np.ndarray) -> np.ndarray:
    mask = np.zeros(picture.shape[:2], bool)
    mask[20:60, 36:60] = True
    return mask


def test_stripes_go_on_behind_the_hole_and_nothing_else_changes() -> None:
    picture = stripes()
    spoilt = np.where(hole(picture)[..., None], np.uint8(255), picture)
    made = complete(spoilt, hole(picture))
    assert np.abs(made.astype(int) - picture)[hole(picture)].mean() < 15
    assert np.array_equal(made[~hole(picture)], picture[~hole(picture)])


def test_the_same_every_time() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (80, 96, 3), np.uint8)
    assert np.array_equal(complete(picture, hole(picture)), complete(picture, hole(picture)))


def test_a_large_picture_is_filled_at_a_smaller_size() -> None:
    picture = np.kron(stripes(), np.ones((8, 8, 1), np.uint8))
    mask = np.kron(hole(stripes()), np.ones((8, 8), bool))
    made = complete(np.where(mask[..., None], np.uint8(255), picture), mask)
    assert np.abs(made.astype(int) - picture)[mask].mean() < 25
    assert np.array_equal(made[~mask], picture[~mask])


@pytest.mark.parametrize("shape", [(80, 96), (8, 9)])
def test_no_hole_and_nothing_but_a_hole(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 7, np.uint8)
    assert np.array_equal(complete(picture, np.zeros(shape, bool)), picture)
    assert complete(picture, np.ones(shape, bool)).shape == picture.shape


def test_the_hole_is_wider_than_the_person() -> None:
    alpha = np.zeros((40, 40), np.float32)
    alpha[15:25, 15:25] = 0.5
    grown = behind(alpha, 100.0)
    assert grown[20, 13] and not grown[20, 10] and grown[alpha > 0].all()


def test_without_patchmatch_the_hole_is_filled_smoothly(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = stripes()
    monkeypatch.setitem(sys.modules, "patchmatch", None)
    made = complete(picture, hole(picture))
    assert np.array_equal(made, fill(picture[None], hole(picture)[None])[0])
