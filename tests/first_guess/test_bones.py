"""Bones of a pose and their maps from one pose to another."""

import numpy as np
import pytest

from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.first_guess.bones import PARENT, Body, Skirt, bone_maps, map_of, off_bone, steady, turned_away
from animate_anyone.structures import NUM_KEYPOINTS, PoseSequence
from standing import SIZE, STANDING


def body(joints: dict[str, tuple[float, float]]) -> Body:
    keypoints = np.zeros((1, NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((1, NUM_KEYPOINTS), np.float32)
    for name, place in joints.items():
        keypoints[0, JOINT[name]], scores[0, JOINT[name]] = place, 1
    return Body.of(PoseSequence(keypoints, scores, SIZE))


def without(*names: str) -> dict[str, tuple[float, float]]:
    return {name: place for name, place in STANDING.items() if name not in names}


def test_a_pose_maps_to_itself() -> None:
    maps = bone_maps(body(STANDING), body(STANDING))
    assert {"shoulders", "hips", "head", "right_forearm", "left_shin"} <= maps.keys()
    for name, found in maps.items():
        np.testing.assert_allclose(found, np.eye(3)[:2], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
def test_a_similarity_of_the_whole_body_is_that_of_every_bone(scale: float) -> None:
    turn = scale * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    shift = np.array([7.0, -3.0])
    moved = {name: tuple(turn @ place + shift) for name, place in STANDING.items()}
    for name, found in bone_maps(body(STANDING), body(moved)).items():
        np.testing.assert_allclose(found, np.c_[turn, shift], atol=1e-3, err_msg=name)


def test_a_limb_is_stretched_along_itself_alone() -> None:
    x, y = STANDING["right_elbow"]
    before = body(STANDING | {"right_wrist": (x, y + 20)})
    found = bone_maps(before, body(STANDING | {"right_wrist": (x, y + 10)}))["right_forearm"]
    np.testing.assert_allclose(found[:, :2], np.diag([1.0, 0.5]), atol=1e-6)


def test_a_limb_that_points_at_the_camera_keeps_some_length() -> None:
    found = bone_maps(body(STANDING), body(STANDING | {"right_wrist": STANDING["right_elbow"]}))
    assert np.isfinite(found["right_forearm"]).all()
    assert abs(np.linalg.det(found["right_forearm"][:, :2])) > 0.1


def test_a_head_that_turns_moves_with_its_ears_and_keeps_its_size() -> None:
    faces = {name: STANDING[name] for name in ("nose", "right_eye", "left_eye")}
    turned = STANDING | {name: (x + 3.0, y) for name, (x, y) in faces.items()}
    found = bone_maps(body(STANDING), body(turned))["head"]
    middle = np.mean([STANDING["right_ear"], STANDING["left_ear"]], 0)
    np.testing.assert_allclose(found @ [*middle, 1], middle, atol=1e-6)
    np.testing.assert_allclose(found[:, :2], np.eye(2), atol=0.02)  # and does not lean


def test_a_profile_is_as_upright_as_the_front_and_its_ear_is_the_middle_of_the_head() -> None:
    profile = {"nose": (56.0, 22.0), "right_eye": (54.0, 20.0), "right_ear": (48.0, 21.0)}
    gone = {name: place for name, place in STANDING.items() if name not in ("left_eye", "left_ear")}
    middle = np.mean([STANDING["right_ear"], STANDING["left_ear"]], 0)
    for before, after in ((STANDING, gone | profile), (gone | profile, STANDING)):
        found = bone_maps(body(before), body(after))["head"]
        np.testing.assert_allclose(found @ [*middle, 1], middle, atol=1e-6)
        np.testing.assert_allclose(found[:, :2], np.eye(2), atol=0.02)


def test_a_head_leans_as_its_ears_do_and_as_it_stands_over_the_neck() -> None:
    neck, angle = np.array(STANDING["neck"]), 0.4
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    head = ("nose", "right_eye", "left_eye", "right_ear", "left_ear")
    leaning = {name: tuple(turn @ (np.array(STANDING[name]) - neck) + neck) for name in head}
    for names in (head, head[:2] + head[3:4]):
        gone = {name: place for name, place in STANDING.items() if name not in head}
        after = gone | {name: leaning[name] for name in names}
        before = gone | {name: STANDING[name] for name in names}
        np.testing.assert_allclose(bone_maps(body(before), body(after))["head"][:, :2], turn, atol=0.02)


def test_hips_out_of_the_frame_are_below_the_neck() -> None:
    found = body(without("right_hip", "left_hip", "right_knee", "left_knee", "right_ankle", "left_ankle"))
    middle = np.mean(found.bones["hips"], 0)
    assert abs(middle[0] - STANDING["neck"][0]) < 2
    assert middle[1] == pytest.approx(STANDING["neck"][1] + found.unit, abs=1)
    (right, left), (right_shoulder, left_shoulder) = found.bones["hips"], found.bones["shoulders"]
    assert np.sign(left - right)[0] == np.sign(left_shoulder - right_shoulder)[0]


def test_one_hip_places_the_other() -> None:
    right, left = body(without("left_hip")).bones["hips"]
    np.testing.assert_allclose(right, STANDING["right_hip"])
    np.testing.assert_allclose(left, STANDING["left_hip"], atol=6)


def test_a_bone_that_is_not_there_follows_the_next_one_towards_the_trunk() -> None:
    maps = bone_maps(body(STANDING), body(without("right_wrist", "right_elbow")))
    assert "right_forearm" not in maps and "right_upper_arm" not in maps
    assert map_of("right_forearm", maps) is maps["shoulders"]
    assert map_of("right_hand", {}) is None
    assert all(map_of(name, {"shoulders": np.eye(3)[:2]}) is not None for name in PARENT)


def test_somebody_turned_away_is_seen_from_the_other_side() -> None:
    mirrored = {name: (SIZE[0] - x, y) for name, (x, y) in STANDING.items()}
    assert turned_away(body(STANDING), body(mirrored))
    assert not turned_away(body(mirrored), body(mirrored))
    for name, found in bone_maps(body(STANDING), body(mirrored)).items():
        np.testing.assert_allclose(found, [[-1, 0, SIZE[0]], [0, 1, 0]], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("ears", [True, False])
def test_a_head_seen_from_behind_keeps_its_width(ears: bool) -> None:
    """Mirrored as the trunk that it goes over into: a blend of a mirrored and an upright one is a line."""
    gone = ("nose", "right_eye", "left_eye") + (() if ears else ("right_ear", "left_ear"))
    behind = {name: (SIZE[0] - x, y) for name, (x, y) in STANDING.items() if name not in gone}
    found = bone_maps(body(STANDING), body(behind))
    np.testing.assert_allclose(found["head"], found["shoulders"], atol=1e-6)


SWAPPED = (("right", 49), ("left", 47))


def test_a_profile_from_a_little_behind_is_no_back() -> None:
    """Right and left have changed places by a pixel; the trunk is not turned over for that, and the face stays."""
    pairs = {f"{side}_{joint}": (x, y) for joint, y in (("shoulder", 36), ("hip", 66)) for side, x in SWAPPED}
    profile = STANDING | pairs
    maps = bone_maps(body(STANDING), body(profile))
    assert not turned_away(body(STANDING), body(profile))
    assert all(np.linalg.det(maps[name][:, :2]) > 0 for name in ("head", "shoulders", "hips"))


def test_a_skirt_hangs_between_both_knees_whatever_they_do() -> None:
    crossed = STANDING | {"right_knee": STANDING["left_knee"], "left_knee": STANDING["right_knee"]}
    astride = STANDING | {"right_knee": (20, 82), "left_knee": (76, 82)}
    still = body(STANDING)
    for pose in (crossed, astride):
        found = bone_maps(still, body(pose))["skirt"]
        np.testing.assert_allclose(found @ [48, 66, 1], [48, 66], atol=0.5)
        np.testing.assert_allclose(found[:, 0], [1, 0], atol=0.05)  # as wide as before, and not turned
    assert "skirt" not in body(without("right_knee")).with_skirt
    assert map_of("skirt", bone_maps(still, body(without("right_knee")))) is not None


@pytest.mark.parametrize(
    ("width", "at_hips", "knees", "wider"),
    [
        (1.05, 0.72, (38, 58), (0.99, 1.01)),  # legs as they were
        (0.72, 0.72, (38, 58), (0.99, 1.01)),  # narrow legs
        (1.05, 0.72, (28, 68), (1.5, 1.7)),  # no room: as much wider as the legs are
        (2.0, 0.72, (28, 68), (1.0, 1.1)),  # room enough
        (1.05, 1.05, (46, 50), (0.99, 1.01)),  # never narrower than at the hips
        (1.05, 0.72, (46, 50), (0.65, 0.75)),  # had been pushed apart
    ],
)
def test_legs_push_a_skirt_apart_where_there_is_no_room(
    width: float, at_hips: float, knees: tuple[int, int], wider: tuple[float, float]
) -> None:
    standing = body(STANDING | {"right_knee": (38, 82), "left_knee": (58, 82)})
    dressed = standing._replace(skirt=Skirt(1.0, width, at_hips))
    after = body(STANDING | {"right_knee": (knees[0], 82), "left_knee": (knees[1], 82)})
    across = bone_maps(dressed, after)["skirt"][0, 0]
    assert wider[0] <= across <= wider[1]


def test_nobody_is_a_body_without_bones() -> None:
    empty = body({})
    assert not {"head", "right_forearm"} & empty.bones.keys()
    assert empty.unit >= 1 and bone_maps(empty, body(STANDING)).keys() <= {"shoulders", "hips"}


def test_small_changes_of_length_are_noise_and_large_ones_are_not() -> None:
    assert steady(1.05, 0.1) == steady(0.95, 0.1) == 1.0
    assert steady(2.0, 0.1) == pytest.approx(2.0) and steady(0.4, 0.1) == pytest.approx(0.4)
    ratios = np.linspace(0.3, 3, 200)
    assert (np.diff([steady(ratio, 0.25) for ratio in ratios]) >= 0).all()


def test_off_bone() -> None:
    ends = np.array([0.0, 0.0]), np.array([10.0, 0.0])
    places = np.array([[5.0, 3.0], [14.0, 0.0], [-3.0, 4.0]])
    np.testing.assert_allclose(off_bone(places, ends), [3, 4, 5])
    np.testing.assert_allclose(off_bone(places, ends, beyond=2.0), [3, 2, 5])
