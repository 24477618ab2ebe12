"""What networks change on their grid, added to a first guess at its own size."""

import numpy as np

from animate_anyone.first_guess.mending import TRUST, Part, mend


def noise(side: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(60, 200, (side, side, 3), np.uint8)


def grid(picture: np.ndarray, side: int = 16) -> np.ndarray:
    step = len(picture) // side
    return picture.reshape(side, step, side, step, 3).mean((1, 3)).round().astype(np.uint8)


def test_networks_that_change_nothing_leave_every_detail() -> None:
    guess = noise()
    assert np.array_equal(mend(guess, grid(guess), grid(guess)), guess)


EVERYWHERE = np.ones((64, 64), np.float32)


def test_a_small_change_is_added_and_detail_stays() -> None:
    guess = noise()
    made = mend(guess, grid(guess), grid(guess) + np.uint8(10), EVERYWHERE).astype(float)
    assert abs((made - guess).mean() - 10 * TRUST.body) < 0.5
    assert np.corrcoef((made - made.mean()).ravel(), (guess - guess.mean()).ravel())[0, 1] > 0.98


def test_of_a_large_change_less_is_taken_and_no_detail_is_lost() -> None:
    guess = noise()
    small, made = grid(guess), grid(guess).copy()
    made[4:12, 4:12] = 255
    result = mend(guess, small, made, EVERYWHERE).astype(float)
    detail, before = result[24:40, 24:40], guess[24:40, 24:40].astype(float)
    assert detail.std() > 0.9 * before.std() and 2 < (detail - before).mean() < 30
    assert np.array_equal(result[:8, :8], guess[:8, :8])


def test_outside_the_region_the_guess_stands() -> None:
    guess, region = noise(), np.zeros((64, 64), np.float32)
    region[16:48, 16:48] = 1
    result = mend(guess, grid(guess), grid(guess) + np.uint8(20), region)
    assert np.array_equal(result[:4], guess[:4]) and np.array_equal(result[:, -4:], guess[:, -4:])
    assert (result[28:36, 28:36].astype(int) - guess[28:36, 28:36]).mean() > 8


def test_at_the_networks_own_size_the_same_share_is_taken() -> None:
    guess = noise(16)
    made = mend(guess, guess, guess + np.uint8(10), EVERYWHERE[:16, :16]).astype(int)
    assert abs((made - guess).mean() - 10 * TRUST.body) < 0.5


def test_of_a_guess_that_moved_nothing_the_networks_picture_stands() -> None:
    guess = noise()
    small, made = grid(guess), grid(guess).copy()
    made[4:12, 4:12] = 255
    result = mend(guess, small, made).astype(float)
    assert result[24:40, 24:40].min() > 240
    assert np.array_equal(result[:8, :8], guess[:8, :8])


def test_faces_and_colours_stay_the_pictures_own() -> None:
    """Of a change to a drawn body only what is fine is taken; of one to its head less, by the grid's size."""
    guess, drawn = noise(), np.full((64, 64), Part.BODY)
    even = mend(guess, grid(guess), grid(guess) + np.uint8(20), EVERYWHERE, drawn=drawn).astype(int) - guess
    assert np.abs(even).max() <= 2
    fine = grid(guess).copy()
    fine[8, 8] += 40
    body = mend(guess, grid(guess), fine, EVERYWHERE, drawn=drawn).astype(int) - guess
    nowhere = mend(guess, grid(guess), fine, EVERYWHERE).astype(int) - guess
    assert body[32:36, 32:36].mean() > 0.8 * nowhere[32:36, 32:36].mean() > 8
    head = mend(guess, grid(guess), fine, EVERYWHERE, drawn=np.full_like(drawn, Part.HEAD)).astype(int) - guess
    share = TRUST.head / 4 / TRUST.body
    assert abs(head[32:36, 32:36].mean() - share * nowhere[32:36, 32:36].mean()) < 1


def test_far_from_the_character_the_background_stands() -> None:
    """Changes are taken whole next to what is drawn, where the outline may be wrong, and not where it is far."""
    guess, drawn = noise(), np.zeros((64, 64), np.uint8)
    drawn[:, :16] = Part.BODY
    change = mend(guess, grid(guess), grid(guess) + np.uint8(20), EVERYWHERE, drawn=drawn).astype(int) - guess
    assert change[:, 18:22].mean() > 12 and np.abs(change[:, 48:]).max() == 0
    nobody = mend(guess, grid(guess), grid(guess) + np.uint8(20), EVERYWHERE, drawn=np.zeros_like(drawn))
    assert np.array_equal(nobody, guess)
