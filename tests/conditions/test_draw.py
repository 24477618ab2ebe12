"""Drawing: the published pixel layout, sizes, missing points, order."""

from __future__ import annotations

import colorsys
import math
from dataclasses import replace

import numpy as np
import pytest

from animate_anyone.conditions.draw import STYLES, SkeletonStyle, draw_frames, draw_pose
from animate_anyone.conditions.skeleton import BODY_COLOURS, BODY_LIMBS, HAND_LIMBS, JOINT
from animate_anyone.errors import InputError
from animate_anyone.structures import FACE, LEFT_HAND, NUM_KEYPOINTS, RIGHT_HAND, PoseSequence
from people import person


def only(pose: PoseSequence, *joints: int) -> PoseSequence:
    scores = np.zeros_like(pose.scores)
    scores[:, list(joints)] = 1
    return replace(pose, scores=scores)


def test_pixels_of_one_limb() -> None:
    """An arm from (50, 100) to (150, 100): darkened ellipse 8 to 9 pixels wide, full-colour discs at its ends."""
    pose = person(size=(200, 200))
    points = pose.keypoints.copy()
    elbow, wrist = JOINT["right_elbow"], JOINT["right_wrist"]
    points[0, elbow], points[0, wrist] = (50.5, 100.5), (150.5, 100.5)
    picture = draw_pose(only(replace(pose, keypoints=points), elbow, wrist), (200, 200))[0]

    limb = BODY_LIMBS.index((elbow, wrist))
    assert tuple(picture[100, 100]) == tuple(int(0.6 * c) for c in BODY_COLOURS[limb])
    assert tuple(picture[100, 50]) == BODY_COLOURS[elbow]
    assert tuple(picture[100, 150]) == BODY_COLOURS[wrist]
    width = (picture[:, 100].max(axis=-1) > 0).sum()
    assert width == 9, f"limb is {width} pixels wide at its middle, 9 as published"
    assert (picture[:, 50].max(axis=-1) > 0).sum() == 9  # a disc of radius 4
    assert picture[100, 45].max() == 0 and picture[100, 46].max() > 0
    assert set(map(tuple, picture.reshape(-1, 3))) == {(0, 0, 0), (153, 153, 0), (255, 255, 0), (170, 255, 0)}


def test_hands_are_rainbow_and_blue_the_face_is_white() -> None:
    pose = person(size=(512, 512), torso=200)
    spread = pose.keypoints.copy()
    spread[0, LEFT_HAND] = [(40 + 100 * (i % 5), 40 + 100 * (i // 5)) for i in range(21)]
    spread[0, FACE] = [(8 + 7 * i, 500) for i in range(68)]
    pose = replace(pose, keypoints=spread)

    hand = draw_pose(only(pose, *range(LEFT_HAND.start, LEFT_HAND.stop)), (512, 512))[0]
    assert tuple(hand[40, 40]) == (0, 0, 255)
    edge = 1  # thumb, second bone
    start, end = (spread[0, LEFT_HAND][joint] for joint in HAND_LIMBS[edge])
    middle = ((start + end) / 2).astype(int)
    wanted = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(edge / 20, 1, 1))
    assert tuple(hand[middle[1], middle[0]]) == wanted

    face = draw_pose(only(pose, *range(FACE.start, FACE.stop)), (512, 512))[0]
    assert set(map(tuple, face.reshape(-1, 3))) == {(0, 0, 0), (255, 255, 255)}
    assert (face[:, 8].max(axis=-1) > 0).sum() == 7  # a disc of radius 3

    assert not draw_pose(pose, (512, 512), hands=False)[0][40, 40].any()
    only_face = only(pose, *range(FACE.start, FACE.stop))
    assert not draw_pose(only_face, (512, 512), face=False).any()


def test_close_to_opencv() -> None:
    """The same strokes by OpenCV, which the published drawings were made with, differ at few pixels."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV comes with the extra 'pose'")
    rng = np.random.default_rng(3)
    points = rng.uniform(30, 480, (NUM_KEYPOINTS, 2)).astype(np.float32)
    pose = replace(person(size=(512, 512)), keypoints=points[None])
    ours = draw_pose(pose, (512, 512), hands=False, face=False)[0]

    theirs = np.zeros((512, 512, 3), np.uint8)
    for (start, end), colour in zip(BODY_LIMBS, BODY_COLOURS, strict=False):
        (x0, y0), (x1, y1) = points[start].tolist(), points[end].tolist()
        angle = math.degrees(math.atan2(y0 - y1, x0 - x1))
        axes = (int(math.hypot(x0 - x1, y0 - y1) / 2), 4)
        outline = cv2.ellipse2Poly((int((x0 + x1) / 2), int((y0 + y1) / 2)), axes, int(angle), 0, 360, 1)
        cv2.fillConvexPoly(theirs, outline, colour)
    theirs = (theirs * 0.6).astype(np.uint8)
    for joint, colour in enumerate(BODY_COLOURS):
        cv2.circle(theirs, tuple(int(v) for v in points[joint]), 4, colour, -1)
    differing = (ours != theirs).any(-1).sum() / theirs.any(-1).sum()
    assert differing < 0.08, f"{differing:.1%} of the drawn pixels differ, 8% allowed"


@pytest.mark.parametrize("size", [(128, 128), (256, 256), (768, 512)])
def test_scaled_style_covers_the_same_share_at_any_size(size: tuple[int, int]) -> None:
    pose = person()
    share = [(draw_pose(pose, at, style="scaled") > 127).any(-1).mean() for at in ((512, 512), size)]
    assert share[1] == pytest.approx(share[0], rel=0.25)


def test_scaled_strokes_move_by_fractions_of_a_pixel() -> None:
    pose = person()
    moved = replace(pose, keypoints=pose.keypoints + np.float32(0.3))
    dots = [only(p, JOINT["nose"], JOINT["left_ankle"]) for p in (pose, moved)]
    still, shifted = (draw_pose(p, pose.size, style="scaled").sum(axis=(1, 3), dtype=int) for p in dots)
    columns = np.arange(pose.size[0])
    assert (shifted @ columns / shifted.sum() - still @ columns / still.sum())[0] == pytest.approx(0.3, abs=0.05)
    still, shifted = (draw_pose(p, pose.size) for p in dots)
    np.testing.assert_array_equal(still, shifted)


def test_unsure_points_and_their_limbs_are_left_out() -> None:
    pose = person(size=(400, 600))
    scores = pose.scores.copy()
    scores[:, JOINT["right_wrist"]] = 0.29
    scores[:, RIGHT_HAND] = 0
    picture = draw_pose(replace(pose, scores=scores), (400, 600), style="dwpose")[0]
    x, y = pose.keypoints[0, JOINT["right_wrist"]].astype(int)
    assert not picture[y - 3 : y + 4, x - 3 : x + 4].any()
    nobody = replace(pose, scores=np.zeros_like(pose.scores))
    assert not draw_pose(nobody, (64, 64)).any()


def test_points_outside_are_cut_off() -> None:
    pose = person()
    far = replace(pose, keypoints=(pose.keypoints - 200) * 1e6)
    for style in STYLES:
        assert draw_pose(far, (64, 48), style=style).shape == (1, 48, 64, 3)


def test_near_limbs_cover_far_ones_on_request() -> None:
    pose = person(size=(200, 200))
    points, depth = pose.keypoints.copy(), np.zeros(pose.scores.shape, np.float32)
    arm, leg = (JOINT["right_elbow"], JOINT["right_wrist"]), (JOINT["left_knee"], JOINT["left_ankle"])
    points[0, arm[0]], points[0, arm[1]] = (20, 100), (180, 100)
    points[0, leg[0]], points[0, leg[1]] = (100, 20), (100, 180)
    depth[0, list(leg)] = 1.0
    pose = only(replace(pose, keypoints=points, depth=depth), *arm, *leg)
    colour = {name: tuple(int(0.6 * c) for c in BODY_COLOURS[BODY_LIMBS.index(name)]) for name in (arm, leg)}
    assert tuple(draw_pose(pose, (200, 200))[0][100, 100]) == colour[leg]
    assert tuple(draw_pose(pose, (200, 200), depth_order=True)[0][100, 100]) == colour[arm]


def test_frames_come_one_by_one() -> None:
    pose = person(frames=3)
    frames = draw_frames(pose, (64, 96))
    assert iter(frames) is frames
    np.testing.assert_array_equal(np.stack(list(frames)), draw_pose(pose, (64, 96)))


def test_mistakes_are_told_in_one_line() -> None:
    pose = person()
    with pytest.raises(InputError, match="no skeleton style 'dwpos'; there are: dwpose, scaled"):
        draw_pose(pose, (64, 64), style="dwpos")
    with pytest.raises(InputError, match="no depth"):
        draw_frames(pose, (64, 64), depth_order=True)
    with pytest.raises(InputError, match="0x64"):
        draw_pose(pose, (0, 64))
    with pytest.raises(InputError, match="stick_width is -1"):
        SkeletonStyle(stick_width=-1)
