"""The noise that denoising begins with."""

from __future__ import annotations

import pytest
import torch

from animate_anyone.sampling.latents import initial_noise
from pretended_gpu import pretended_gpu

CPU = torch.device("cpu")


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("axis", [1, 2])
def test_frames_share_it_or_have_their_own(axis: int) -> None:
    shape = (2, 3, 4, 5, 6)
    own = initial_noise(shape, axis, shared=False, generator=seeded(), device=CPU)
    assert torch.equal(own, torch.randn(shape, generator=seeded()))
    shared = initial_noise(shape, axis, shared=True, generator=seeded(), device=CPU)
    single = torch.Size(1 if k == axis else n for k, n in enumerate(shape))
    assert torch.equal(shared, torch.randn(single, generator=seeded()).expand(shape))


def test_a_seed_means_the_same_noise_on_a_gpu() -> None:
    wanted = initial_noise((1, 4, 3, 2, 2), 2, shared=False, generator=seeded(), device=CPU)
    with pretended_gpu() as gpu:
        there = initial_noise((1, 4, 3, 2, 2), 2, shared=False, generator=seeded(), device=gpu)
        assert there.is_cuda
        assert torch.equal(there.cpu(), wanted)
