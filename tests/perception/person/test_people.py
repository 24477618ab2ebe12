"""Several people, with stand-ins that see the largest body in their picture, and with the bundled estimator."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.errors import InputError
from animate_anyone.perception import load_estimator
from animate_anyone.perception.person.appearance import Identity, colours, likeness
from animate_anyone.perception.person.body_hull import body_hulls
from animate_anyone.perception.person.mask_checks import SOMEBODY_ELSE
from animate_anyone.perception.person.people import Followed, find_people, follow
from animate_anyone.perception.pose.protocol import PoseEstimator
from animate_anyone.progress import SILENT, Progress
from animate_anyone.structures import BODY, PoseSequence
from animate_anyone.synthetic.dataset import sample_clip
from people import person

SIZE = (400, 200)
COLOURS = (200, 120)


def frame(places: Iterable[tuple[float, float]]) -> NDArray[np.uint8]:
    """People as bars from neck to ankles, one grey each, at ``(x, torso)``."""
    picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    for grey, (x, torso) in zip(COLOURS, places, strict=False):
        picture[20 : int(20 + 2.7 * torso), int(x - 3) : int(x + 3)] = grey
    return picture


class OneAtATime:
    """Sees the largest bar of a known grey."""

    def estimate_picture(self, picture: NDArray[np.uint8]) -> PoseSequence | None:
        found = []
        for grey in COLOURS:
            rows, columns = np.nonzero(picture[..., 0] == grey)
            if len(rows) > 30:
                torso = (rows.max() + 1 - rows.min()) / 2.7
                pose = person(1, picture.shape[1::-1], torso=torso, neck=(columns.mean(), rows.min()))
                found.append((torso, pose))
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def estimate(
        self,
        frames: Iterable[NDArray[np.uint8]],
        size: tuple[int, int],
        fps: Fraction,
        times: NDArray[np.float64] | None = None,
        progress: Progress = SILENT,
    ) -> PoseSequence:
        poses = [self.estimate_picture(picture) for picture in frames]
        nobody = person(1, size)
        points = np.concatenate([(pose or nobody).keypoints for pose in poses])
        scores = np.stack([np.full(128, pose is not None, np.float32) for pose in poses])
        return PoseSequence(points, scores, size, fps, times)


def test_people_are_found_one_after_the_other_the_largest_first() -> None:
    assert isinstance(OneAtATime(), PoseEstimator)
    found = find_people(frame([(300, 30), (100, 50)]), OneAtATime())
    assert [round(pose.keypoints[0, JOINT["neck"], 0]) for pose in found] == [100, 300]
    assert find_people(frame([]), OneAtATime()) == []


def test_somebody_near_of_whom_little_is_seen_is_larger_than_somebody_far() -> None:
    near, far = person(1, SIZE, torso=80, neck=(100, 170)), person(1, SIZE, torso=40, neck=(300, 30))
    hidden = near.keypoints[0, :, 1] >= SIZE[1]
    near.scores[0, hidden] = 0
    seen = near.scores[0, BODY] > 0

    def box(pose: PoseSequence, joints: NDArray[np.bool_]) -> float:
        return float(np.prod(np.ptp(pose.keypoints[0, BODY][joints], axis=0)))

    assert 4 < seen.sum() < 12 and box(near, seen) < box(far, seen | True)

    class Both(OneAtATime):
        answers = iter((far, near, None))

        def estimate_picture(self, picture: NDArray[np.uint8]) -> PoseSequence | None:
            return next(self.answers)

    assert find_people(frame([]), Both()) == [near, far]


def test_the_smaller_one_is_followed_as_it_walks() -> None:
    frames = [frame([])] * 0 + [frame([(100 + 2 * i, 50), (300 - 3 * i, 30)]) for i in range(24)]
    pose = follow(frames, Fraction(12), OneAtATime(), person=1).poses
    necks = pose.keypoints[:, JOINT["neck"], 0]
    np.testing.assert_allclose(necks[:18], 300 - 3 * np.arange(18), atol=2)
    largest = follow(frames, Fraction(12), OneAtATime()).poses
    np.testing.assert_allclose(largest.keypoints[:, JOINT["neck"], 0], 100 + 2 * np.arange(24), atol=2)


def test_mistakes_are_told_in_one_line() -> None:
    frames = [frame([(100, 50)])] * 3
    with pytest.raises(InputError, match="--person 1: 1 people were found in frame 0"):
        follow(frames, Fraction(12), OneAtATime(), person=1)
    with pytest.raises(InputError, match="no person -1"):
        follow(frames, Fraction(12), OneAtATime(), person=-1)
    with pytest.raises(InputError, match="no frames"):
        follow([], Fraction(12), OneAtATime())


CROWD_SIZE = (420, 240)
CLOTHES = ((220, 40, 40), (40, 60, 220))
HEAD, HEIGHT = 0.76, 3.52  # of a body in a crowd, torso lengths: above the neck, and all of it


def crowd(*places: tuple[float, float] | None) -> NDArray[np.uint8]:
    """People in their clothes at ``(x, torso)``, the last in front."""
    picture = np.full((CROWD_SIZE[1], CROWD_SIZE[0], 3), 90, np.uint8)
    for clothes, place in zip(CLOTHES, places, strict=False):
        if place is not None:
            pose = person(1, CROWD_SIZE, torso=place[1], neck=(place[0], 50))
            picture[body_hulls(pose.keypoints[0], pose.scores[0], CROWD_SIZE)[0]] = clothes
    return picture


class Prominent(OneAtATime):
    """Sees whoever covers most of its picture; a body cut off at the side is seen a little too far in."""

    def estimate_picture(self, picture: NDArray[np.uint8]) -> PoseSequence | None:
        best, pose = 60, None
        for clothes in CLOTHES:
            rows, columns = np.nonzero((picture == clothes).all(axis=2))
            if len(rows) > best:
                best, torso = len(rows), (rows.max() + 1 - rows.min()) / HEIGHT
                neck = ((columns.min() + columns.max() + 1) / 2, rows.min() + HEAD * torso)
                pose = person(1, picture.shape[1::-1], torso=torso, neck=neck)
        return pose


def neck_of(followed: Followed) -> NDArray[np.float32]:
    """``(frames,)``: where the person is, x in pixels; not a number where nobody is."""
    x = followed.poses.keypoints[:, JOINT["neck"], 0].copy()
    x[followed.poses.scores[:, JOINT["neck"]] == 0] = np.nan
    return x


def test_the_stand_in_sees_who_is_there() -> None:
    pose = Prominent().estimate_picture(crowd((120, 50)))
    assert pose is not None
    np.testing.assert_allclose(pose.keypoints[0, JOINT["neck"]], (120, 50), atol=4)
    np.testing.assert_allclose(pose.keypoints[0, JOINT["left_hip"]], (129, 100), atol=6)


@pytest.mark.parametrize("apart", [200, 75])
def test_the_largest_is_kept_when_somebody_else_becomes_larger(apart: int) -> None:
    """Near each other, the window around one shows much of the other, who is painted over then."""
    frames = [crowd((100, 50), (100 + apart, 36 + i)) for i in range(24)]
    raw = Prominent().estimate(frames, CROWD_SIZE, Fraction(12))
    assert np.ptp(raw.keypoints[:, JOINT["neck"], 0]) > apart - 10, "the stand-in was to leap to the other"
    followed = follow(frames, Fraction(12), Prominent())
    np.testing.assert_allclose(neck_of(followed), 100, atol=6)
    assert len(followed.people) == 2 and followed.first == 0
    assert followed.mended == tuple(range(followed.mended[0], 24)) and followed.dropped == ()
    other = follow(frames, Fraction(12), Prominent(), person=1)
    np.testing.assert_allclose(neck_of(other), 100 + apart, atol=8)


def test_who_is_larger_than_the_one_the_estimator_prefers_is_taken() -> None:
    class Prefers(Prominent):
        def estimate_picture(self, picture: NDArray[np.uint8]) -> PoseSequence | None:
            small = picture.copy()
            small[(picture == CLOTHES[0]).all(axis=2)] = 90
            return super().estimate_picture(small) or super().estimate_picture(picture)

    frames = [crowd((100 + i, 55), (300, 40)) for i in range(12)]
    followed = follow(frames, Fraction(12), Prefers())
    np.testing.assert_allclose(neck_of(followed), 100 + np.arange(12), atol=6)
    assert followed.mended == tuple(range(1, 12))


def test_who_leaves_and_returns_is_not_taken_for_who_stays() -> None:
    here = [*range(8), *range(20, 30)]
    frames = [crowd((100, 50) if i in here else None, (300, 40)) for i in range(30)]
    followed = follow(frames, Fraction(12), Prominent())
    necks = neck_of(followed)
    np.testing.assert_allclose(necks[here], 100, atol=6)
    assert np.isnan(necks[8:20]).all()
    assert followed.dropped == tuple(range(8, 20))
    assert followed.doubts() == tuple((frame, SOMEBODY_ELSE) for frame in range(8, 20))


def test_who_is_alone_may_leave_and_come_back_elsewhere() -> None:
    here = [*range(6), *range(24, 36)]
    frames = [crowd((100 if i < 12 else 330, 50) if i in here else None) for i in range(36)]
    followed = follow(frames, Fraction(12), Prominent())
    np.testing.assert_allclose(neck_of(followed)[here], [100] * 6 + [330] * 12, atol=6)
    assert followed.mended == followed.dropped == ()


def test_people_who_cross_are_not_taken_for_each_other() -> None:
    truth = 60 + 12.0 * np.arange(26)
    frames = [crowd((x, 50), (210, 46)) for x in truth]  # the other is in front
    followed = follow(frames, Fraction(12), Prominent())
    necks = neck_of(followed)
    kept = ~np.isnan(necks)
    assert np.abs(necks - truth)[kept].max() < 25
    assert kept[:9].all() and kept[-9:].all()
    assert set(followed.dropped) >= set(np.flatnonzero(~kept).tolist())


def test_a_blot_of_paint_is_nobody() -> None:
    class SeesBlots(Prominent):
        def estimate_picture(self, picture: NDArray[np.uint8]) -> PoseSequence | None:
            return super().estimate_picture(picture) or person(1, CROWD_SIZE, torso=20, neck=(100, 120))

    assert len(find_people(crowd((100, 50)), SeesBlots())) == 1


def test_people_are_known_by_their_colours() -> None:
    frame = crowd((100, 50), (300, 50))
    one, other = (person(1, CROWD_SIZE, torso=50, neck=(x, 50)) for x in (100, 300))
    seen = [colours(frame, pose) for pose in (one, other)]
    assert seen[0] is not None and seen[1] is not None
    assert likeness(seen[0], seen[0]) > 0.999 and likeness(seen[0], seen[1]) < 0.1
    identity = Identity(frame, one, [other])
    moved = person(1, CROWD_SIZE, torso=50, neck=(110, 50))
    assert identity.here(frame, moved, 0.1) and not identity.here(frame, other, 0.1)
    assert identity.again(frame, one) and not identity.again(frame, other)
    nobody = person(1, CROWD_SIZE, torso=50, neck=(100, 50))
    nobody.scores[:] = 0
    assert not identity.here(frame, nobody, 0.1) and colours(frame, nobody) is None


def test_the_bundled_estimator_is_held_to_the_larger_of_two_characters() -> None:
    pytest.importorskip("mediapipe", reason='MediaPipe is not installed: pip install "animate-anyone[pose]"')
    wanted, preferred = 24, 31  # studio seeds: both seen whole; MediaPipe prefers the second though it is smaller
    left, right = (
        sample_clip(seed, num_frames=6, size=(256, 384), fps=Fraction(12), supersample=1)
        for seed in (wanted, preferred)
    )
    assert all((clip.pose.scores[:, 1:14] > 0.3).all() for clip in (left, right))  # trunk, arms and legs
    frames = np.full((6, 384, 512, 3), 90, np.uint8)
    frames[:, :, :256] = left.frames.numpy()
    for frame, picture in zip(frames, right.frames.numpy(), strict=True):
        frame[384 - 308 :, 256 : 256 + 205] = np.array(Image.fromarray(picture).resize((205, 308)))
    estimator = load_estimator("mediapipe")
    raw = estimator.estimate(frames, (512, 384), Fraction(12))
    assert raw.keypoints[:, JOINT["neck"], 0].min() > 256, "the estimator was to follow the smaller one"
    followed = follow(list(frames), Fraction(12), estimator)
    apart = np.linalg.norm(followed.poses.keypoints[:, BODY] - left.pose.keypoints[:, BODY], axis=2)
    assert np.median(apart, axis=1).max() < 10 and followed.dropped == ()
    assert followed.poses.depth is not None
