"""The matte of a silhouette's edge, and the colours of what is cut out."""

import numpy as np
import pytest

from animate_anyone.first_guess.matting import estimate_matte, own_colours

FRONT, BACK = np.array([220.0, 60, 40]), np.array([30.0, 120, 200])


def blended(width: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A disc with a soft edge over another colour, and its true share of each pixel."""
    y, x = np.mgrid[:width, :width]
    alpha = np.clip((12 - np.hypot(x - width / 2, y - width / 2)) / 4 + 0.5, 0, 1)
    picture = alpha[..., None] * FRONT + (1 - alpha[..., None]) * BACK
    return picture.round().astype(np.uint8), alpha.astype(np.float32)


def test_a_soft_edge_is_found_from_a_hard_and_displaced_one() -> None:
    picture, truth = blended()
    rough = np.roll(truth > 0.5, 1, axis=1)
    found = estimate_matte(picture, rough, outside=5, inside=5)
    assert np.abs(found - truth).max() < 0.05
    assert np.abs(found - truth).mean() < np.abs(rough - truth).mean() / 5


def test_the_colours_of_the_edge_are_the_persons_own() -> None:
    picture, alpha = blended()
    found = own_colours(picture, alpha)
    edge = (alpha > 0.2) & (alpha < 1)
    assert np.abs(found[edge].astype(float) - FRONT).mean() < 6
    assert np.abs(picture[edge].astype(float) - FRONT).mean() > 30
    assert np.array_equal(found[alpha >= 1], picture[alpha >= 1])


@pytest.mark.parametrize("value", [False, True])
def test_silhouettes_without_an_edge(value: bool) -> None:
    picture, _ = blended(16)
    assert np.array_equal(estimate_matte(picture, np.full((16, 16), value), 4, 3), np.full((16, 16), value, np.float32))


def test_one_colour_everywhere_and_a_person_at_the_frames_edge() -> None:
    flat = np.full((24, 24, 3), 90, np.uint8)
    silhouette = np.zeros((24, 24), bool)
    silhouette[8:, :] = True
    found = estimate_matte(flat, silhouette, 4, 3)
    assert np.isfinite(found).all() and (found[14:] == 1).all() and (found[:2] == 0).all()
