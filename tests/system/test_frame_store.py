"""Arrays by frame number, of which few stay in memory."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import pytest

from animate_anyone.errors import InputError
from animate_anyone.system.frame_store import FrameStore


def frame(number: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(number).integers(0, 2, (3, 5)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.float16, np.float32])
@pytest.mark.parametrize("kept", [0, 200, 10**6])
def test_what_comes_out_is_what_went_in(kept: int, dtype: Any) -> None:
    store = FrameStore(kept)
    for number in (0, 5, 1, 9, 2):
        store[number] = frame(number, dtype)
    for number in (9, 0, 2, 5, 1, 0):
        assert store[number].dtype == dtype and np.array_equal(store[number], frame(number, dtype))
    assert list(store) == [0, 5, 1, 9, 2] and len(store) == 5 and 3 not in store
    with pytest.raises(KeyError):
        store[3]


def test_frames_come_and_go() -> None:
    """What is put in the place of another, or deleted, leaves no other array changed; the file does not grow on."""
    store, rng = FrameStore(2 * frame(0).nbytes), np.random.default_rng(0)
    there: dict[int, int] = {}
    for turn in range(500):
        number = int(rng.integers(0, 12))
        if number in there and rng.random() < 0.4:
            del store[number], there[number]
        else:
            store[number], there[number] = frame(turn), turn
        for other in rng.permutation(list(there)):
            assert np.array_equal(store[int(other)], frame(there[int(other)]))
    assert store._file is not None and store._file.seek(0, 2) <= 12 * frame(0).nbytes


def test_no_file_while_all_fit() -> None:
    store = FrameStore(10**6)
    store.update({number: frame(number) for number in range(100)})
    assert store._file is None


def test_arrays_are_of_one_kind() -> None:
    store = FrameStore()
    store[0] = frame(0)
    with pytest.raises(ValueError, match="float32"):
        store[1] = frame(1, np.uint8)


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def seek(self, place: int) -> None: ...

        def write(self, content: Any) -> int:
            return 1

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    store = FrameStore(0)
    store[0] = frame(0)
    with pytest.raises(InputError, match=r"the disk is full.*make room, or set TMPDIR"):
        store[1] = frame(1)
