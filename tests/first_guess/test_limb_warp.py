"""The reference carried into other poses: what is known about it without a model."""

from dataclasses import replace

import numpy as np
import pytest

from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.errors import InputError
from animate_anyone.first_guess.limb_warp import WarpedPictures, warp_limbs
from animate_anyone.structures import NUM_KEYPOINTS, PoseSequence
from standing import SIZE, STANDING

COLOURS = {"right_wrist": (255, 0, 0), "left_knee": (0, 255, 0), "nose": (0, 0, 255)}


def pose(*frames: dict[str, tuple[float, float]], depth: dict[str, float] | None = None) -> PoseSequence:
    keypoints = np.zeros((len(frames), NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((len(frames), NUM_KEYPOINTS), np.float32)
    far = np.zeros((len(frames), NUM_KEYPOINTS), np.float32)
    for k, joints in enumerate(frames):
        for name, place in joints.items():
            keypoints[k, JOINT[name]], scores[k, JOINT[name]] = place, 1
    for name, value in (depth or {}).items():
        far[:, JOINT[name]] = value
    return PoseSequence(keypoints, scores, SIZE, depth=None if depth is None else far)


def painted() -> np.ndarray:
    """Grey, with a spot of colour at three joints."""
    picture = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    for name, colour in COLOURS.items():
        x, y = STANDING[name]
        picture[y - 2 : y + 3, x - 2 : x + 3] = colour
    return picture


def at(picture: np.ndarray, place: tuple[float, float]) -> tuple[int, ...]:
    return tuple(int(v) for v in picture[int(place[1]), int(place[0])])


def test_into_its_own_pose_it_is_itself():
    noise = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    carried = warp_limbs(noise, pose(STANDING), pose(STANDING))[0]
    assert np.abs(carried.astype(int) - noise).max() <= 2


@pytest.mark.parametrize("shift", [(12, 0), (-9, 7)])
def test_a_body_that_moves_takes_its_colours_along(shift):
    moved = {name: (x + shift[0], y + shift[1]) for name, (x, y) in STANDING.items()}
    carried = warp_limbs(painted(), pose(STANDING), pose(moved))[0]
    for name, colour in COLOURS.items():
        assert at(carried, moved[name]) == colour, name


def test_a_raised_forearm_takes_its_hand_up_and_nothing_else():
    raised = STANDING | {"right_wrist": (26.0, 30.0)}
    carried = warp_limbs(painted(), pose(STANDING), pose(raised))[0]
    assert at(carried, (26, 30)) == COLOURS["right_wrist"]
    assert at(carried, STANDING["left_knee"]) == COLOURS["left_knee"]
    assert at(carried, STANDING["nose"]) == COLOURS["nose"]


def test_a_body_twice_as_large_is_drawn_twice_as_large():
    small = {name: (48 + (x - 48) / 2, 64 + (y - 64) / 2) for name, (x, y) in STANDING.items()}
    picture = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    x, y = small["nose"]
    picture[int(y) - 2 : int(y) + 2, int(x) - 2 : int(x) + 2] = (0, 0, 255)
    carried = warp_limbs(picture, pose(small), pose(STANDING))[0].astype(int)
    # Four pixels across become eight, less the blur of the edges.
    blue = (carried[:, :, 2] > 190) & (carried[:, :, 0] < 64)
    near = blue[14:34, 38:58]
    assert 36 <= near.sum() <= 72


@pytest.mark.parametrize("left_is_nearer", [True, False])
def test_the_nearer_arm_covers_the_farther(left_is_nearer):
    picture = painted()
    x, y = STANDING["left_wrist"]
    picture[y - 2 : y + 3, x - 2 : x + 3] = (255, 255, 0)
    both = {"right_wrist": (48.0, 56.0), "left_wrist": (48.0, 56.0)}
    depth = {f"{side}_{joint}": (-0.2 if (side == "left") == left_is_nearer else -0.1)
             for side in ("left", "right") for joint in ("elbow", "wrist")}  # fmt: skip
    carried = warp_limbs(picture, pose(STANDING), pose(STANDING | both, depth=depth))[0]
    assert at(carried, (48, 56)) == ((255, 255, 0) if left_is_nearer else (255, 0, 0))


def test_what_is_not_there_carries_nothing():
    picture = painted()
    gone = {name: place for name, place in STANDING.items() if not name.startswith("right_")}
    for own, wanted in ((gone, STANDING), (STANDING, gone), (STANDING, {})):
        carried = warp_limbs(picture, pose(own), pose(wanted))[0]
        assert at(carried, STANDING["right_wrist"]) == COLOURS["right_wrist"]
    assert np.array_equal(warp_limbs(picture, pose(STANDING), pose({}))[0], picture)


def test_a_body_in_one_point_is_no_crash():
    carried = warp_limbs(painted(), pose(STANDING), pose(dict.fromkeys(STANDING, (48.0, 64.0))))
    assert carried.shape == (1, SIZE[1], SIZE[0], 3)


def test_seen_from_behind_the_trunk_is_a_mirror_image():
    picture = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    picture[40:60, 43:46] = (255, 0, 0)  # to the person's right of the middle line
    swapped = STANDING | {
        f"{side}_{joint}": STANDING[f"{other}_{joint}"]
        for side, other in (("left", "right"), ("right", "left"))
        for joint in ("shoulder", "hip")
    }
    carried = warp_limbs(picture, pose(STANDING), pose(swapped))[0]
    assert at(carried, (51, 50)) == (255, 0, 0)
    assert at(carried, (44, 50)) != (255, 0, 0)


def test_computed_when_asked_for():
    poses = pose(STANDING, STANDING | {"right_wrist": (26.0, 30.0)}, STANDING)
    carried = WarpedPictures(painted(), pose(STANDING), poses)
    assert len(carried) == 3 and len(carried[1:]) == 2
    assert np.array_equal(carried[1:][0], warp_limbs(painted(), pose(STANDING), poses)[1])
    assert np.array_equal(np.stack(list(carried)), warp_limbs(painted(), pose(STANDING), poses))
    assert np.array_equal(carried[-1], carried[2])


def test_with_no_pose_it_stays_as_it_is():
    for own, poses in ((None, pose(STANDING)), (pose(STANDING), None)):
        carried = WarpedPictures(painted(), own, poses, 1)
        assert np.array_equal(carried[0], painted())


def test_poses_of_another_frame_size_are_refused():
    other = replace(pose(STANDING), size=(64, 64))
    with pytest.raises(InputError, match="own is for frames of"):
        warp_limbs(painted(), other, pose(STANDING))
    with pytest.raises(InputError, match="poses is for frames of"):
        warp_limbs(painted(), pose(STANDING), other)


def test_laid_on_other_pictures_only_the_limbs_show():
    under = np.random.default_rng(1).integers(0, 256, (2, SIZE[1], SIZE[0], 3), np.uint8)
    moved = {name: (x + 12, y) for name, (x, y) in STANDING.items()}
    carried = warp_limbs(painted(), pose(STANDING), pose(STANDING, moved), under)
    for k, joints in enumerate((STANDING, moved)):
        assert at(carried[k], joints["nose"]) == COLOURS["nose"]
        assert np.array_equal(carried[k, :, :10], under[k, :, :10])  # nobody near
    with pytest.raises(InputError, match="under has shape"):
        warp_limbs(painted(), pose(STANDING), pose(STANDING), under)


def test_a_silhouette_keeps_what_is_beside_the_body_out():
    under = np.zeros((1, SIZE[1], SIZE[0], 3), np.uint8)
    silhouette = np.zeros((SIZE[1], SIZE[0]), bool)
    x, y = STANDING["nose"]
    silhouette[y - 6 : y + 7, x - 6 : x + 7] = True
    carried = warp_limbs(painted(), pose(STANDING), pose(STANDING), under, silhouette)[0]
    np.testing.assert_allclose(at(carried, STANDING["nose"]), COLOURS["nose"], atol=2)
    assert np.array_equal(carried[80:], under[0, 80:])  # no leg: it was not in the silhouette
    assert (carried[y - 4 : y + 5, x - 4 : x + 5] > 0).any(-1).all()
    with pytest.raises(InputError, match="silhouette has shape"):
        warp_limbs(painted(), pose(STANDING), pose(STANDING), None, silhouette[:64])


def test_thighs_go_on_where_the_knees_are_out_of_the_frame():
    """A close-up: the knees are wanted, and nobody says where; the thighs are below the hips."""
    picture = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    picture[66:84, 36:60] = (0, 200, 0)
    alone = np.zeros((SIZE[1], SIZE[0]), bool)
    alone[66:84, 36:60] = True
    lower = {name: (x, y + 40) for name, (x, y) in STANDING.items()}
    for name in ("right_knee", "right_ankle", "left_knee", "left_ankle"):
        del lower[name]
    under = np.zeros((1, SIZE[1], SIZE[0], 3), np.uint8)
    carried = warp_limbs(picture, pose(STANDING), pose(lower), under, alone)[0]
    for x in (41, 55):
        assert at(carried, (x, 116)) == (0, 200, 0)


def test_a_head_is_laid_by_the_points_that_both_pictures_show():
    """An ear that is seen in one picture alone is no reason to move the head."""
    without_ear = {name: place for name, place in STANDING.items() if name != "left_ear"}
    carried = warp_limbs(painted(), pose(STANDING), pose(without_ear))[0]
    assert at(carried, STANDING["nose"]) == COLOURS["nose"]
    alike = warp_limbs(painted(), pose(without_ear), pose(without_ear))[0]
    head = (slice(8, 32), slice(36, 60))
    assert np.abs(carried[head].astype(int) - alike[head]).max() <= 2


def test_a_head_farther_up_keeps_its_neck():
    picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    picture[26:34, 44:53] = (0, 200, 0)
    alone = np.zeros((SIZE[1], SIZE[0]), bool)
    alone[10:70, 36:60] = True
    raised = STANDING | {
        name: (x, y - 12) for name, (x, y) in STANDING.items() if name in ("nose",) or name.endswith(("_eye", "_ear"))
    }
    under = np.full((1, SIZE[1], SIZE[0], 3), 255, np.uint8)
    carried = warp_limbs(picture, pose(STANDING), pose(raised), under, alone)[0]
    column = carried[8:34, 48].astype(int)
    assert (column[:, 0] < 60).all(), "white shows between head and trunk"
    assert (column[:, 1] > 100).sum() > 8 + 2  # longer than it was
