"""The ground truth agrees with the picture: that is what everything else is measured against."""

import functools

import numpy as np
import pytest
import torch

from animate_anyone.conditions.skeleton import JOINT
from animate_anyone.structures import FACE, LEFT_HAND, RIGHT_HAND
from animate_anyone.synthetic.dataset import Clip, sample_clip
from animate_anyone.synthetic.figure.bricks import Label

SEEDS = range(30)


@functools.cache
def clip_of(seed: int) -> Clip:
    return sample_clip(seed, size=(96, 96), frame_indices=[0, 13])


def looks_at_camera(clip: Clip, frame: int) -> float:
    """Forward direction of the trunk towards the camera, 1 facing it, from the 3-D shoulders and hips."""
    points = clip.keypoints_3d[frame].double().numpy()
    across = points[JOINT["left_shoulder"]] - points[JOINT["right_shoulder"]]
    up = points[JOINT["neck"]] - 0.5 * (points[JOINT["left_hip"]] + points[JOINT["right_hip"]])
    forward = np.cross(across, up)
    return float(-forward[2] / np.linalg.norm(forward))


@pytest.mark.parametrize("seed", SEEDS)
def test_visible_joints_lie_on_the_person(seed: int) -> None:
    clip = clip_of(seed)
    near = torch.nn.functional.max_pool2d(clip.mask[:, None].float(), 5, 1, 2)[:, 0] > 0
    frames, joints = clip.visible[:, :18].nonzero(as_tuple=True)
    x, y = np.moveaxis(clip.pose.keypoints[frames, joints].astype(int), -1, 0)
    assert len(frames) and near[frames, y, x].all()


@pytest.mark.parametrize("seed", SEEDS)
def test_depth_mask_and_labels_agree(seed: int) -> None:
    clip = clip_of(seed)
    assert torch.isfinite(clip.depth[clip.mask]).all() and torch.isinf(clip.depth[~clip.mask]).all()
    assert torch.equal(clip.labels > 0, clip.mask) and 0.02 < clip.mask.float().mean() < 0.8
    points = clip.keypoints_3d[..., 2]
    assert clip.depth[clip.mask].min() > points.min() - 0.8 and clip.depth[clip.mask].max() < points.max() + 0.8


def test_visible_points_lie_just_under_the_surface_and_hidden_ones_deeper() -> None:
    deepest, face_depth, hidden = [], [], []
    for seed in SEEDS:
        clip = clip_of(seed)
        near, far = (
            sign * torch.nn.functional.max_pool2d(sign * clip.depth[:, None], 3, 1, 1)[:, 0].numpy() for sign in (-1, 1)
        )
        z, seen = clip.keypoints_3d[..., 2].numpy(), clip.visible.numpy()
        inside = (clip.pose.keypoints >= 0).all(-1) & (clip.pose.keypoints < 96).all(-1)
        x, y = np.moveaxis(np.clip(clip.pose.keypoints, 0, 95).astype(int), -1, 0)
        frame = np.arange(2)[:, None]
        deepest += (z - far[frame, y, x])[seen & inside].tolist()
        hidden += (z - near[frame, y, x])[~seen & inside].tolist()
        facing = (clip.pose.scores[:, FACE] > 0).all(1)
        face_depth += np.abs(z - near[frame, y, x])[facing][:, FACE.start + 17 :][
            seen[facing][:, FACE.start + 17 :]
        ].tolist()
    assert len(deepest) > 1000 and np.quantile(deepest, 0.995) < 0.25  # metres; clothes and trunks are that thick
    assert len(face_depth) > 200 and np.quantile(face_depth, 0.95) < 0.05
    assert len(hidden) > 1000 and (np.array(hidden) > 0).mean() > 0.99


def test_left_and_right_are_the_persons_own() -> None:
    facing = away = 0
    for seed in SEEDS:
        clip = clip_of(seed)
        for frame in range(2):
            front = looks_at_camera(clip, frame)
            x = clip.pose.keypoints[frame, :, 0]
            order = x[JOINT["left_shoulder"]] - x[JOINT["right_shoulder"]]
            if front > 0.7:
                facing += 1
                assert order > 0 and x[JOINT["left_hip"]] > x[JOINT["right_hip"]]
            elif front < -0.7:
                away += 1
                assert order < 0
            if clip.pose.scores[frame, FACE].min() > 0 and front > 0.9:
                face = x[FACE]
                assert face[0] < face[8] < face[16] and face[36:42].mean() < face[42:48].mean()
    assert facing >= 10 and away >= 2


def test_a_face_is_found_in_front_and_not_from_behind() -> None:
    front = behind = 0
    for seed in range(60):
        clip = sample_clip(seed, size=(160, 160), frame_indices=[4], motion="idle", supersample=1)
        side = looks_at_camera(clip, 0)
        if side > 0.85:
            front += 1
            assert (clip.pose.scores[0, [0, 14, 15]] > 0).all() and (clip.pose.scores[0, FACE] > 0).mean() > 0.95
        elif side < -0.6:
            behind += 1
            assert (clip.pose.scores[0, FACE] == 0).all() and (clip.pose.scores[0, [0, 14, 15]] == 0).all()
            assert not clip.visible[0, [0, 14, 15]].any()
    assert front >= 10 and behind >= 2


def test_pixels_at_visible_wrists_and_fingers_are_arm_or_hand_of_that_side() -> None:
    right_sides = wrong = 0
    for seed in SEEDS:
        clip = clip_of(seed)
        for side, group in (("LEFT", LEFT_HAND), ("RIGHT", RIGHT_HAND)):
            own = {int(Label[f"{side}_{limb}"]) for limb in ("HAND", "LOWER_ARM", "UPPER_ARM")}
            for frame in range(2):
                for point in [group.start, group.start + 9, group.start + 5]:
                    if not clip.visible[frame, point]:
                        continue
                    x, y = clip.pose.keypoints[frame, point].astype(int)
                    near = clip.labels[frame, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].flatten().tolist()
                    right_sides += bool(own & set(near))
                    wrong += not own & set(near)
    assert right_sides > 100 and wrong <= 0.02 * right_sides


def test_labels_near_head_and_feet() -> None:
    names = {
        JOINT["nose"]: {Label.HEAD, Label.HAIR},
        JOINT["left_ankle"]: {Label.LEFT_FOOT, Label.LEFT_SHIN, Label.SKIRT},
        JOINT["right_ankle"]: {Label.RIGHT_FOOT, Label.RIGHT_SHIN, Label.SKIRT},
    }
    seen = 0
    for seed in SEEDS:
        clip = clip_of(seed)
        for joint, wanted in names.items():
            if clip.visible[0, joint]:
                x, y = clip.pose.keypoints[0, joint].astype(int)
                near = set(clip.labels[0, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].flatten().tolist())
                assert near & {int(n) for n in wanted}
                seen += 1
    assert seen > 40


def test_pose_depth_is_the_3d_depth_in_frame_heights() -> None:
    for seed in range(8):
        clip = clip_of(seed)
        assert clip.pose.depth is not None
        z = clip.keypoints_3d[..., 2].numpy()
        hips = z[:, [8, 11]].mean(1, keepdims=True)
        assert np.allclose(clip.pose.depth[:, [8, 11]].mean(1), 0, atol=1e-5)
        # the same factor turns metres across the picture into frame heights at the hips' depth
        across = clip.keypoints_3d[:, 2] - clip.keypoints_3d[:, 1]
        drawn = (clip.pose.keypoints[:, 2] - clip.pose.keypoints[:, 1]) / 96
        scale = np.linalg.norm(drawn, axis=-1) / across[:, :2].norm(dim=-1).numpy()
        assert np.allclose(clip.pose.depth, (z - hips) * scale[:, None], atol=0.05, rtol=0.15)


def test_scores_follow_sight() -> None:
    for seed in SEEDS:
        clip = clip_of(seed)
        keypoints, scores = clip.pose.keypoints, clip.pose.scores
        outside = ((keypoints < 0) | (keypoints >= 96)).any(-1)
        assert (scores[outside] == 0).all() and not clip.visible.numpy()[outside].any()
        limbs = scores[:, 1:14][~outside[:, 1:14]]
        assert (limbs >= 0.6 - 1e-6).all() and (scores <= 1).all()
