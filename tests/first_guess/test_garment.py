"""Skirts and trousers in one picture, and how they are drawn in other poses."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.evaluation.environment_suite import alone
from animate_anyone.first_guess.bones import Body, off_bone
from animate_anyone.first_guess.character import cut_out
from animate_anyone.first_guess.cutting import cut
from animate_anyone.first_guess.garment import Garment, below_hips
from animate_anyone.structures import NUM_KEYPOINTS, PoseSequence
from animate_anyone.synthetic.scenes import character_picture, sample_scene_clip
from standing import SIZE, STANDING

CLOTH, SKIN, SHIRT = (40, 160, 60), (220, 180, 150), (200, 30, 30)
Y, X = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
PLACES = np.stack([X, Y], -1)
Joints = dict[str, tuple[float, float]]


def body(joints: Joints) -> Body:
    return Body.of(PoseSequence(*sized(joints), SIZE))


def sized(joints: Joints, times: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points and scores of one frame, so many times as large."""
    keypoints = np.zeros((1, NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((1, NUM_KEYPOINTS), np.float32)
    for name, place in joints.items():
        keypoints[0, JOINT[name]], scores[0, JOINT[name]] = np.multiply(place, times), 1
    return keypoints, scores


def legs(joints: Joints, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Two legs and a shirt on black."""
    picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    picture[34:67, 38:59] = SHIRT
    for side in ("right", "left"):
        for start, end in (("hip", "knee"), ("knee", "ankle")):
            ends = np.array(joints[f"{side}_{start}"], float), np.array(joints[f"{side}_{end}"], float)
            picture[off_bone(PLACES, ends) < 4.5] = colour
    picture[62:68, 38:59] = colour
    return picture


def skirt(joints: Joints, hem: float, flare: float) -> NDArray[np.uint8]:
    """A skirt in front of two bare legs: ``hem`` in pixels from above, ``flare`` pixels of width a pixel of length."""
    picture = legs(joints, SKIN)
    half = 10.5 + flare * (Y - 62) / 2
    picture[(Y > 62) & (hem > Y) & (np.abs(X - 48) < half)] = CLOTH
    return picture


def found(picture: NDArray[np.uint8], joints: Joints) -> Garment:
    return seen(picture, joints, np.zeros(picture.shape[:2], bool), np.zeros(picture.shape[:2], bool))


def seen(picture: NDArray[np.uint8], joints: Joints, gone: NDArray[np.bool_], arms: NDArray[np.bool_]) -> Garment:
    """``gone``: no cloth; ``arms``: what may hide some."""
    on_bones = np.min([off_bone(PLACES, ends) for name, ends in body(joints).bones.items() if "thigh" in name], 0) < 2
    return below_hips(picture, picture.any(-1) & ~gone, arms, on_bones, body(joints), PLACES)


def hem_of(garment: Garment) -> float:
    return float(Y[:, 48][np.argmax(garment.below[:, 48] > 0)])


@pytest.mark.parametrize("flare", [0.0, 0.6, 1.4])
@pytest.mark.parametrize("hem", [88, 94])
def test_a_skirt_is_followed_to_its_hem(hem: int, flare: float) -> None:
    garment = found(skirt(STANDING, hem, flare), STANDING)
    assert garment.skirt and abs(hem_of(garment) - hem) < 4


def test_a_short_flared_skirt_is_one_and_short_straight_trousers_are_not() -> None:
    flared, straight = (found(skirt(STANDING, 78, flare), STANDING) for flare in (1.4, 0.0))
    assert flared.skirt and not straight.skirt
    assert abs(hem_of(flared) - 78) < 4 and hem_of(straight) < 75


def test_legs_that_are_much_narrower_than_the_hem_make_it_a_skirt() -> None:
    """One that is hardly wider than the hips, over legs side by side."""
    side = STANDING | {"right_knee": (47, 84), "left_knee": (49, 84), "right_ankle": (47, 102), "left_ankle": (49, 102)}
    garment = found(skirt(side, 82, 0.15), side)
    assert garment.skirt and abs(hem_of(garment) - 82) < 4


def test_a_ragged_hem_is_one() -> None:
    """Pleats end at different heights: there the skirt narrows by and by."""
    side = STANDING | {"right_knee": (47, 84), "left_knee": (49, 84), "right_ankle": (47, 102), "left_ankle": (49, 102)}
    picture = legs(side, SKIN)
    low = np.where(np.abs(X - 48) < 8.5, 80, 78)
    picture[(Y > 62) & (low > Y) & (np.abs(X - 48) < 10.5 + 0.1 * (Y - 62))] = CLOTH
    garment = found(picture, side)
    assert garment.skirt and abs(hem_of(garment) - 79) < 4


def test_a_pattern_does_not_end_a_skirt() -> None:
    picture = skirt(STANDING, 94, 1.0)
    band = picture[76:84]
    band[(band == CLOTH).all(-1)] = (250, 250, 250)
    garment = found(picture, STANDING)
    assert garment.skirt and abs(hem_of(garment) - 94) < 4


def test_trousers_are_no_skirt() -> None:
    """Apart; closed down to the knees, where they part; closed altogether, as seen from the side."""
    knees = STANDING | {
        "right_knee": (45, 84), "left_knee": (51, 84), "right_ankle": (36, 102), "left_ankle": (60, 102),
    }  # fmt: skip
    side = STANDING | {name: (48, y) for name, (_, y) in STANDING.items() if name.split("_")[-1] in ("knee", "ankle")}
    for joints in (STANDING, knees, side):
        garment = found(legs(joints, CLOTH), joints)
        assert not garment.skirt and hem_of(garment) < 75


def test_an_arm_in_front_of_a_skirt_does_not_part_it() -> None:
    picture = skirt(STANDING, 94, 1.0)
    arm = (np.abs(X - 48) < 5) & (Y > 74) & (Y < 90)
    garment = seen(picture, STANDING, arm, arm)
    assert garment.skirt and abs(hem_of(garment) - 94) < 4
    assert not seen(picture, STANDING, arm, np.zeros_like(arm)).skirt


def test_a_skirt_stays_in_one_piece_where_the_legs_cross() -> None:
    picture = skirt(STANDING, 96, 1.2)
    figure = cut(picture, body(STANDING), picture.any(-1).astype(np.float32))
    stride = STANDING | {
        "right_knee": (62, 82), "right_ankle": (66, 100), "left_knee": (34, 82), "left_ankle": (28, 98),
    }  # fmt: skip
    drawn = figure.draw(body(stride), np.zeros_like(picture)).picture
    cloth = (np.abs(drawn.astype(int) - CLOTH).max(-1) < 40)[68:92]
    for row in cloth:
        columns = np.flatnonzero(row)
        assert len(columns) >= 0.9 * (columns[-1] - columns[0] + 1)  # no gap
    assert cloth[-1].sum() > 0.8 * (21 + 1.2 * 30)  # and as wide as it was


def test_under_a_skirt_the_legs_go_on() -> None:
    """A leg that is bent away from the skirt hangs from something; that the picture did not show it, is marked."""
    picture = skirt(STANDING, 90, 0.8)
    figure = cut(picture, body(STANDING), picture.any(-1).astype(np.float32))
    raised = STANDING | {"left_knee": (84, 64), "left_ankle": (84, 84)}
    drawn = figure.draw(body(raised), np.zeros_like(picture))
    assert np.abs(drawn.picture[64, 78].astype(int) - SKIN).max() < 40
    assert drawn.unknown[64, 78] > 0.5


def test_a_hem_that_is_no_straight_line_goes_with_the_skirt() -> None:
    """Seen from above a hem is an arc: its lowest part is not taken for legs."""
    picture = legs(STANDING, SKIN)
    low = 86 + 6 * np.sqrt(np.clip(1 - ((X - 48) / 22) ** 2, 0, 1))
    picture[(Y > 62) & (low > Y) & (np.abs(X - 48) < 10 + 0.5 * (Y - 62))] = CLOTH
    figure = cut(picture, body(STANDING), picture.any(-1).astype(np.float32))
    apart = STANDING | {"right_ankle": (10, 98), "left_ankle": (86, 98)}
    drawn = figure.draw(body(apart), np.zeros_like(picture)).picture.astype(int)
    far = (np.abs(X - 48) > 26) & (Y > 80)
    assert not (far & (np.abs(drawn - CLOTH).max(-1) < 40)).any()


def test_the_shadow_of_a_skirt_on_a_leg_stays_the_leg_s_own_and_goes_on_nowhere() -> None:
    """Where the leg is seen it keeps its colours; what is made up under the skirt takes those below."""
    picture = np.repeat(np.repeat(skirt(STANDING, 88, 0.8), 4, 0), 4, 1)  # the hem is at 352
    for row in range(6):
        shade = picture[352 + row]
        shade[(shade == SKIN).all(-1)] = np.multiply(SKIN, 0.6 + 0.07 * row)
    keypoints = PoseSequence(*sized(STANDING, 4), (4 * SIZE[0], 4 * SIZE[1]))
    figure = cut(picture, Body.of(keypoints), picture.any(-1).astype(np.float32))
    leg = next(layer for layer in figure.layers if layer.name == "left_leg").planes.numpy()
    seen_of_it, under = leg[:, 355:358, 224], leg[:, 320:348, 224]
    assert seen_of_it[4].min() == 1 and np.abs(seen_of_it[:3].T - picture[355:358, 224]).max() < 2
    assert under[4].max() == 0 and np.abs(under[:3].T - SKIN).max() < 2


def test_outfits_of_the_studio() -> None:
    """Held-out characters in any pose: skirts and dresses are known, and so is what they are not."""
    right: dict[bool, list[bool]] = {True: [], False: []}
    how: dict[str, Any] = {"split": "held_out", "num_frames": 1, "size": (128, 128)}
    for seed in range(40):
        outfit = sample_scene_clip(seed, **how).description["outfit"]
        if outfit == "coat":  # some end above the hips' width, some flare
            continue
        subject = character_picture(seed, **how)
        assert subject.pose is not None
        figure, _ = cut_out(subject.picture, subject.pose, alone(subject.picture))
        trunk = next(layer for layer in figure.layers if layer.name == "trunk")
        wears = outfit in ("skirt", "dress")
        right[wears].append(("skirt" in trunk.bones) == wears)
    assert len(right[True]) >= 8 and len(right[False]) >= 8
    assert np.mean(right[True]) >= 0.8 and np.mean(right[False]) >= 0.8


def test_a_hand_beside_a_skirt_takes_nothing_of_it_along() -> None:
    """A wide skirt's sides are nearer to hands that hang down than to the legs."""
    hanging = STANDING | {
        "right_elbow": (33, 50),
        "right_wrist": (30, 68),
        "left_elbow": (63, 50),
        "left_wrist": (66, 68),
    }
    picture = skirt(hanging, 92, 1.6)
    for side in ("right", "left"):
        for start, end in (("shoulder", "elbow"), ("elbow", "wrist")):
            ends = np.array(hanging[f"{side}_{start}"], float), np.array(hanging[f"{side}_{end}"], float)
            picture[off_bone(PLACES, ends) < 3] = SKIN
    figure = cut(picture, body(hanging), picture.any(-1).astype(np.float32))
    raised = hanging | {
        "right_elbow": (26, 26),
        "right_wrist": (18, 10),
        "left_elbow": (70, 26),
        "left_wrist": (78, 10),
    }
    drawn = figure.draw(body(raised), np.zeros_like(picture)).picture.astype(int)
    assert not (np.abs(drawn[:50] - CLOTH).max(-1) < 60).any()
    assert (np.abs(drawn[:30] - SKIN).max(-1) < 40).any()  # the arms are there
    still = figure.draw(body(hanging), np.zeros_like(picture)).picture.astype(int)
    cloth, before = (np.abs(drawn - CLOTH).max(-1) < 60).sum(), (np.abs(still - CLOTH).max(-1) < 60).sum()
    assert cloth > 0.95 * before
