"""Objects followed without a network: a ball, a box, marks, lifetimes, and what is doubted."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from animate_anyone.errors import InputError
from animate_anyone.perception.objects.tracking import (
    UNLIKE,
    ClassicalTracker,
    GivenMarks,
    ObjectLocator,
    ObjectTracker,
    find_objects,
    load_tracker,
)
from animate_anyone.perception.track_checks import LOST, UNMARKED
from animate_anyone.structures import MaskTrack, ObjectMark, Scene
from people import person

HEIGHT, WIDTH, FRAMES, RADIUS = 120, 200, 8, 16


def rolling_ball(step: float = 6, vanish: int = FRAMES) -> tuple[list[NDArray[np.uint8]], NDArray[np.bool_]]:
    """A red ball, textured, rolls over a blurred ground of blue and green; from ``vanish`` on it is gone."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ground = np.stack([0 * x, 90 + 60 * np.sin(x / 17), 120 + 50 * np.cos(y / 11 + x / 23)], axis=-1)
    ground = ground + rng.normal(0, 6, ground.shape)
    frames, truth = [], []
    for number in range(FRAMES):
        centre = 50 + step * number
        mask = np.hypot(x - centre, y - 60) <= RADIUS
        if number >= vanish:
            mask[:] = False
        frame = ground.copy()
        stripes = 190 + 40 * np.sin((x - centre + y) / 4)
        frame[mask] = np.stack([stripes, 0.2 * stripes, 30 + 0 * x], axis=-1)[mask]
        frames.append(frame.clip(0, 255).astype(np.uint8))
        truth.append(mask)
    return frames, np.stack(truth)


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> list[float]:
    return [float((a & b).sum() / max((a | b).sum(), 1)) for a, b in zip(one, other, strict=True)]


@pytest.mark.parametrize(
    "mark",
    [
        ObjectMark("ball", 0, (30, 40, 70, 80)),
        ObjectMark("ball", 4, (50, 40, 98, 82)),  # from the middle it goes both ways
        ObjectMark("ball", 0, None, ((44, 55), (56, 66))),
    ],
)
def test_a_ball_is_followed(mark: ObjectMark) -> None:
    frames, truth = rolling_ball()
    (track,) = find_objects(frames, GivenMarks([mark]))
    measured = overlap(track.masks, truth)
    assert min(measured) > 0.8, np.round(measured, 2)
    assert track.name == "ball" and track.doubts == ()


def test_a_second_mark_takes_over_and_lifetimes_hold() -> None:
    frames, truth = rolling_ball(step=40)  # farther in a step than any flow follows
    leaps = [
        ObjectMark("ball", number, (34 + 40 * number, 40, 66 + 40 * number, 80), lifetime=(0, 2)) for number in range(3)
    ]
    (track,) = find_objects(frames, GivenMarks(leaps))
    assert min(overlap(track.masks[:3], truth[:3])) > 0.7
    assert not track.masks[3:].any() and all(frame < 3 for frame, _ in track.doubts)


def test_what_vanishes_is_doubted() -> None:
    frames, _ = rolling_ball(vanish=5)
    (track,) = find_objects(frames, GivenMarks([ObjectMark("ball", 0, (30, 40, 70, 80))]))
    assert {frame for frame, _ in track.doubts} >= {5, 6, 7}
    assert {reason for _, reason in track.doubts} & {UNLIKE, LOST}
    assert not any(frame < 5 for frame, _ in track.doubts)


def test_two_objects_keep_their_order_and_a_bad_mark_is_told() -> None:
    class Nothing:
        def track(self, frames: list, marks: list, progress: object = None) -> tuple[MaskTrack, ...]:
            from animate_anyone.perception.track_checks import finished

            return tuple(finished(np.zeros((len(frames), HEIGHT, WIDTH), bool), name, marks) for name in ("b", "a"))

    frames, _ = rolling_ball()
    marks = [ObjectMark("b", 0, (30, 40, 70, 80)), ObjectMark("a", 2, (100, 10, 140, 40))]
    assert [track.name for track in find_objects(frames[:4], GivenMarks(marks))] == ["b", "a"]
    empty = find_objects(frames, GivenMarks(marks), Nothing())[1]
    assert (2, UNMARKED) in empty.doubts and (7, LOST) in empty.doubts


def test_protocols_and_nothing_found() -> None:
    frames, _ = rolling_ball()
    assert isinstance(GivenMarks([]), ObjectLocator) and isinstance(ClassicalTracker(), ObjectTracker)
    assert find_objects(frames, GivenMarks([])) == ()


def test_a_scene_holds_what_belongs_together() -> None:
    pose = person(2, (8, 6))
    frames, masks = np.zeros((2, 6, 8, 3), np.uint8), MaskTrack(np.zeros((2, 6, 8), bool))
    assert Scene(frames, pose, masks).object_masks().shape == (0, 2, 6, 8)
    assert Scene(frames, pose, masks, (masks, masks)).object_masks().shape == (2, 2, 6, 8)
    with pytest.raises(InputError, match="masks of cup have shape"):
        Scene(frames, pose, masks, (MaskTrack(np.zeros((1, 6, 8), bool), "cup"),))
    with pytest.raises(InputError, match=r"Scene\.pose has 3 frames"):
        Scene(frames, person(3, (8, 6)), masks)
    assert pose.fps == Fraction(24)


def test_mistakes_are_told_in_one_line() -> None:
    frames, _ = rolling_ball()
    with pytest.raises(InputError, match="no frames to look for objects"):
        find_objects([], GivenMarks([]))
    with pytest.raises(InputError, match="ball is marked in frame 9; give one from 0 to 7"):
        find_objects(frames, GivenMarks([ObjectMark("ball", 9, (1, 1, 5, 5))]))
    with pytest.raises(InputError, match="no object tracker 'magic'; there are: classical, sam2"):
        load_tracker("magic")
    with pytest.raises(InputError, match="has no option 'speed'"):
        load_tracker("classical", speed=1)
