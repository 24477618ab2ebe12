"""Sequences of frames, of which none is held but for a few: they read as the array of all of them does."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from animate_anyone.system import frame_sequence
from animate_anyone.system.frame_sequence import MadeFrames, StoredFrames, stored


@pytest.fixture(params=[1, 2**22])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(frame_sequence, "KEPT_BYTES", request.param)
    return int(request.param)


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.float16, np.float32])
@pytest.mark.parametrize("shape", [(3, 5), (7, 3, 3)])
def test_it_reads_as_an_array_does(kept: int, dtype: Any, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 2, (6, *shape)).astype(dtype)
    put: StoredFrames[Any] = StoredFrames(6, shape, dtype)
    for number in (4, 0, 5, 1, 3, 2):
        put[number] = array[number]
    made = MadeFrames(6, shape, dtype, array.__getitem__)
    for frames in (put, made, stored(made), MadeFrames(6, shape, dtype, array.__getitem__, once=True)):
        assert (frames.shape, frames.dtype, frames.ndim, len(frames)) == (array.shape, array.dtype, array.ndim, 6)
        assert np.array_equal(frames, array) and np.asarray(frames).dtype == dtype
        for number in (0, 5, -1, 2, -6):
            assert np.array_equal(frames[number], array[number])
        assert np.array_equal(frames[1:5:2], array[1:5:2])
        for part in ((2, 1), (-1, slice(None), 2), (slice(1, 4), 0), (slice(None), slice(2), 1)):
            assert np.array_equal(frames[part], array[part])
        assert all(np.array_equal(frame, own) for frame, own in zip(frames, array, strict=True))
        assert (frames.any(), frames.min(), frames.max()) == (array.any(), array.min(), array.max())
        assert np.array([frames, frames], dtype).shape == (2, *array.shape)
        with pytest.raises(IndexError):
            frames[6]
    put[3] = array[0]
    assert np.array_equal(put[3], array[0])


def test_what_is_not_a_number_is_seen() -> None:
    values = np.array([[0.5], [np.nan], [0.2]], np.float32)
    frames = MadeFrames(3, (1,), np.float32, values.__getitem__)
    assert np.isnan(frames.min()) and np.isnan(frames.max())


def test_each_is_made_once_and_few_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_sequence, "KEPT_BYTES", 2 * 10)
    made: list[int] = []

    def make(number: int) -> Any:
        made.append(number)
        return np.full(10, number, np.uint8)

    frames = MadeFrames(20, (10,), np.uint8, make, once=True)
    for number in [*range(20), *reversed(range(20))]:
        assert (frames[number] == number).all()
        assert frames._made is not None and len(frames._made._store._recent) <= 2
    assert made == list(range(20))
    threads = [threading.Thread(target=lambda: list(map(np.sum, frames))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == list(range(20))


def test_what_was_put_in_stays_as_it_was() -> None:
    frames: StoredFrames[np.uint8] = StoredFrames(1, (2,), np.uint8)
    own = np.zeros(2, np.uint8)
    frames[0] = own
    own[:] = 9
    assert not frames[0].any()
    with pytest.raises(ValueError, match="read-only"):
        frames[0][0] = 1
    with pytest.raises(ValueError, match=r"array is uint8 \(3,\); frames are uint8 \(2,\)"):
        frames[0] = np.zeros(3, np.uint8)
