"""A video in memory is read as one from a file is."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from animate_anyone.errors import InputError
from animate_anyone.media.held_video import HeldVideo
from animate_anyone.system.frame_sequence import MadeFrames

PICTURES = np.random.default_rng(0).integers(0, 255, (5, 48, 64, 3), np.uint8)


def test_frames_times_and_size() -> None:
    video = HeldVideo.of(PICTURES, Fraction(25, 2), "pose_video")
    assert (video.info.width, video.info.height, video.info.num_frames) == (64, 48, 5)
    assert video.info.fps == Fraction(25, 2) and video.sound is None and not video.info.has_audio
    assert np.allclose(video.times, np.arange(6) * 0.08)
    read = list(video.frames([1, 3, 3]))
    assert [time for time, _ in read] == pytest.approx([0.08, 0.24, 0.24])
    assert all(np.array_equal(frame, PICTURES[number]) for (_, frame), number in zip(read, [1, 3, 3], strict=True))


def test_frames_that_are_made_when_asked_for() -> None:
    asked: list[int] = []

    def make(number: int) -> np.ndarray:
        asked.append(number)
        return PICTURES[number]

    video = HeldVideo.of(MadeFrames(5, (48, 64, 3), np.uint8, make), Fraction(12))
    assert asked == []
    assert len(list(video.frames([2]))) == 1 and asked == [2]


def test_what_is_no_video_is_told() -> None:
    with pytest.raises(InputError, match=r"^pose_video: holds no frames"):
        HeldVideo.of(PICTURES[:0], Fraction(12), "pose_video")
    with pytest.raises(InputError, match=r"^pose_video: 0 frames per second"):
        HeldVideo.of(PICTURES, Fraction(0), "pose_video")
    with pytest.raises(InputError, match=r"^wide: 9000×2 pixels; at most 8192 a side"):
        HeldVideo.of(np.zeros((1, 2, 9000, 3), np.uint8), Fraction(12), "wide")
    with pytest.raises(ValueError, match="give uint8"):
        HeldVideo.of(PICTURES.astype(np.float32), Fraction(12))  # type: ignore[arg-type]
