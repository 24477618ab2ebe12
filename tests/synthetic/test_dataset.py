"""Clips: the same seed is the same clip, the splits share nothing, sizes show one scene."""

import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from animate_anyone.errors import InputError
from animate_anyone.synthetic.dataset import Clip, sample_clip, stream
from animate_anyone.synthetic.figure.body import sample_body
from animate_anyone.synthetic.figure.look import sample_look
from animate_anyone.synthetic.motion.dance import MOTIONS
from animate_anyone.synthetic.picture.lighting import sample_shading
from animate_anyone.synthetic.place.backdrop import sample_backdrop

SMALL = (64, 64)


def tensors(clip: Clip) -> list[torch.Tensor]:
    return [clip.frames, clip.keypoints_3d, clip.visible, clip.depth, clip.mask, clip.labels]


def test_shapes_and_types() -> None:
    clip = sample_clip(1, size=(72, 48), num_frames=5)
    assert clip.frames.shape == (5, 48, 72, 3) and clip.frames.dtype == torch.uint8
    assert clip.keypoints_3d.shape == (5, 128, 3) and clip.visible.shape == (5, 128)
    for plane, kind in ((clip.depth, torch.float32), (clip.mask, torch.bool), (clip.labels, torch.uint8)):
        assert plane.shape == (5, 48, 72) and plane.dtype == kind
    assert clip.pose.size == (72, 48) and clip.pose.fps == Fraction(12) and len(clip.pose) == 5
    json.dumps(clip.description)


def test_one_seed_is_one_clip() -> None:
    first, again = (sample_clip(7, size=SMALL, num_frames=6) for _ in range(2))
    for a, b in zip(tensors(first), tensors(again), strict=True):
        assert torch.equal(a, b)
    assert np.array_equal(first.pose.keypoints, again.pose.keypoints)
    other = sample_clip(8, size=SMALL, num_frames=6)
    assert not torch.equal(first.frames, other.frames)


def test_global_random_state_is_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    sample_clip(3, size=SMALL, num_frames=2)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]


@pytest.mark.parametrize("seed", range(6))
def test_some_frames_are_those_of_the_whole_clip(seed: int) -> None:
    chosen = [11, 2, 7]
    whole, some = (
        sample_clip(seed, size=SMALL, num_frames=12),
        sample_clip(seed, size=SMALL, num_frames=12, frame_indices=chosen),
    )
    for a, b in zip(tensors(whole), tensors(some), strict=True):
        assert torch.equal(a[chosen], b)
    assert np.array_equal(whole.pose.keypoints[chosen], some.pose.keypoints)
    assert np.array_equal(whole.pose.scores[chosen], some.pose.scores)


def test_times_of_chosen_frames() -> None:
    assert sample_clip(0, size=SMALL, num_frames=9, frame_indices=[4, 5, 6]).pose.times is None
    times = sample_clip(0, size=SMALL, num_frames=9, frame_indices=[2, 3, 8]).pose.times
    assert times is not None and np.allclose(times, [0, 1 / 12, 6 / 12])


@pytest.mark.parametrize("seed", range(5))
def test_another_size_shows_the_same_scene(seed: int) -> None:
    small, large = (sample_clip(seed, size=(s, s), frame_indices=[5]) for s in (64, 128))
    assert np.allclose(small.pose.scaled_to((128, 128)).keypoints, large.pose.keypoints, atol=1e-3)
    assert torch.equal(small.keypoints_3d, large.keypoints_3d)
    halved = large.frames.float().reshape(1, 64, 2, 64, 2, 3).mean((2, 4))
    assert (halved - small.frames.float()).abs().mean() < 5
    assert abs(small.mask.float().mean() - large.mask.float().mean()) < 0.01


def test_splits_share_no_puppet_motion_or_background() -> None:
    def drawn(split: str, seed: int) -> set[bytes]:
        body = sample_body(stream(split, seed, "body"))
        look = sample_look(stream(split, seed, "look"), body)
        scene = stream(split, seed, "scene")
        sample_shading(scene)
        angles = MOTIONS["dance"][0](stream(split, seed, "motion dance"), np.arange(4) / 12).angles
        pieces = (body.offsets, look.lattice, np.array([m.first for m in look.materials]), look.parts.origin, angles,
                  sample_backdrop(scene).colours)  # fmt: skip
        return {np.ascontiguousarray(piece).tobytes() for piece in pieces}

    train = set().union(*(drawn("train", seed) for seed in range(40)))
    held_out = set().union(*(drawn("held_out", seed) for seed in range(40)))
    assert len(train) == len(held_out) == 240  # no two seeds alike either
    assert not train & held_out


def test_a_driving_dance_of_a_held_out_puppet() -> None:
    clip = sample_clip(3, split="held_out", num_frames=48, motion="dance", size=SMALL)
    assert clip.description["motion"] == "dance" and len(clip.frames) == 48
    moved = np.linalg.norm(np.diff(clip.pose.keypoints[:, :18], axis=0), axis=-1).max(0)
    assert moved.max() > 1.0  # pixels a frame, somewhere


@pytest.mark.parametrize(
    "wrong",
    [
        {"split": "test"},
        {"motion": "fly"},
        {"num_frames": 0},
        {"frame_indices": [24]},
        {"frame_indices": []},
        {"size": (4, 4)},
    ],
)
def test_mistakes_are_named(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        sample_clip(0, **wrong)
