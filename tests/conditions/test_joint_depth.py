"""Depth of keypoints from maps whose truth is known: the values, their unit and sign, and what is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from animate_anyone.conditions.joint_depth import FLAT_SPREAD, sample_joints, with_joint_depth
from animate_anyone.conditions.limb_depth import draw_limb_depth
from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.errors import InputError
from animate_anyone.structures import LEFT_HAND, PoseSequence
from animate_anyone.synthetic.dataset import sample_clip
from people import person

SIZE = (400, 600)
TORSO = 120.0
HIPS = [JOINT["right_hip"], JOINT["left_hip"]]


def slope(x: float = 0.0, y: float = 0.0) -> NDArray[np.float64]:
    """``(height, width)``: a plane that grows by so much a pixel, 0 in the middle."""
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    return x * (columns - SIZE[0] / 2) + y * (rows - SIZE[1] / 2)


def seen_in(pose: PoseSequence, *maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Samples of one plane a frame ``(h, w)``, or of three."""
    planes = [m if m.ndim == 3 else m[None] for m in maps]
    rows = zip(planes, pose.keypoints, pose.scores, strict=True)
    return np.stack([sample_joints(plane, points, scores) for plane, points, scores in rows])


def pointing(count: int = 6) -> tuple[PoseSequence, NDArray[np.float64]]:
    """Somebody whose left forearm turns towards the camera, and the true depth ``(frames, 128)`` in pixels."""
    pose = person(count, SIZE, torso=TORSO, neck=(200, 120))
    points, depth = pose.keypoints.astype(np.float64).copy(), np.zeros(pose.scores.shape)
    elbow, wrist = JOINT["left_elbow"], JOINT["left_wrist"]
    length = float(np.hypot(*(points[0, wrist] - points[0, elbow])))
    for frame, share in enumerate(np.linspace(1.0, 0.3, count)):
        moved = points[frame, elbow] + share * (points[frame, wrist] - points[frame, elbow])
        points[frame, LEFT_HAND] += moved - points[frame, wrist]
        points[frame, wrist] = moved
        depth[frame, wrist] = -length * np.sqrt(1 - share**2)
        depth[frame, LEFT_HAND] = depth[frame, wrist]
    return replace(pose, keypoints=points.astype(np.float32)), depth


def drawn(pose: PoseSequence, depth: NDArray[np.float64], frame: int) -> NDArray[np.float64]:
    """A map in pixels: the body at 0, the left forearm from its elbow's depth to its wrist's, the room far behind."""
    plane = np.full(SIZE[::-1], 900.0)
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    limbs = [(1, 2), (2, 3), (3, 4), (1, 5), (5, 6), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0)]
    limbs += [(8, 11), (2, 8), (5, 11), (0, 16), (0, 17), (6, 7)]  # the last one in front
    for start, end in limbs:
        one, other = pose.keypoints[frame, start].astype(float), pose.keypoints[frame, end].astype(float)
        along = other - one
        share = ((columns - one[0]) * along[0] + (rows - one[1]) * along[1]) / max((along**2).sum(), 1e-9)
        share = share.clip(0, 1)
        near = np.hypot(columns - one[0] - share * along[0], rows - one[1] - share * along[1]) <= 0.1 * TORSO
        plane[near] = ((1 - share) * depth[frame, start] + share * depth[frame, end])[near]
    return plane


def test_points_have_the_torsos_unit() -> None:
    """X, y and z of any one unit: depth comes out in frame heights."""
    pose = person(2, SIZE, torso=TORSO, neck=(200, 120))
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    points = 0.01 * np.stack([columns, rows, 500 + slope(x=0.8)])
    depth = with_joint_depth(pose, seen_in(pose, points, points)).depth
    assert depth is not None
    middle = pose.keypoints[:, HIPS, 0].mean(axis=1, keepdims=True)
    body = slice(0, 18)
    wanted = 0.8 * (pose.keypoints[:, body, 0] - middle) / SIZE[1]
    np.testing.assert_allclose(depth[:, body], wanted, atol=0.002)
    assert np.ptp(wanted) > 0.1


@pytest.mark.parametrize("inverse", [False, True])
def test_the_unit_of_a_map_comes_from_bones_that_are_foreshortened(inverse: bool) -> None:
    """Depth as it is, and as relative networks give it: the negative of inverse depth, of any scale and zero."""
    pose, true = pointing()
    maps = [drawn(pose, true, frame) for frame in range(len(pose))]
    away = 3000.0
    given = [-(5e4 / (away + m) + 7) if inverse else 0.02 * m + 3 for m in maps]
    found = with_joint_depth(pose, seen_in(pose, *given))
    assert found.depth is not None
    wrist = JOINT["left_wrist"]
    np.testing.assert_allclose(found.depth[:, wrist], true[:, wrist] / SIZE[1], atol=0.012)
    assert true[-1, wrist] / SIZE[1] < -0.08
    others = [n for name, n in JOINT.items() if name not in ("left_wrist", "left_elbow")]
    assert np.abs(found.depth[:, others]).max() < 0.01
    assert np.abs(found.depth[:, LEFT_HAND] - found.depth[:, [wrist]]).max() < 0.02
    # The nearer limb is drawn brighter, as from joints whose depth an estimator gives.
    picture = draw_limb_depth(found[-1:], SIZE)[0]
    x, y = pose.keypoints[-1, wrist].astype(int)
    other_x, other_y = pose.keypoints[-1, JOINT["right_wrist"]].astype(int)
    assert picture[y, x] > picture[other_y, other_x] + 0.1 and picture[other_y, other_x] == pytest.approx(
        0.55, abs=0.03
    )


def test_a_limb_that_another_one_crosses_keeps_its_own_depth() -> None:
    pose, true = pointing(1)
    plane = drawn(pose, true, 0)
    knee = pose.keypoints[0, JOINT["right_knee"]].astype(int)
    hip = pose.keypoints[0, JOINT["right_hip"]].astype(int)
    middle = (knee[1] + hip[1]) // 2
    plane[middle - 12 : middle + 12] = -80  # an arm over the thigh
    shin = pose.keypoints[0, JOINT["right_ankle"]].astype(int)
    plane[shin[1] - 3 :, :] = 900  # the ankle was put a little beside the foot
    (found,) = seen_in(pose, plane)
    for joint in ("right_hip", "right_knee", "right_ankle"):
        assert found[JOINT[joint], 0] == pytest.approx(0, abs=1e-6), joint


def test_what_is_hidden_is_left_out_and_interpolated() -> None:
    pose = person(3, SIZE, torso=TORSO, neck=(200, 120))
    wrist = JOINT["right_wrist"]
    scores = pose.scores.copy()
    scores[1, wrist] = 0.1
    pose = replace(pose, scores=scores)
    flat, other = np.zeros(SIZE[::-1]), np.zeros(SIZE[::-1])
    x, y = pose.keypoints[0, wrist].astype(int)
    other[y - 40 : y + 40, x - 40 : x + 40] = 50  # what hides it
    samples = seen_in(pose, flat, other, flat)
    assert np.isnan(samples[1, wrist, 0])
    found = with_joint_depth(pose, samples).depth
    assert found is not None and found[1, wrist] == 0 and np.isfinite(found).all()


def test_where_no_bone_tells_the_spread_is_bounded() -> None:
    pose = person(2, SIZE, torso=TORSO, neck=(200, 120))
    found = with_joint_depth(pose, seen_in(pose, slope(y=40.0), slope(y=40.0))).depth
    assert found is not None
    spread = np.ptp(found[:, :18]) * SIZE[1] / TORSO
    assert 0.95 * FLAT_SPREAD <= spread < 1.5 * FLAT_SPREAD
    assert found[0, JOINT["right_ankle"]] > 0 > found[0, JOINT["nose"]]
    nothing = with_joint_depth(pose, np.full((2, 128, 1), np.nan)).depth
    assert nothing is not None and not nothing.any()
    with pytest.raises(InputError, match="samples have shape"):
        with_joint_depth(pose, np.zeros((2, 128, 2)))


def test_a_body_that_leaves_the_map() -> None:
    pose = person(1, SIZE, torso=TORSO, neck=(200, 120))
    outside = replace(pose, keypoints=pose.keypoints + np.float32([0, 330]))
    (found,) = seen_in(outside, slope(y=1.0))
    assert np.isfinite(found[JOINT["neck"], 0]) and np.isnan(found[JOINT["right_ankle"], 0])


@pytest.mark.parametrize("kind", ["relative", "metric", "points"])
def test_a_rendered_scene_whose_depth_is_known(kind: str) -> None:
    """A clip of the studio: depth of its surface in, depth of its joints out."""
    clip = sample_clip(2, num_frames=8, size=(192, 256))
    z = clip.depth.numpy().astype(np.float64)
    z = np.where(np.isfinite(z), z, 12.0)  # the room
    points = clip.keypoints_3d.numpy()
    rows, columns = np.mgrid[: z.shape[1], : z.shape[2]] + 0.5
    rays = [
        np.polyfit((points[..., axis] / points[..., 2]).ravel(), clip.pose.keypoints[..., axis].ravel(), 1)
        for axis in (0, 1)
    ]
    across, down = (
        (pixels - middle) / focal * z for pixels, (focal, middle) in zip((columns, rows), rays, strict=True)
    )
    planes = {"relative": -(3 / z + 0.7)[:, None], "metric": z[:, None], "points": np.stack([across, down, z], axis=1)}
    found = with_joint_depth(clip.pose, seen_in(clip.pose, *planes[kind])).depth
    assert found is not None and clip.pose.depth is not None
    seen = clip.visible.numpy()[:, :18]
    true, measured = clip.pose.depth[:, :18][seen], found[:, :18][seen]
    slope = float((measured * true).sum() / (true**2).sum())
    likeness = float(np.corrcoef(measured, true)[0, 1])
    print(f"slope {slope:.2f}, correlation {likeness:.3f}")
    assert 0.75 < slope < 1.35 and likeness > 0.93
