"""Poses as OpenPose's dictionaries, and back."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from animate_anyone.conditions.skeleton import MIN_SCORE
from animate_anyone.errors import InputError
from animate_anyone.interop.openpose_json import OWN, count_people, read_poses, write_poses
from animate_anyone.structures import BODY, FACE, LEFT_HAND, RIGHT_HAND, PoseSequence

SIZE = (320, 480)


def poses(seed: int = 0, frames: int = 4, shift: float = 0.0) -> PoseSequence:
    """A person whose points are all seen, with scores and depths, moving a little from frame to frame."""
    random = np.random.default_rng(seed)
    points = random.uniform(40, 140, (1, 128, 2)) + np.arange(frames)[:, None, None] + [shift, 0]
    scores = random.uniform(0.35, 1, (frames, 128))
    depth = random.uniform(-0.1, 0.1, (frames, 128))
    return PoseSequence(
        points.astype(np.float32),
        scores.astype(np.float32),
        SIZE,
        Fraction(30000, 1001),
        depth=depth.astype(np.float32),
    )


def others(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same as a node of somebody else's makes it: without what is our own."""
    return [
        {
            **{key: value for key, value in frame.items() if key != OWN},
            "people": [{k: v for k, v in one.items() if k != OWN} for one in frame["people"]],
        }
        for frame in frames
    ]


def test_there_and_back_through_a_file() -> None:
    given = poses()
    back = read_poses(json.loads(json.dumps(write_poses(given))))
    for name in ("keypoints", "scores", "depth"):
        assert np.array_equal(getattr(back, name), getattr(given, name)), name
    assert (back.size, back.fps) == (given.size, given.fps)


def test_form_is_that_of_comfyui() -> None:
    given = poses()
    scores = given.scores.copy()
    scores[:, LEFT_HAND] = 0
    scores[0, 4] = 0.29
    (frame, *_) = others(write_poses(replace(given, scores=scores)))
    (person,) = frame["people"]
    assert {k: None if v is None else len(v) for k, v in person.items()} == {
        "pose_keypoints_2d": 54,
        "face_keypoints_2d": 204,
        "hand_left_keypoints_2d": None,
        "hand_right_keypoints_2d": 63,
    }
    assert (frame["canvas_width"], frame["canvas_height"]) == SIZE
    body = np.reshape(person["pose_keypoints_2d"], (18, 3))
    assert body[4].tolist() == [0, 0, 0]  # below the score from which it is seen
    assert set(body[:, 2]) == {0.0, 1.0}  # those nodes take less than 1 for nothing
    assert np.array_equal(body[3, :2].astype(np.float32), given.keypoints[0, 3])
    face = np.reshape(person["face_keypoints_2d"], (68, 3))
    assert np.array_equal(face[:, :2].astype(np.float32), given.keypoints[0, FACE])


def test_missing_joints_stay_missing() -> None:
    given = poses()
    scores = given.scores.copy()
    scores[1, 7], scores[:, RIGHT_HAND], scores[2] = 0, 0, 0
    frames = write_poses(replace(given, scores=scores))
    assert frames[2]["people"] == []
    for listed in (frames, others(frames)):
        back = read_poses(listed)
        assert np.array_equal(back.scores >= MIN_SCORE, scores >= MIN_SCORE)
        assert not back.keypoints[1, 7].any()
        seen = scores >= MIN_SCORE
        assert np.array_equal(back.keypoints[seen], given.keypoints[seen])


def test_of_others_there_is_no_depth_and_all_is_sure() -> None:
    back = read_poses(others(write_poses(poses())))
    assert back.depth is None and back.fps == 24 and (back.scores == 1).all()
    assert read_poses(others(write_poses(poses())), fps=Fraction(12)).fps == 12


@pytest.mark.parametrize("nested", [False, True])
def test_shares_of_the_canvas(nested: bool) -> None:
    given = poses()
    frames = others(write_poses(given))
    for frame in frames:
        for person in frame["people"]:
            for key, values in person.items():
                triples = np.reshape(values, (-1, 3)) / [*SIZE, 1]
                person[key] = triples.tolist() if nested else triples.reshape(-1).tolist()
    assert np.allclose(read_poses(frames).keypoints, given.keypoints, atol=1e-3)


def test_points_taken_away_by_somebody_are_away() -> None:
    frames = write_poses(poses())
    for frame in frames:
        frame["people"][0]["hand_left_keypoints_2d"] = None
    back = read_poses(frames)
    assert not back.scores[:, LEFT_HAND].any() and back.scores[:, BODY].all()


def test_bodies_of_25_and_faces_of_70_points() -> None:
    given = poses()
    frames = others(write_poses(given))
    for frame in frames:
        (person,) = frame["people"]
        body = np.reshape(person["pose_keypoints_2d"], (18, 3)).tolist()
        person["pose_keypoints_2d"] = np.ravel([*body[:8], [9, 9, 1], *body[8:], *[[5, 5, 1]] * 6]).tolist()
        person["face_keypoints_2d"] += [1, 1, 1, 2, 2, 1]
    assert np.array_equal(read_poses(frames).keypoints, given.keypoints)


def test_several_people_are_told_apart_by_place() -> None:
    """Who is listed first changes from frame to frame, as detectors give them; each is found again."""
    small, large = poses(1), poses(2, shift=150)
    large = replace(large, keypoints=(large.keypoints - [200, 0]).astype(np.float32) * np.float32(1.5) + 200)
    frames = write_poses(small, large)
    for number in (1, 3):
        frames[number]["people"].reverse()
    assert count_people(frames) == 2
    assert np.array_equal(read_poses(frames).keypoints, large.keypoints)
    assert np.array_equal(read_poses(frames, person=1).keypoints, small.keypoints)
    del frames[2]["people"][1]  # only the small one is left in it, far from the large one's place
    assert [bool(row.any()) for row in read_poses(frames).scores] == [True, True, False, True]
    with pytest.raises(InputError, match="person 2 of 2 in frame 0; give 0 to 1"):
        read_poses(frames, person=2)


def test_a_single_person_may_leap() -> None:
    """After a cut somebody stands elsewhere: nobody else is there to be taken for them."""
    frames = write_poses(poses())
    moved = write_poses(poses(shift=5000))
    assert read_poses([*frames, *moved]).scores.all()


def test_one_frame_and_a_size_that_is_not_said() -> None:
    (frame, *_) = others(write_poses(poses()))
    assert len(read_poses(frame)) == 1
    bare = {"people": frame["people"], "version": 1.3}
    assert read_poses([bare], size=SIZE).size == SIZE
    with pytest.raises(InputError, match="frame 0: says no canvas_width"):
        read_poses([bare])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ([], "holds no frames"),
        ("text", "holds no frames"),
        ([3], "frame 0: is no dictionary"),
        ([{"people": [], "canvas_width": 64, "canvas_height": 64}], "shows nobody in any of 1 frames"),
        ([{"people": [{}], "canvas_width": 64, "canvas_height": 64}], "shows nobody"),
        ([{"people": 3, "canvas_width": 64, "canvas_height": 64}], "people is no list"),
        ([{"people": [], "canvas_width": "x", "canvas_height": 64}], "no size in pixels"),
        ([{"animals": [], "canvas_width": 64, "canvas_height": 64}], "poses of animals"),
        (
            [{"people": [{"pose_keypoints_2d": [1, 2, 1]}], "canvas_width": 64, "canvas_height": 64}],
            "holds 3 numbers; give x, y and score of 18 or 25 points",
        ),
        (
            [{"people": [{"pose_keypoints_2d": [float("nan")] * 54}], "canvas_width": 9, "canvas_height": 9}],
            "pose_keypoints_2d",
        ),
        (
            [{"people": [{"hand_left_keypoints_2d": ["a"] * 63}], "canvas_width": 9, "canvas_height": 9}],
            "hand_left_keypoints_2d",
        ),
    ],
)
def test_what_is_no_pose_is_told_in_a_line(broken: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        read_poses(broken, name="pose_keypoints")
    assert "\n" not in str(raised.value) and str(raised.value).startswith("pose_keypoints")


def test_frames_of_different_canvases_are_refused() -> None:
    frames = write_poses(poses())
    frames[2]["canvas_width"] = 100
    with pytest.raises(InputError, match="frame 2: its canvas is another one"):
        read_poses(frames)


def test_people_of_different_videos_are_refused() -> None:
    with pytest.raises(InputError, match="different lengths"):
        write_poses(poses(), poses(frames=3))
