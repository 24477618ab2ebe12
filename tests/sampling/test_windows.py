"""Windows of temporal aggregation, and their mean."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from animate_anyone.errors import InputError
from animate_anyone.sampling.windows import WindowMean, window_weights, windows, wrapping_windows

CASES = [
    (frames, length, overlap)
    for frames in (1, 2, 7, 8, 9, 15, 24, 25, 100)
    for length in (1, 2, 8, 24)
    for overlap in (0, 1, 4, 7)
    if overlap < length
]


@pytest.mark.parametrize(("frames", "length", "overlap"), CASES)
def test_windows_cover_and_overlap(frames: int, length: int, overlap: int) -> None:
    found = windows(frames, length, overlap)
    assert {f for window in found for f in window} == set(range(frames))
    assert {len(window) for window in found} == {min(length, frames)}
    for window in found:
        assert window == list(range(window[0], window[-1] + 1))  # in a row, none wraps round
    for one, other in pairwise(found):
        assert one[0] < other[0]
        assert one[-1] - other[0] + 1 >= overlap
    # No more windows than it takes.
    assert len(found) == 1 + max(0, -(-(frames - length) // (length - overlap)))


def test_known_windows() -> None:
    assert windows(10, 4, 2) == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9]]
    assert windows(9, 4, 1) == [[0, 1, 2, 3], [3, 4, 5, 6], [5, 6, 7, 8]]
    assert windows(4, 4, 2) == [[0, 1, 2, 3]]
    assert windows(3, 24, 4) == [[0, 1, 2]]


@pytest.mark.parametrize(("length", "overlap"), [(0, 0), (-1, 0), (4, 4), (4, 5), (4, -1)])
def test_impossible_windows_are_refused(length: int, overlap: int) -> None:
    with pytest.raises(InputError, match=rf"window {length}, overlap {overlap}"):
        windows(10, length, overlap)


@pytest.mark.parametrize(("length", "overlap"), [(1, 0), (8, 0), (8, 2), (8, 7), (24, 4)])
def test_weights_fade_in_and_out(length: int, overlap: int) -> None:
    weights = window_weights(length, overlap)
    assert weights.shape == (length,)
    assert weights.min() > 0
    assert weights.max() <= 1
    torch.testing.assert_close(weights, weights.flip(0))
    ramp = min(overlap, length // 2)
    torch.testing.assert_close(weights[:ramp], torch.arange(1, ramp + 1) / (overlap + 1))
    if 2 * overlap < length:
        assert (weights[overlap : length - overlap] == 1).all()
        # Where two windows overlap as asked, their weights together are 1.
        torch.testing.assert_close(weights[:overlap] + weights[length - overlap :], torch.ones(overlap))


@pytest.mark.parametrize(("frames", "length", "overlap"), [(10, 4, 2), (9, 4, 1), (5, 8, 3), (23, 8, 7), (6, 3, 0)])
def test_mean_is_the_weighted_mean(frames: int, length: int, overlap: int) -> None:
    torch.manual_seed(0)
    schedule = windows(frames, length, overlap)
    weights = torch.rand(len(schedule[0])) + 0.1  # any, not only those that rise and fall alike
    predictions = [torch.randn(2, 3, len(schedule[0]), 2, 2) for _ in schedule]
    mean = WindowMean(torch.empty(2, 3, frames, 2, 2), weights)
    for window, prediction in zip(schedule, predictions, strict=True):
        mean.add(window, prediction)
    for frame in range(frames):
        total, weight = torch.zeros(2, 3, 2, 2), 0.0
        for window, prediction in zip(schedule, predictions, strict=True):
            if frame in window:
                place = window.index(frame)
                total, weight = total + weights[place] * prediction[:, :, place], weight + float(weights[place])
        torch.testing.assert_close(mean.value()[:, :, frame], total / weight)


def test_mean_is_float32_whatever_comes_in() -> None:
    mean = WindowMean(torch.zeros(1, 1, 2, dtype=torch.float16), torch.ones(2))
    mean.add([0, 1], torch.tensor([[[1.0, 3.0]]], dtype=torch.float16))
    assert mean.value().dtype == torch.float32
    assert mean.value().tolist() == [[[1.0, 3.0]]]


def test_wrapping_windows() -> None:
    """As the published samplers lay them: the last runs on at the beginning; coarser ones follow."""
    assert wrapping_windows(10, 6, 2) == [[0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 8, 9], [8, 9, 0, 1, 2, 3]]
    assert wrapping_windows(10, 6, 2, closed=False) == [[0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 8, 9]]
    assert wrapping_windows(10, 6, 2, stride=2)[3:] == [[0, 2, 4, 6, 8, 0]]
    assert wrapping_windows(10, 6, 2, step=1)[0] == [5, 6, 7, 8, 9, 0]
    assert wrapping_windows(10, 6, 2, step=3)[0] == [8, 9, 0, 1, 2, 3]
    assert wrapping_windows(6, 6, 2) == [[0, 1, 2, 3, 4, 5]]
    assert wrapping_windows(4, 6, 2, stride=3) == [[0, 1, 2, 3]]


@pytest.mark.parametrize(("frames", "length", "overlap"), CASES)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_wrapping_windows_cover(frames: int, length: int, overlap: int, stride: int) -> None:
    found = wrapping_windows(frames, length, overlap, stride)
    assert {f for window in found for f in window} == set(range(frames))
    assert {len(window) for window in found} == {min(length, frames)}


@pytest.mark.parametrize(("length", "overlap", "stride"), [(0, 0, 1), (4, 4, 1), (4, -1, 1), (4, 2, 0)])
def test_wrapping_windows_that_cannot_be(length: int, overlap: int, stride: int) -> None:
    with pytest.raises(InputError, match="give a window and a stride of at least 1"):
        wrapping_windows(10, length, overlap, stride)


def test_a_frame_named_twice_counts_once() -> None:
    """The last prediction of it, as an assignment by index leaves it."""
    mean = WindowMean(torch.zeros(1, 1, 4), window_weights(3, 0))
    mean.add([0, 1, 0], torch.tensor([[[5.0, 7.0, 9.0]]]))
    mean.add([2, 3, 0], torch.tensor([[[1.0, 2.0, 3.0]]]))
    assert mean.value().flatten().tolist() == [6.0, 7.0, 1.0, 2.0]
