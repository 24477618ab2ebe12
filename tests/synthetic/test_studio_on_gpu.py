"""The studio on a GPU: on a pretended one no tensor may be on the wrong device; a real one draws as the CPU does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from animate_anyone.synthetic.dataset import Clip, sample_clip
from animate_anyone.synthetic.place.backdrop import BACKGROUNDS
from animate_anyone.synthetic.place.surroundings import SURROUNDINGS
from animate_anyone.synthetic.scenes import character_picture, sample_scene_clip
from pretended_gpu import pretended_gpu

SMALL = {"num_frames": 3, "size": (32, 32), "supersample": 1}


def same(one: Clip, other: Clip) -> Iterator[bool]:
    """Per tensor of two clips, whether the values are alike."""
    for field in fields(one):
        value = getattr(one, field.name)
        if isinstance(value, Tensor):
            assert value.is_cuda
            yield torch.equal(value.cpu(), getattr(other, field.name))


@pytest.mark.parametrize("domain", ["plain", "wide"])
@pytest.mark.parametrize("make", [sample_clip, sample_scene_clip])
def test_a_pretended_gpu_draws_the_same(make: type, domain: str) -> None:
    places = set()
    for seed in range(12):
        wanted = make(seed, domain=domain, **SMALL)
        places.add(wanted.description["background"])
        with pretended_gpu() as gpu:
            clip = make(seed, domain=domain, device=gpu, **SMALL)
            assert all(same(clip, wanted)), seed
    assert len(places) > 3
    assert places <= {*BACKGROUNDS, *SURROUNDINGS}


def test_a_character_alone() -> None:
    wanted = character_picture(3, domain="wide", **SMALL)
    with pretended_gpu() as gpu:
        assert (character_picture(3, domain="wide", device=gpu, **SMALL).picture == wanted.picture).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("domain", ["plain", "wide"])
@pytest.mark.parametrize("make", [sample_clip, sample_scene_clip])
def test_a_gpu_draws_what_the_cpu_draws(make: type, domain: str) -> None:
    """But for a few pixels at edges, where rounding decides which brick is hit."""
    for seed in range(4):
        one, other = (make(seed, domain=domain, num_frames=4, size=(64, 64), device=d) for d in ("cuda", "cpu"))
        far = (one.frames.cpu().int() - other.frames.int()).abs().float()
        assert (far > 8).float().mean() < 0.01, seed
        assert (one.mask.cpu() != other.mask).float().mean() < 0.002
        assert (one.pose.keypoints == other.pose.keypoints).all()
        assert (one.pose.scores != other.pose.scores).mean() < 0.01
