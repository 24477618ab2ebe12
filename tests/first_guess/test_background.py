"""What the person hides, taken from frames that show it."""

from __future__ import annotations

import numpy as np
import pytest

from animate_anyone.conditions.environment import empty
from animate_anyone.errors import InputError
from animate_anyone.first_guess.background import fill_hidden

FRAMES, HEIGHT, WIDTH = 8, 48, 64


def background(shift: float = 0.0) -> np.ndarray:
    """Smooth waves, so that places between pixels are known too."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    x = x + shift
    planes = [np.sin(x / 5), np.cos(y / 4 + x / 9), np.sin((x + y) / 7)]
    return np.rint(127 + 90 * np.stack(planes, -1)).astype(np.uint8)


def walk(pan: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A hole that moves 5 pixels a frame over a background that moves ``pan`` to the left."""
    frames = np.stack([background(pan * k) for k in range(FRAMES)])
    hidden = np.zeros(frames.shape[:3], bool)
    for k in range(FRAMES):
        hidden[k, 10:40, 8 + 5 * k : 22 + 5 * k] = True
    return frames, hidden


def panned(pan: float):
    def moved(start: int, end: int) -> np.ndarray:
        return np.array([[1, 0, -pan * (end - start)], [0, 1, 0], [0, 0, 1]], float)

    return moved


@pytest.mark.parametrize("pan", [0.0, 1.5, -2.0])
def test_hidden_places_come_from_the_frames_that_show_them(pan: float) -> None:
    frames, hidden = walk(pan)
    filled, still = fill_hidden(empty(frames, hidden), hidden, panned(pan))
    found = hidden & ~still
    assert found.sum() > 0.9 * hidden.sum()
    assert np.abs(filled[found].astype(int) - frames[found]).max() <= (0 if pan == int(pan) else 4)
    assert np.array_equal(filled[~hidden], frames[~hidden])
    assert (filled[still] == empty(frames, hidden)[still]).all()


def test_what_no_frame_shows_stays_hidden() -> None:
    frames, hidden = walk()
    hidden[:] = hidden[3]
    filled, still = fill_hidden(empty(frames, hidden), hidden, panned(0.0))
    assert np.array_equal(still, hidden) and np.array_equal(filled, empty(frames, hidden))


def test_a_frame_that_is_made_up_gives_the_others_what_they_lack() -> None:
    frames, hidden = walk()
    hidden[:] = hidden[3]
    made = empty(frames, hidden)
    made[2], hidden[2] = frames[2], False
    filled, still = fill_hidden(made, hidden, panned(0.0), source=2)
    assert not still.any() and np.array_equal(filled, frames)
    assert np.array_equal(fill_hidden(made, hidden, panned(0.0), source=4)[1], hidden)


def test_nothing_is_taken_where_the_background_cannot_be_followed_or_has_changed() -> None:
    frames, hidden = walk()
    assert np.array_equal(fill_hidden(empty(frames, hidden), hidden, lambda start, end: None)[1], hidden)
    # Told of a wrong movement, the surroundings do not fit.
    _, still = fill_hidden(empty(frames, hidden), hidden, panned(6.0))
    assert (hidden & ~still).sum() < 0.1 * hidden.sum()
    lit = frames.copy()
    lit[4:] //= 3
    filled, still = fill_hidden(empty(lit, hidden), hidden, panned(0.0))
    found = hidden & ~still
    assert np.abs(filled[found].astype(int) - lit[found]).mean() < 10


def test_objects_and_margins_are_no_background() -> None:
    frames, hidden = walk()
    unusable = np.zeros_like(hidden)
    unusable[:, :, 40:] = True
    with_objects = frames.copy()
    with_objects[unusable] = 255
    filled, still = fill_hidden(empty(with_objects, hidden), hidden, panned(0.0), unusable)
    assert not (filled[hidden & ~still] == 255).all(-1).any()
    assert not still[0, 10:40, 8:22].any()  # frame 3 and later show all of it
    assert np.array_equal(filled[unusable & ~hidden], with_objects[unusable & ~hidden])


def test_masks_of_another_size_are_refused() -> None:
    frames, hidden = walk()
    with pytest.raises(InputError, match="frames are"):
        fill_hidden(frames, hidden[:, 1:], panned(0.0))
