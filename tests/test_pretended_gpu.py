"""The pretended GPU refuses what a real one refuses, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretended_gpu import on_gpu, pretended_gpu

HERE = torch.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda there: there + HERE,
        lambda there: HERE.mul_(there),
        lambda there: torch.cat([there, HERE]),
        lambda there: torch.where(there > 2, there, HERE),
        lambda there: F.linear(HERE, there),
        lambda there: nn.Linear(3, 2).to("cuda")(HERE),
        lambda there: nn.Linear(3, 2)(there),
        lambda there: HERE[(there[:, 0] > 1).nonzero()[:, 0]],
        lambda there: there.index_put_((torch.tensor([0]),), HERE[:1]),
        lambda there: torch.randn(2, generator=torch.Generator(), device="cuda"),
        lambda there: there.numpy(),
        lambda there: np.asarray(there),
        lambda there: setattr(nn.Parameter(HERE), "grad", there),
    ],
)
def test_a_mistake_is_an_error(mistake: Callable[[Tensor], object]) -> None:
    with pretended_gpu() as gpu, pytest.raises((RuntimeError, TypeError), match=r"device|cuda"):
        mistake(HERE.to(gpu))


def test_what_a_gpu_allows() -> None:
    with pretended_gpu() as gpu:
        there = HERE.to(gpu)
        assert there.is_cuda
        assert there.device == gpu
        assert not HERE.is_cuda
        assert torch.equal((there * torch.tensor(2.0) + 1).cpu(), HERE * 2 + 1)  # a single number may stay behind
        assert there[torch.tensor([1])].is_cuda
        assert HERE[there[0, 0].long()].device.type == "cpu"
        there[:, 0] = torch.zeros(2)  # a copy
        assert torch.zeros(2, 3).copy_(there).device.type == "cpu"
        assert torch.full((2,), 1.0, device=gpu).is_cuda
        assert all(row.is_cuda for row in there)
        assert there.max(0).indices.is_cuda
        assert there.tolist()[1] == [0.0, 4.0, 5.0]
        assert not torch.from_numpy(there.cpu().numpy()).is_cuda
    assert HERE[0, 0] == 0  # moving made a copy
    assert not torch.cuda.is_available() or torch.version.cuda


def test_networks_and_optimisers_live_there() -> None:
    with pretended_gpu() as gpu:
        network = nn.Linear(3, 2)
        weight = network.weight
        network.to(gpu)
        assert network.weight is weight  # an optimiser made before still has it
        assert copy.deepcopy(network).half().weight.is_cuda
        network(HERE.to(gpu)).sum().backward()
        assert weight.grad is not None
        assert weight.grad.is_cuda
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser = torch.optim.AdamW(network.parameters(), lr=0.1)
        before = weight.detach().cpu()
        optimiser.step()
        assert not torch.equal(weight.cpu(), before)
        assert all(state["exp_avg"].is_cuda for state in optimiser.state.values())
        assert not network.to("cpu").weight.is_cuda
    assert not on_gpu(network.weight)
